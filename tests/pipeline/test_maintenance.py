"""Catalog and bucket brought back into agreement, and what is never touched on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from include.catalog.browse_records import NewPreview
from include.catalog.catalog import Catalog
from include.catalog.records import NewImage, Selection, Stage
from include.pipeline.maintenance import Maintenance, is_own_object, side_by_side
from include.pipeline.maintenance_params import MaintenanceParams, parse_maintenance_params
from include.pipeline.params import InvalidParams
from include.pipeline.settings import load_settings
from include.storage.errors import SourceError
from tests.catalog.making import KEY, PROXY, Worker, kept, new_proxy, plan, process

FOLDER = "0123456789ab-0123456789ab"
LATER = timedelta(days=40)  # longer than every grace here


class Clock:
    """Ahead of S3's, so that objects made by a test are as old as it wants."""

    def __init__(self) -> None:
        self.ahead = LATER

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Yard:
    """A catalog with images and a bucket with proxies."""

    catalog: Catalog
    engine: Engine
    s3: Any
    bucket: str
    folder: Path
    clock: Clock
    sources: tuple[str, ...] = ()

    def maintain(self, step: str, **params: Any) -> dict[str, int]:
        settings = load_settings(bucket=self.bucket, temp_dir=self.folder, ingest_sources=self.sources)
        counts: dict[str, int] = getattr(
            Maintenance(self.catalog, self.s3, settings, MaintenanceParams(**params)), step
        )()
        return counts

    def images(self, *names: str) -> list[int]:
        """Images with their originals in the bucket, outside the proxies' prefix."""
        for name in names:
            self.s3.put_object(Bucket=self.bucket, Key=f"in/{name}.jpg", Body=b"original")
        now = datetime.now(UTC)
        self.catalog.register(
            [NewImage(f"s3://{self.bucket}/in/{name}.jpg", f"{name}.jpg", "image/jpeg", 8, "c1", now) for name in names]
        )
        return [self.rows("SELECT id FROM files WHERE filename = :name", name=f"{name}.jpg")[0][0] for name in names]

    def key(self, file_id: int, folder: str = FOLDER) -> str:
        return f"proxy_image/{folder}/x_{file_id}_nova.jpg"

    def proxy(self, run: str, *file_ids: int, folder: str = FOLDER, **changes: Any) -> None:
        """A run that makes the proxies of these images, with their objects."""
        self.catalog.store_plan(plan(run, file_ids, stages={PROXY}, **changes))
        worker = Worker(self.catalog, run, PROXY)
        for file_id in worker.held:
            key = self.key(file_id, folder)
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"proxy")
            worker.proxy(file_id, new_proxy(uri=f"s3://{self.bucket}/{key}"))

    def preview(self, file_id: int, content_version: str = "c1") -> str:
        """The preview of an image's content, with its object; returns the key."""
        key = f"proxy_preview/800-{content_version * 6}/x_{file_id}_preview.jpg"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"preview")
        made = NewPreview(f"s3://{self.bucket}/{key}", "jpeg", 800, 600, 7)
        self.catalog.record_preview(file_id, content_version, made)
        return key

    def objects(self) -> set[str]:
        return {found["Key"] for found in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])}

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def pending(self) -> list[int]:
        wanted = Selection(KEY, frozenset({Stage.PROXY}), "dag/looking")
        return [image.file_id for image in self.catalog.select_unprocessed(wanted)]


@pytest.fixture
def yard(empty_engine: Engine, s3: Any, bucket: str, tmp_path: Path) -> Iterator[Yard]:
    from include.catalog.migrate import migrate

    migrate(empty_engine)
    clock = Clock()
    yield Yard(Catalog(empty_engine, clock=clock), empty_engine, s3, bucket, tmp_path, clock)


def test_a_proxy_that_is_missing_is_made_again_by_the_next_run(yard: Yard) -> None:
    one, two = yard.images("one", "two")
    yard.proxy("first", one, two)
    assert yard.pending() == []
    yard.s3.delete_object(Bucket=yard.bucket, Key=yard.key(one))
    assert yard.maintain("bucket")["missing"] == 1
    assert yard.pending() == []  # a dry run
    counts = yard.maintain("bucket", dry_run=False)
    assert (counts["objects"], counts["recorded"], counts["missing"]) == (1, 2, 1)
    assert yard.pending() == [one]
    yard.proxy("second", one)
    assert yard.maintain("bucket", dry_run=False)["missing"] == 0
    assert yard.pending() == []


