"""Bring a catalog's tables up to date: `migrate(engine)`, or `python -m include.catalog.migrate URL`.

The history has a version table of its own, so the catalog may live in a database that others migrate too; their tables
are neither read nor changed.
"""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from include.catalog.adoption import apply_mapping, check_change, remove_mapping
from include.catalog.engine import create_catalog_engine, prepare
from include.catalog.errors import CatalogError
from include.catalog.mapping import TableMapping, read_mapping
from include.catalog.schema_version import MIGRATIONS, refuse_newer
from include.catalog.tables import metadata

_LOCK = 4_281_930_517  # any fixed number: names our advisory lock on PostgreSQL


def migrate(engine: Engine, revision: str = "head", mapping: TableMapping | None = None) -> None:
    """Upgrades to `revision` in one transaction. Two processes at once are fine: the second waits, finds it done.

    With `mapping`, a table of the team's stands in for `files` afterwards; without, one that does goes on doing so.
    Raises `InvalidMapping`, or `NotMigrated` for a newer package's catalog, and has changed nothing then.
    """
    with prepare(engine).begin() as connection:
        _only_one(connection)
        refuse_newer(connection)
        before = remove_mapping(connection)  # migrations change our own table
        command.upgrade(_config(connection), revision)
        check_change(connection, before, mapping or before)
        if wanted := mapping or before:
            apply_mapping(connection, wanted)


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Back to `revision`; "base" removes our tables with all they hold."""
    with prepare(engine).begin() as connection:
        _only_one(connection)
        remove_mapping(connection)
        command.downgrade(_config(connection), revision)


def ours(name: str | None, type_: str, _parents: MutableMapping[Any, Any]) -> bool:
    """Alembic's `include_name`: compare our tables only."""
    return type_ != "table" or name in metadata.tables


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _only_one(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite holds its write lock from BEGIN IMMEDIATE on
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m include.catalog.migrate", description=migrate.__doc__)
    parser.add_argument("url", help="sqlite:////absolute/path.db or postgresql://user:password@host/database")
    parser.add_argument("--table-mapping", type=Path, help="TOML file that maps a table of yours in place of `files`")
    given = parser.parse_args()
    try:
        engine = create_catalog_engine(given.url)
        migrate(engine, mapping=read_mapping(given.table_mapping) if given.table_mapping else None)
    except (CatalogError, SQLAlchemyError) as error:
        parser.error(str(error))
    engine.dispose()


if __name__ == "__main__":
    main()
