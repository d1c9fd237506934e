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
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from include.catalog.adoption import apply_mapping, check_change, remove_mapping
from include.catalog.engine import READ_ONLY, create_catalog_engine, prepare
from include.catalog.errors import CatalogError, NotMigrated
from include.catalog.mapping import TableMapping, read_mapping
from include.catalog.tables import metadata

VERSION_TABLE = "image_proxy_alembic_version"
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 4_281_930_517  # any fixed number: names our advisory lock on PostgreSQL


def migrate(engine: Engine, revision: str = "head", mapping: TableMapping | None = None) -> None:
    """Upgrades to `revision` in one transaction. Two processes at once are fine: the second waits, finds it done.

    With `mapping`, a table of the team's stands in for `files` afterwards; without, one that does goes on doing so.
    Raises `InvalidMapping`, or `NotMigrated` for a newer package's catalog, and has changed nothing then.
    """
    with prepare(engine).begin() as connection:
        _only_one(connection)
        _refuse_newer(connection)
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


def is_migrated(engine: Engine) -> bool:
    """Whether the tables are those that this code expects."""
    with prepare(engine).connect().execution_options(**READ_ONLY) as connection:
        return _revisions(connection) == set(ScriptDirectory(str(_MIGRATIONS)).get_heads())


def require_migrated(engine: Engine) -> None:
    """Raises `NotMigrated`, with the command to type, unless the tables are those that this code expects."""
    shown = _shown(engine)
    if not _is_there(engine):
        raise NotMigrated(f"there is no catalog at {shown}; python -m include.catalog.migrate {shown} makes one")
    if not is_migrated(engine):
        with engine.connect().execution_options(**READ_ONLY) as connection:
            _refuse_newer(connection)
        raise NotMigrated(f"the catalog at {shown} is not migrated: run python -m include.catalog.migrate {shown}")


def ours(name: str | None, type_: str, _parents: MutableMapping[Any, Any]) -> bool:
    """Alembic's `include_name`: compare our tables only."""
    return type_ != "table" or name in metadata.tables


def _is_there(engine: Engine) -> bool:
    """False where a SQLite catalog's folder exists and its file does not: to connect would make an empty one."""
    if engine.dialect.name != "sqlite":
        return True
    path = Path((engine.url.database or "").removeprefix("file:"))
    return path.exists() or not path.parent.is_dir()


def _refuse_newer(connection: Connection) -> None:
    """Alembic cannot go on from a revision that it does not know."""
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    if unknown := _revisions(connection) - known:
        raise NotMigrated(
            f"the catalog at {_shown(connection.engine)} was migrated by a newer version of this package "
            f"(revision {', '.join(sorted(unknown))}): take that version"
        )


def _revisions(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads())


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
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