def test_an_original_that_is_kept_where_it_lies_is_not_called_missing(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.catalog.store_plan(plan("first", [one], stages={PROXY}))
    Worker(yard.catalog, "first", PROXY).proxy(one, kept(uri=f"s3://{yard.bucket}/in/one.jpg"))
    assert yard.maintain("bucket", dry_run=False)["recorded"] == 0


def test_objects_without_a_row_are_reported_and_deleted_only_when_asked(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.proxy("first", one)
    strange = yard.key(999)
    others = ("proxy_image/batch/jobs.jsonl", "proxy_image/readme.txt", "proxy_image_2/x_1_nova.jpg")
    for key in (strange, *others):
        yard.s3.put_object(Bucket=yard.bucket, Key=key, Body=b"x")
    before = yard.objects()
    for params in ({}, {"dry_run": False}, {"delete_unknown_objects": True}):
        counts = yard.maintain("bucket", **params)
        assert (counts["unknown"], counts["unknown_deleted"], counts["others"]) == (1, 0, 2), params
        assert yard.objects() == before
    assert yard.maintain("bucket", dry_run=False, delete_unknown_objects=True)["unknown_deleted"] == 1
    assert yard.objects() == before - {strange}


def test_an_object_whose_row_may_be_on_its_way_is_left_alone(yard: Yard) -> None:
    yard.clock.ahead = timedelta(hours=23)
    yard.s3.put_object(Bucket=yard.bucket, Key=yard.key(999), Body=b"x")
    counts = yard.maintain("bucket", dry_run=False, delete_unknown_objects=True)
    assert (counts["unknown"], counts["young"], len(yard.objects())) == (0, 1, 1)
    yard.clock.ahead = timedelta(hours=25)
    assert yard.maintain("bucket", dry_run=False, delete_unknown_objects=True)["unknown_deleted"] == 1


def test_many_objects_are_compared_in_pages(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.pipeline.maintenance._PAGE", 2)
    monkeypatch.setattr("include.catalog.maintenance.PAGE", 2)
    file_ids = yard.images(*(f"{n:02}" for n in range(9)))
    yard.proxy("first", *file_ids)
    for file_id in file_ids[::2]:
        yard.s3.delete_object(Bucket=yard.bucket, Key=yard.key(file_id))
    for number in range(5):
        yard.s3.put_object(Bucket=yard.bucket, Key=yard.key(1000 + number), Body=b"x")
    counts = yard.maintain("bucket", dry_run=False, delete_unknown_objects=True)
    assert (counts["missing"], counts["unknown_deleted"]) == (5, 5)
    assert set(yard.pending()) == set(file_ids[::2])


def test_expired_leases_are_removed_and_living_ones_are_not(yard: Yard) -> None:
    one, two = yard.images("one", "two")
    yard.catalog.store_plan(plan("killed", [one], stages={PROXY}))
    Worker(yard.catalog, "killed", PROXY)
    yard.clock.ahead += timedelta(hours=2)
    yard.catalog.store_plan(plan("alive", [two], stages={PROXY}))
    Worker(yard.catalog, "alive", PROXY)
    assert yard.maintain("leases") == {"expired_leases": 1}
    assert yard.maintain("leases", dry_run=False) == {"expired_leases": 1}
    assert [row.file_id for row in yard.rows("SELECT file_id FROM image_claims")] == [two]


def test_originals_that_are_gone_are_noted_and_forgotten_when_they_come_back(yard: Yard) -> None:
    one, two = yard.images("a-b/one", "a/two")  # S3 and a file system order these differently
    yard.sources = (f"s3://{yard.bucket}/in/",)
    yard.s3.delete_object(Bucket=yard.bucket, Key="in/a/two.jpg")
    counts = yard.maintain("sources", dry_run=False)
    assert (counts["images"], counts["vanished"], counts["noted"]) == (2, 1, 0)  # only reported
    assert yard.maintain("sources", dry_run=False, mark_vanished=True)["noted"] == 1
    assert yard.maintain("sources", dry_run=False, mark_vanished=True)["noted"] == 0
    assert [row.file_id for row in yard.rows("SELECT file_id FROM image_vanished")] == [two]
    yard.s3.put_object(Bucket=yard.bucket, Key="in/a/two.jpg", Body=b"original")
    assert yard.maintain("sources", dry_run=False, mark_vanished=True)["there_again"] == 1
    assert yard.rows("SELECT file_id FROM image_vanished") == []
    assert one


def test_a_folder_that_is_not_mounted_has_not_lost_its_pictures(yard: Yard) -> None:
    folder = yard.folder / "pictures"
    folder.mkdir()
    (folder / "here.jpg").write_bytes(b"x")
    now = datetime.now(UTC)
    names = ("here.jpg", "gone.jpg")
    yard.catalog.register([NewImage((folder / n).as_uri(), n, "image/jpeg", 1, "c", now) for n in names])
    yard.sources = (str(folder),)
    assert yard.maintain("sources")["vanished"] == 1
    folder.rename(yard.folder / "elsewhere")
    with pytest.raises(SourceError):
        yard.maintain("sources", dry_run=False, mark_vanished=True)
    assert yard.rows("SELECT * FROM image_vanished") == []


def test_old_versions_go_after_their_time_and_what_is_current_stays(yard: Yard) -> None:
    [one] = yard.images("one")
    uri = f"s3://{yard.bucket}/in/one.jpg"
    process(yard.catalog, "words", one)
    yard.proxy("first", one, force=True)
    yard.catalog.register([NewImage(uri, "one.jpg", "image/jpeg", 8, "c2", datetime.now(UTC))])
    yard.proxy("second", one, folder="0123456789ab-ffffffffffff")
    assert yard.maintain("retention", dry_run=False) == {"of_other_content": 0}
    assert yard.maintain("retention", dry_run=False, retention_days=30).get("old_proxies", 0) == 0
    yard.clock.ahead += timedelta(days=31)
    before = yard.objects()
    assert yard.maintain("retention", retention_days=30)["old_proxies"] == 2
    assert yard.objects() == before
    counts = yard.maintain("retention", dry_run=False, retention_days=30)
    assert (counts["old_proxies"], counts["old_analyses"], counts["objects_deleted"]) == (2, 1, 1)
    assert before - yard.objects() == {yard.key(one)}
    assert len(yard.rows("SELECT * FROM image_proxies")) == 1
    assert yard.rows("SELECT uri FROM files WHERE is_proxy AND uri LIKE '%0123456789ab-0123456789ab%'") == []
    assert yard.catalog.current(one)["proxy_uri"].endswith(yard.key(one, "0123456789ab-ffffffffffff"))  # type: ignore[index]
    assert len(yard.rows("SELECT * FROM image_attempts WHERE called")) == 1  # what was paid stays


def test_previews_go_with_the_last_that_was_made_of_their_content(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.proxy("first", one)
    old = yard.preview(one)
    uri = f"s3://{yard.bucket}/in/one.jpg"
    yard.catalog.register([NewImage(uri, "one.jpg", "image/jpeg", 8, "c2", datetime.now(UTC))])
    yard.preview(one, "c2")
    assert "old_previews" not in yard.maintain("retention", dry_run=False, retention_days=30)
    yard.clock.ahead += timedelta(days=31)
    before = yard.objects()
    assert yard.maintain("retention", retention_days=30)["old_previews"] == 1
    assert yard.objects() == before
    assert yard.maintain("retention", dry_run=False, retention_days=30)["old_previews"] == 1
    assert before - yard.objects() == {yard.key(one), old}
    assert [row.content_version for row in yard.rows("SELECT content_version FROM image_previews")] == ["c2"]


def test_an_object_that_a_newer_row_has_too_is_not_deleted_with_the_old_one(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.proxy("first", one)
    yard.proxy("again", one, force=True)
    yard.clock.ahead += timedelta(days=31)
    counts = yard.maintain("retention", dry_run=False, retention_days=30)
    assert (counts["old_proxies"], counts["objects_deleted"]) == (1, 0)
    assert yard.key(one) in yard.objects()
    assert len(yard.rows("SELECT * FROM files WHERE is_proxy")) == 1


def test_what_was_written_for_former_content_while_it_changed_is_superseded(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.catalog.store_plan(plan("first", [one], stages={PROXY}))
    worker = Worker(yard.catalog, "first", PROXY)
    uri = f"s3://{yard.bucket}/in/one.jpg"
    yard.catalog.register([NewImage(uri, "one.jpg", "image/jpeg", 8, "c2", datetime.now(UTC))])
    worker.proxy(one)
    assert yard.maintain("retention") == {"of_other_content": 1}
    assert yard.maintain("retention", dry_run=False) == {"of_other_content": 1}
    assert yard.maintain("retention", dry_run=False) == {"of_other_content": 0}


def test_forgetting_an_image_takes_all_that_was_made_of_it_and_leaves_its_original(yard: Yard) -> None:
    one, two = yard.images("one", "two")
    process(yard.catalog, "words", one, two)
    yard.proxy("first", one, two, force=True)
    previews = {yard.preview(one), yard.preview(one, "c0")}
    yard.preview(two)
    before = yard.objects()
    counts = yard.maintain("deletion", file_ids_to_delete=(one,))
    assert (counts["images"], counts["proxies"], counts["previews"], counts["analyses"]) == (1, 2, 2, 1)
    assert (yard.objects(), yard.catalog.image(one) is not None) == (before, True)  # listed, not done
    counts = yard.maintain("deletion", file_ids_to_delete=(one,), dry_run=False)
    assert counts["objects_deleted"] == 3
    assert before - yard.objects() == {yard.key(one), *previews}
    assert yard.catalog.image(one) is None
    for table in ("image_proxies", "image_analyses", "image_previews"):
        assert {row.file_id for row in yard.rows(f"SELECT file_id FROM {table}")} == {two}  # noqa: S608
    assert {row.source_file_id for row in yard.rows("SELECT source_file_id FROM files WHERE is_proxy")} == {two}


def test_an_image_that_a_run_is_working_on_is_not_forgotten(yard: Yard) -> None:
    [one] = yard.images("one")
    yard.proxy("first", one)
    [proxy_id] = [row.id for row in yard.rows("SELECT id FROM files WHERE is_proxy")]
    yard.catalog.store_plan(plan("running", [one], stages={PROXY}, force=True))
    Worker(yard.catalog, "running", PROXY)
    counts = yard.maintain("deletion", file_ids_to_delete=(one, proxy_id), dry_run=False)
    assert (counts["images"], counts["refused"]) == (0, 2)
    assert yard.catalog.image(one) is not None


def test_only_keys_of_our_own_form_are_ours() -> None:
    settings = load_settings(bucket="b", prefix="p")
    assert is_own_object(f"s3://b/p/{FOLDER}/a.b_1_nova.jpg", settings)
    for uri in (
        f"s3://c/p/{FOLDER}/a_1_nova.jpg", f"s3://b/q/{FOLDER}/a_1_nova.jpg", f"s3://b/p/{FOLDER}/a_1.jpg",
        "s3://b/p/a_1_nova.jpg", f"s3://b/p/{FOLDER}/x/a_1_nova.jpg", "file:///b/p",
    ):  # fmt: skip
        assert not is_own_object(uri, settings), uri


def test_two_streams_side_by_side() -> None:
    left, right = [("a", 1), ("c", 2), ("d", 3)], [("b", 4), ("c", 5), ("e", 6)]
    assert list(side_by_side(left, right)) == [
        ("a", 1, None), ("b", None, 4), ("c", 2, 5), ("d", 3, None), ("e", None, 6),
    ]  # fmt: skip
    assert list(side_by_side([], right)) == [(key, None, value) for key, value in right]
    assert list(side_by_side(left, [])) == [(key, value, None) for key, value in left]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"dryrun": False}, "unknown param 'dryrun': did you mean dry_run?"),
        ({"dry_run": "no"}, "dry_run: 'no' is not of type 'boolean'; type true or false"),
        ({"retention_days": 0}, "retention_days: 0 is less than the minimum of 1"),
        ({"retention_days": 10**12}, "type a whole number from 1 to 36500"),
        ({"grace_hours": 10**12}, "type a whole number from 1 to 8760"),
        ({"file_ids_to_delete": [2**63]}, "whole numbers above 0, for example"),
        ({"file_ids_to_delete": ["1"]}, "file_ids_to_delete: '1' is not of type 'integer'"),
    ],
)
def test_wrong_params_are_refused_before_anything_is_done(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParams, match=said.replace("?", r"\?")):
        parse_maintenance_params(conf)
    assert parse_maintenance_params({}).dry_run
    [file_id] = parse_maintenance_params({"file_ids_to_delete": [1.0]}).file_ids_to_delete
    assert type(file_id) is int
