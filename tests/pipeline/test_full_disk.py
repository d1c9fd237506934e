"""A scratch disk that fills in the middle of a batch: nothing is lost, and no image is to blame for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.catalog.catalog import Catalog
from include.catalog.records import Outcome
from include.imaging import ProxyOptions
from include.pipeline.proxies import NotEnoughDisk, ProxyStage
from include.pipeline.settings import load_settings
from include.storage.errors import StorageUnavailable
from tests.catalog.making import PROXY, image, listed, plan
from tests.catalog.migrated import migrated_catalog
from tests.imaging.disks import grow, small_disk
from tests.imaging.pictures import photo, saved

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Stands until it is moved."""

    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(tmp_path: Path, clock: Clock) -> Iterator[Catalog]:
    engine = migrated_catalog(tmp_path / "catalog.db")
    yield Catalog(engine, clock)
    engine.dispose()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "scratch", 128) as folder:
        yield folder


def _stage(catalog: Catalog, s3: Any, bucket: str, disk: Path, **settings: Any) -> ProxyStage:
    stated = {
        "bucket": bucket,
        "temp_dir": disk,
        "min_free_bytes": 0,
        "workers": 2,
        "keep_original": "never",
    } | settings
    return ProxyStage(catalog, s3, load_settings(**stated), ProxyOptions())


def _run(stage: ProxyStage, name: str) -> dict[Outcome, int]:
    ids = listed(stage.catalog, run_id=f"dag/{name}", stages={PROXY})
    stage.catalog.store_plan(plan(name, ids, stages={PROXY}))
    return dict(stage.run(f"dag/{name}", 0))


def _register(catalog: Catalog, *uris: str) -> None:
    catalog.register([image(f"{n}", uri=uri) for n, uri in enumerate(uris)])


def test_proxies_that_do_not_fit_are_made_by_a_later_run(
    tmp_path: Path, catalog: Catalog, clock: Clock, s3: Any, bucket: str, disk: Path
) -> None:
    large = [saved(tmp_path / f"large {n}.jpg", photo(2000, 1500)).as_uri() for n in range(3)]
    _register(catalog, *large)
    stage = _stage(catalog, s3, bucket, disk)
    assert _run(stage, "full") == {Outcome.FAILED: 3}
    failures = catalog.run_failures("dag/full")
    assert {failure.code for failure in failures} == {"disk_full"}
    assert list(disk.iterdir()) == []
    grow(disk, 65_536)
    clock.now += timedelta(days=1)
    assert _run(stage, "later") == {Outcome.PROXIED: 3}
    assert list(disk.iterdir()) == []
    assert s3.list_objects_v2(Bucket=bucket, Prefix="proxy_image/")["KeyCount"] == 3


def test_originals_that_do_not_fit_fail_the_task_and_stay_pending(
    tmp_path: Path, catalog: Catalog, s3: Any, bucket: str, disk: Path
) -> None:
    saved(tmp_path / "large.jpg", photo(2000, 1500))
    s3.upload_file(str(tmp_path / "large.jpg"), bucket, "large.jpg")
    _register(catalog, f"s3://{bucket}/large.jpg")
    stage = _stage(catalog, s3, bucket, disk)
    with pytest.raises(StorageUnavailable, match="space"):
        _run(stage, "full")
    assert list(disk.iterdir()) == []
    assert catalog.run_failures("dag/full") == []
    catalog.release_run("dag/full")
    grow(disk, 65_536)
    assert _run(_stage(catalog, s3, bucket, disk), "later") == {Outcome.PROXIED: 1}


def test_a_batch_does_not_begin_on_a_disk_that_is_nearly_full(
    catalog: Catalog, s3: Any, bucket: str, disk: Path
) -> None:
    with pytest.raises(NotEnoughDisk, match="IMAGE_PROXY_TEMP_DIR"):
        _stage(catalog, s3, bucket, disk, min_free_bytes=1024**2).run("dag/none", 0)
