"""A stand-in over real HTTP, with its pictures on a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.local.nova_stand_in import NovaStandIn, StandInSettings
from include.local.seaweedfs import SeaweedFS
from tests.local.nova_stand_in.calls import BUCKET, pictures


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    folder = tmp_path_factory.mktemp("s3")
    with SeaweedFS(folder / "data", folder / "log") as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        for key, body in pictures().items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        yield server


@pytest.fixture(scope="module")
def pooled(s3: SeaweedFS) -> Any:
    return s3.client(max_pool_connections=32)


@pytest.fixture
def stand_in(pooled: Any, tmp_path: Path) -> Iterator[NovaStandIn]:
    with NovaStandIn(StandInSettings(log_path=tmp_path / "calls.jsonl"), pooled) as running:
        yield running
