"""A catalog on SQLite for a test that asks for nothing else of its database."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import Engine

from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate


def migrated_catalog(path: Path) -> Engine:
    """Return an engine of a new file at ``path``, as migrating it would leave it: a copy of one that was migrated."""
    with path.open("xb") as file:
        file.write(_migrated())
    return create_catalog_engine(f"sqlite:///{path}")


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog.db")
        engine = create_catalog_engine(f"sqlite:///{path}")
        migrate(engine)
        engine.dispose()
        return path.read_bytes()
