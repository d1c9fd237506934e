"""One line a check: green with what it found, red with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import Engine, text

from include.catalog.engine import create_catalog_engine
from include.local.nova_stand_in import Forced, NovaStandIn, StandInSettings
from include.nova import client_config
from include.pipeline.check_params import CHECKS
from include.pipeline.deployment_check import CheckFailed, DeploymentCheck, memory_bytes
from include.pipeline.params import DEFAULT_MODEL_ID
from include.pipeline.settings import load_settings
from tests.catalog.migrated import migrated_catalog


@dataclass
class Deployed:
    """A deployment in which a test breaks one thing."""

    engine: Engine
    s3: Any
    nova_url: str
    settings: dict[str, Any]
    model_id: str = DEFAULT_MODEL_ID
    versions: dict[str, str] = field(default_factory=lambda: {"apache-airflow": "3.3.2"})

    def run(self, check: str) -> str:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        config = Config(**client_config())
        return DeploymentCheck(
            settings=load_settings(**self.settings),
            connections=lambda: "catalog_default (sqlite), aws_default (aws)",
            engine=lambda: self.engine,
            s3=lambda: self.s3,
            nova=lambda: boto3.client("bedrock-runtime", endpoint_url=self.nova_url, config=config, **keys),
            model_id=self.model_id,
            versions=self.versions,
        ).run(check)

    def red(self, check: str) -> str:
        with pytest.raises(CheckFailed) as failed:
            self.run(check)
        return str(failed.value)


@pytest.fixture
def deployed(s3: Any, bucket: str, stand_in: NovaStandIn, tmp_path: Path) -> Iterator[Deployed]:
    engine = migrated_catalog(tmp_path / "catalog.db")
    yield Deployed(engine, s3, stand_in.url, {"bucket": bucket, "temp_dir": tmp_path, "workers": 1})
    engine.dispose()


def test_everything_is_green_and_nothing_is_left_behind(deployed: Deployed) -> None:
    lines = {check: deployed.run(check) for check in CHECKS}
    assert lines["catalog"].startswith("migrated, at sqlite:///")
    assert "written and read back, and deleted" in lines["bucket"]
    assert lines["nova"] == f"{DEFAULT_MODEL_ID} answered: the stand-in's, not Amazon Nova's; nothing was paid"
    assert "apache-airflow 3.3.2" in lines["versions"] and "webp" in lines["versions"]
    bucket = deployed.settings["bucket"]
    assert deployed.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_missing_bucket_is_red_and_named(deployed: Deployed) -> None:
    deployed.settings["bucket"] = "no-such-bucket-here"
    assert "no-such-bucket-here" in deployed.red("bucket")
    deployed.settings["bucket"] = None
    assert "IMAGE_PROXY_BUCKET is not set" in deployed.red("settings")


def test_a_bucket_that_may_not_be_deleted_from_is_green_with_a_note(deployed: Deployed) -> None:
    class NoDelete:
        def __init__(self, client: Any) -> None:
            self._client = client

        def delete_object(self, **request: Any) -> None:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

    deployed.s3 = NoDelete(deployed.s3)
    assert "may not delete: allow s3:DeleteObject" in deployed.run("bucket")


def test_a_catalog_that_is_away_or_behind_is_red(deployed: Deployed, tmp_path: Path) -> None:
    with deployed.engine.begin() as connection:
        connection.execute(text("UPDATE image_proxy_alembic_version SET version_num = '0001'"))
    assert "or run this DAG with migrate_catalog" in deployed.red("catalog")
    deployed.engine = create_catalog_engine(f"sqlite:///{tmp_path}/nowhere/catalog.db")
    assert "IMAGE_PROXY_CATALOG_CONN_ID" in deployed.red("catalog")


def test_a_profile_that_cannot_be_used_says_what_is_missing(deployed: Deployed, s3: Any) -> None:
    deployed.model_id = "us.amazon.nova-9-huge-v1:0"
    assert "nova: " in deployed.red("nova")
    deployed.model_id = DEFAULT_MODEL_ID
    denied = StandInSettings(forced=(Forced(error="AccessDeniedException"),))
    with NovaStandIn(denied, s3) as server:
        deployed.nova_url = server.url
        assert "bedrock:InvokeModel" in deployed.red("nova")
    deployed.nova_url = "http://127.0.0.1:1"
    assert deployed.red("nova").startswith("nova: connection_failed")
    assert deployed.s3.list_objects_v2(Bucket=deployed.settings["bucket"])["KeyCount"] == 0


def test_a_machine_that_is_too_small_is_red(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_bytes() > 0
    deployed.settings["min_free_bytes"] = 1 << 60
    assert "set IMAGE_PROXY_TEMP_DIR" in deployed.red("machine")
    deployed.settings |= {"min_free_bytes": 0, "workers": 8}
    monkeypatch.setattr("include.pipeline.deployment_check.memory_bytes", lambda: 5 * 1024**3)
    assert "IMAGE_PROXY_WORKERS=2 is safe" in deployed.run("machine")
    monkeypatch.setattr("include.pipeline.deployment_check.memory_bytes", lambda: 1024**3)
    assert "IMAGE_PROXY_DECODE_MEMORY_BYTES" in deployed.red("machine")


def test_a_missing_codec_is_red(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.imaging.codecs.features.check", lambda name: name != "avif")
    assert "no codec for avif" in deployed.red("versions")


def test_a_scratch_folder_that_cannot_be_written_to_is_red(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    deployed.settings["temp_dir"] = tmp_path / "file"
    assert "set IMAGE_PROXY_TEMP_DIR" in deployed.red("settings")
