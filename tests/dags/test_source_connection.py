"""Originals in one account, proxies in another: each side is reached through a connection of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.catalog.records import NewImage, Outcome
from tests.aws_server import aws_client, aws_server, make_bucket
from tests.dags.conftest import Deployment, photograph


def test_originals_and_proxies_may_lie_in_different_accounts(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with aws_server() as url:
        bucket = make_bucket(url, "us-east-1")  # a server that knows nothing of the other one's bucket
        for name, width in (("large.jpg", 1400), ("small.jpg", 640)):
            path = photograph(tmp_path / name, width, 1000 if width > 1000 else 480)
            aws_client("s3", url).upload_file(str(path), bucket, f"in/{name}")
            size = path.stat().st_size
            uri = f"s3://{bucket}/in/{name}"
            deployment.catalog.register([NewImage(uri, name, "image/jpeg", size, "etag:1", datetime.now(UTC))])
        archive = {
            "conn_type": "aws",
            "login": "archive-reader",
            "password": "secret",
            "extra": {
                "region_name": "us-east-1",
                "service_config": {"s3": {"endpoint_url": url}},
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        }
        monkeypatch.setenv("AIRFLOW_CONN_ARCHIVE", json.dumps(archive))
        monkeypatch.setenv("IMAGE_PROXY_SOURCE_AWS_CONN_ID", "archive")
        assert deployment.run() == "success"
    images = deployment.images()
    assert {image.outcome for image in images.values()} == {Outcome.ANALYSED}
    assert {name: image.action for name, image in images.items()} == {"large.jpg": "resized", "small.jpg": "kept"}
    assert len(deployment.objects()) == 2, "Nova reads both with the connection that writes proxies"
