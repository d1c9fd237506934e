"""A whole deployment for DAG tests: catalog, S3, the Nova stand-in; the DAG runs in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.catalog.catalog import Catalog
from include.catalog.records import ImageReport
from include.local.nova_stand_in import NovaStandIn
from include.local.registration import register_folders
from include.local.seaweedfs import SeaweedFS
from include.pipeline.summary import report_of
from include.savings import RunReport
from tests.catalog.migrated import migrated_catalog
from tests.dags.running import load_dag, run_dag
from tests.imaging.pictures import noise

DAG_ID = "image_proxy_pipeline"


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's own database, in the folder that `tests/conftest.py` chose before Airflow was imported."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, env=os.environ)


@pytest.fixture(scope="session")
def pipeline_dag() -> Any:
    return load_dag(DAG_ID)


@dataclass
class Deployment:
    """What a test turns and looks at."""

    catalog: Catalog
    pictures: Path
    s3: Any
    bucket: str
    stand_in: NovaStandIn
    slots: int = 4
    run_ids: list[str] = field(default_factory=list)

    def register(self) -> None:
        register_folders(self.catalog, [self.pictures], datetime.now(UTC))

    def run(self, **conf: Any) -> str:
        """Run the DAG as a person does by hand; return the run's state."""
        self.register()
        dag = load_dag(DAG_ID)
        dag.get_task("images.analyse").pool_slots = self.slots
        state = run_dag(dag, conf).state
        latest = self.catalog.latest_run_id(DAG_ID)
        if latest is not None and latest not in self.run_ids:
            self.run_ids.append(latest)
        return str(state)

    def images(self) -> dict[str, ImageReport]:
        """Return the last run's images by file name."""
        return {image.filename: image for image in self.catalog.run_images(self.run_ids[-1])}

    def report(self) -> RunReport:
        return report_of(self.catalog, self.run_ids[-1])

    def objects(self) -> list[str]:
        """Keys of everything but the previews."""
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [one["Key"] for one in found if not one["Key"].startswith("proxy_preview/")]


@pytest.fixture
def deployment(
    airflow_database: None,
    tmp_path: Path,
    seaweedfs: SeaweedFS,
    s3: Any,
    bucket: str,
    stand_in: NovaStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Deployment]:
    engine = migrated_catalog(tmp_path / "catalog.db")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    aws = {
        "conn_type": "aws",
        "login": seaweedfs.credentials.access_key,
        "password": seaweedfs.credentials.secret_key,
        "extra": {
            "region_name": "us-east-1",
            "service_config": {
                "s3": {"endpoint_url": seaweedfs.endpoint_url},
                "bedrock-runtime": {"endpoint_url": stand_in.url},
                "bedrock": {"endpoint_url": stand_in.url},
            },
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv(
        "AIRFLOW_CONN_CATALOG_DEFAULT", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "catalog.db")})
    )
    monkeypatch.setenv("IMAGE_PROXY_BUCKET", bucket)
    monkeypatch.setenv("IMAGE_PROXY_TEMP_DIR", str(tmp_path))
    yield Deployment(Catalog(engine), pictures, s3, bucket, stand_in)
    engine.dispose()


def photograph(path: Path, width: int, height: int) -> Path:
    """Save a smooth picture that compresses like a photograph, at a quality that leaves room to save."""
    gradient = Image.radial_gradient("L").resize((width, height))
    grain = noise(width, height, 24)
    Image.merge("RGB", (gradient, grain, Image.linear_gradient("L").resize((width, height)))).save(path, quality=95)
    return path
