"""Whether a catalog's tables are those that this code expects: asked by each task, and so without Alembic's import."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, column, select, table, text

from include.catalog.engine import READ_ONLY, prepare
from include.catalog.errors import NotMigrated

VERSION_TABLE: Final = "image_proxy_alembic_version"
MIGRATIONS: Final = Path(__file__).parent / "migrations"
_HAS_TABLE: Final = {
    "postgresql": "SELECT to_regclass(:name)",
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name",
}
_VERSION: Final = table(VERSION_TABLE, column("version_num"))


def known_revisions() -> list[str]:
    """All revisions of this code, the oldest first: a migration's file is named after its revision."""
    return sorted(path.stem[1:5] for path in (MIGRATIONS / "versions").glob("v[0-9]*.py"))


def is_migrated(engine: Engine) -> bool:
    """Whether the tables are those that this code expects."""
    with prepare(engine).connect().execution_options(**READ_ONLY) as connection:
        return revisions_of(connection) == set(known_revisions()[-1:])


def require_migrated(engine: Engine) -> None:
    """Raises `NotMigrated`, with the command to type, unless the tables are those that this code expects."""
    shown = _shown(engine)
    if not _is_there(engine):
        raise NotMigrated(f"there is no catalog at {shown}; python -m include.catalog.migrate {shown} makes one")
    if not is_migrated(engine):
        with engine.connect().execution_options(**READ_ONLY) as connection:
            refuse_newer(connection)
        raise NotMigrated(f"the catalog at {shown} is not migrated: run python -m include.catalog.migrate {shown}")


def refuse_newer(connection: Connection) -> None:
    """Raises `NotMigrated` for a revision that is not known: nothing goes on from there."""
    if unknown := revisions_of(connection) - set(known_revisions()):
        raise NotMigrated(
            f"the catalog at {_shown(connection.engine)} was migrated by a newer version of this package "
            f"(revision {', '.join(sorted(unknown))}): take that version"
        )


def revisions_of(connection: Connection) -> set[str]:
    """The revision of a catalog's tables; none before the first migration."""
    if not has_table(connection, VERSION_TABLE):
        return set()
    return set(connection.scalars(select(_VERSION.c.version_num)))


def has_table(connection: Connection, name: str) -> bool:
    """Whether the database has this table. SQLAlchemy's inspector takes 10 ms to put the same question."""
    return connection.scalar(text(_HAS_TABLE[connection.dialect.name]), {"name": name}) is not None


def _is_there(engine: Engine) -> bool:
    """False where a SQLite catalog's folder exists and its file does not: to connect would make an empty one."""
    if engine.dialect.name != "sqlite":
        return True
    path = Path((engine.url.database or "").removeprefix("file:"))
    return path.exists() or not path.parent.is_dir()


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
