"""Plan, proxies and analysis on a team's own table, with other names, on real S3 and the Nova stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import Engine, text

from include.catalog.adoption import TableIsMapped
from include.catalog.catalog import Catalog
from include.catalog.mapping import read_mapping
from include.catalog.migrate import migrate
from include.local.nova_stand_in import NovaStandIn
from include.nova import client_config
from include.pipeline.analysis import AnalysisStage
from include.pipeline.gate import check_run
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.ingest import ingest_source
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, proxy_options
from include.pipeline.proxies import ProxyStage
from include.pipeline.settings import load_settings
from include.pipeline.summary import summarise
from include.storage.listings import parse_source
from tests.dags.conftest import photograph

MAPPING = """
table = "assets"
[columns]
id = "asset_id"
uri = { column = "path", prefix = "file://" }
media_type = "mime"
size_bytes = "length"
content_version = "revision"
uploaded_at = "added"
"""


def nova_client(stand_in: NovaStandIn) -> Any:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
    return boto3.client("bedrock-runtime", endpoint_url=stand_in.url, config=Config(**client_config()), **keys)


def test_every_stage_works_on_it(
    empty_engine: Engine, s3: Any, bucket: str, stand_in: NovaStandIn, tmp_path: Path
) -> None:
    small = photograph(tmp_path / "one.jpg", 1400, 1000)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with empty_engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE assets (asset_id INTEGER PRIMARY KEY, path TEXT, mime TEXT, length INTEGER, "
                "revision INTEGER, added TIMESTAMP)"
            )
        )
        for number, path in enumerate((small, tmp_path / "broken.jpg", tmp_path / "film.mp4"), 71):
            kind = "video/mp4" if path.suffix == ".mp4" else "image/jpeg"
            connection.execute(
                text("INSERT INTO assets VALUES (:id, :path, :kind, 1000, 1, '2026-11-01 12:00:00')"),
                {"id": number, "path": str(path), "kind": kind},
            )
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    migrate(empty_engine, mapping=read_mapping(mapping))

    catalog = Catalog(empty_engine)
    params, settings = parse_params({}), load_settings(bucket=bucket, temp_dir=tmp_path, workers=1)
    identity = RunIdentity("dag", "run")
    plan = plan_run(catalog, identity, params, settings, Window(), nova_endpoint="stand-in", max_batches=1)
    [batch] = plan.batches
    assert batch.size == 2
    ProxyStage(catalog, s3, settings, proxy_options(params)).run(identity.run_id, batch.batch_id)
    AnalysisStage(catalog, nova_client(stand_in), s3, settings, params, 1).run(identity.run_id, batch.batch_id)

    report = summarise(catalog, identity.run_id)
    assert report is not None
    assert (report.proxies_created, report.analyses_written, report.failed) == (1, 1, 1)
    check_run(catalog, identity.run_id, 0.5)
    current = catalog.current(71)
    assert current is not None and current["description"]
    [found] = s3.list_objects_v2(Bucket=bucket, Prefix="proxy_image/")["Contents"]
    assert found["Key"].endswith("/one_71_nova.jpg") and current["proxy_uri"] == f"s3://{bucket}/{found['Key']}"
    again = plan_run(
        catalog, RunIdentity("dag", "2"), params, settings, Window(), nova_endpoint="stand-in", max_batches=1
    )
    assert again.batches == ()
    with pytest.raises(TableIsMapped, match="add images there"):
        ingest_source(catalog, None, settings, parse_source(str(tmp_path)))
