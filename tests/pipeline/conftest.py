"""A stage on real ground: catalog on SQLite, S3 on SeaweedFS, the Nova stand-in; no Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.catalog.catalog import Catalog
from include.catalog.records import ImageReport, NewImage
from include.local.registration import register_folders
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, proxy_options
from include.pipeline.proxies import ProxyStage
from include.pipeline.settings import load_settings
from tests.catalog.conftest import databases, empty_engine, kind
from tests.catalog.migrated import migrated_catalog

__all__ = ["databases", "empty_engine", "kind"]


@dataclass
class Ground:
    """One run over the pictures of a folder."""

    catalog: Catalog
    s3: Any
    bucket: str
    pictures: Path
    run_id: str = ""

    def plan(self, name: str = "run", **conf: Any) -> int:
        """Register what is in the folder and plan a run of one batch; return the batch's id."""
        self.register()
        identity = RunIdentity("dag", name)
        self.run_id = identity.run_id
        params, settings = parse_params(conf), load_settings(bucket=self.bucket)
        plan = plan_run(self.catalog, identity, params, settings, Window(), nova_endpoint="stand-in", max_batches=1)
        return plan.batches[0].batch_id

    def register(self) -> None:
        """Register what is in the folder."""
        register_folders(self.catalog, [self.pictures], datetime.now(UTC))

    def register_object(self, key: str, media_type: str = "image/jpeg") -> None:
        """Register an object of the bucket as an original."""
        size = self.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        uri = f"s3://{self.bucket}/{key}"
        image = NewImage(uri, key.rpartition("/")[2], media_type, size, f"etag:{key}", datetime.now(UTC))
        self.catalog.register([image])

    def stage(self, **settings: Any) -> ProxyStage:
        params = parse_params(self.catalog.run_params(self.run_id))
        temp_dir = self.pictures.parent
        return ProxyStage(
            self.catalog,
            self.s3,
            load_settings(bucket=self.bucket, temp_dir=temp_dir, workers=2, **settings),
            proxy_options(params),
        )

    def make_proxies(self, *, conf: dict[str, Any] | None = None, **settings: Any) -> dict[str, ImageReport]:
        """Plan and run the proxy stage; return the images by file name."""
        batch = self.plan(stages=["proxy"], **(conf or {}))
        self.stage(**settings).run(self.run_id, batch)
        return self.images()

    def make_proxies_of_what_is_registered(self, name: str = "run", **settings: Any) -> dict[str, ImageReport]:
        """Plan and run the proxy stage without registering anything; return the images by file name."""
        identity = RunIdentity("dag", name)
        self.run_id = identity.run_id
        params, ours = parse_params({"stages": ["proxy"]}), load_settings(bucket=self.bucket)
        plan = plan_run(self.catalog, identity, params, ours, Window(), nova_endpoint=None, max_batches=1)
        self.stage(**settings).run(self.run_id, plan.batches[0].batch_id)
        return self.images()

    def images(self) -> dict[str, ImageReport]:
        return {image.filename: image for image in self.catalog.run_images(self.run_id)}

    def objects(self) -> list[str]:
        """Keys of everything but the previews."""
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [one["Key"] for one in found if not one["Key"].startswith("proxy_preview/")]

    def uri(self, name: str) -> str:
        current = self.catalog.current(self.images()[name].file_id)
        assert current is not None
        return str(current["proxy_uri"])


@pytest.fixture
def ground(tmp_path: Path, s3: Any, bucket: str) -> Iterator[Ground]:
    engine = migrated_catalog(tmp_path / "catalog.db")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    yield Ground(Catalog(engine), s3, bucket, pictures)
    engine.dispose()
