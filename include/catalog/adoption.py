"""A table of the team's in place of `files`.

`files` then *is* a view of that table, made once by the migration, and every query of this package reads it without
knowing. Our own table waits under another name, empty. Nothing is ever written to the team's table: the view refuses
it, and proxies then have no row of their own in `files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, TextClause, delete, exists, insert, select, text
from sqlalchemy.schema import CreateView

from include.catalog.engine import READ_ONLY, prepare
from include.catalog.errors import CatalogError
from include.catalog.mapped_columns import view_of
from include.catalog.mapping import InvalidMapping, TableMapping, parse_mapping, read_mapping
from include.catalog.schema_version import has_table
from include.catalog.tables import files, image_proxies, image_table_mapping

OWN_FILES: Final = "image_own_files"  # our table while another stands in for it


class MappingNotApplied(CatalogError):
    """The setting and the database do not agree on which table stands in for `files`."""

    code = "table_mapping_not_applied"


class TableIsMapped(CatalogError):
    """`files` is a table of the team's: images are registered there, by the team."""

    code = "table_is_mapped"

    def __init__(self) -> None:
        super().__init__("files is mapped to a table of yours, which is only read: add images there")


def require_mapping(engine: Engine, path: Path | None) -> None:
    """Raises `InvalidMapping` when a mapped column is gone, `MappingNotApplied` when setting and database disagree."""
    wanted = read_mapping(path) if path else None
    with prepare(engine).connect().execution_options(**READ_ONLY) as connection:
        stored = applied_mapping(connection)
        if wanted:
            view_of(connection, wanted)
    if wanted == stored:
        return
    url = engine.url.render_as_string(hide_password=True)
    if wanted is None:
        name = stored.table if stored else ""
        raise MappingNotApplied(f"the catalog at {url} stands on the table {name}: set IMAGE_PROXY_TABLE_MAPPING")
    raise MappingNotApplied(
        f"{path} is not what the catalog at {url} stands on: run "
        f"python -m include.catalog.migrate {url} --table-mapping {path}"
    )


def applied_mapping(connection: Connection) -> TableMapping | None:
    """The mapping that is in force; None where `files` is our own, or nothing was migrated yet."""
    if not has_table(connection, image_table_mapping.name):
        return None
    stored = connection.scalar(select(image_table_mapping.c.mapping))
    return None if stored is None else parse_mapping(stored, "the catalog")


def apply_mapping(connection: Connection, mapping: TableMapping, now: datetime | None = None) -> None:
    """Put the team's table in place of `files`. The connection is in a transaction that the caller ends.

    Raises `InvalidMapping`, also for a catalog that holds files of its own: their ids would mean other images.
    """
    view = view_of(connection, mapping)
    if connection.scalar(select(exists(select(files.c.id)))):
        raise InvalidMapping(f"the catalog holds files of its own: map {mapping.table} in a new catalog")
    with _views_made_anew(connection):
        connection.execute(text(f"ALTER TABLE files RENAME TO {OWN_FILES}"))
        connection.execute(CreateView(view, "files"))
    _refuse_writes(connection)
    stored = {"id": 1, "mapping": mapping.as_json(), "applied_at": now or datetime.now(UTC)}
    connection.execute(insert(image_table_mapping).values(stored))


def remove_mapping(connection: Connection) -> TableMapping | None:
    """Put our own table back, and return the mapping that was in force. The team's table is left as it is."""
    mapping = applied_mapping(connection)
    if mapping is None:
        return None
    with _views_made_anew(connection):
        connection.execute(text("DROP VIEW files"))
        connection.execute(text(f"ALTER TABLE {OWN_FILES} RENAME TO files"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP FUNCTION image_proxy_refuse_writes()"))
    connection.execute(delete(image_table_mapping))
    return mapping


def check_change(connection: Connection, before: TableMapping | None, after: TableMapping | None) -> None:
    """Raises `InvalidMapping` when another table is to take the place of one that work was done on."""
    if before is None or (after is not None and after.table == before.table):
        return
    if connection.scalar(select(exists(select(image_proxies.c.id)))):
        raise InvalidMapping(f"work was done on the images of {before.table}: map another table in a new catalog")


# -- the views -------------------------------------------------------------------------------------------------------

_DEPENDENTS: Final = """
WITH RECURSIVE dependent(oid, depth) AS (
    SELECT rewrite.ev_class, 1 FROM pg_depend depends JOIN pg_rewrite rewrite ON rewrite.oid = depends.objid
    WHERE depends.refobjid = to_regclass('files') AND depends.classid = 'pg_rewrite'::regclass
      AND rewrite.ev_class <> to_regclass('files')
    UNION
    SELECT rewrite.ev_class, dependent.depth + 1 FROM dependent
    JOIN pg_depend depends ON depends.refobjid = dependent.oid AND depends.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite rewrite ON rewrite.oid = depends.objid AND rewrite.ev_class <> dependent.oid
)
SELECT oid::regclass::text, 'CREATE VIEW ' || oid::regclass::text || ' AS ' || pg_get_viewdef(oid)
FROM dependent GROUP BY oid ORDER BY max(depth)
"""


@contextmanager
def _views_made_anew(connection: Connection) -> Iterator[None]:
    """Drop the views that read `files`, and make them again from the same words at the end of the block.

    A view is bound to the table that it was made on, whatever that one is called later.
    """
    views = list(_views(connection))
    for name, _ in reversed(views):
        connection.execute(_sql(f"DROP VIEW {name}"))
    yield
    for _, definition in views:
        connection.execute(_sql(definition))


def _sql(words: str) -> TextClause:
    """SQL as it is: no word in it is a parameter."""
    return text(words.replace(":", "\\:"))


def _views(connection: Connection) -> Iterator[tuple[str, str]]:
    """Name and definition of every view that reads `files`, those that others read first."""
    if connection.dialect.name == "postgresql":
        yield from (tuple(row) for row in connection.execute(_sql(_DEPENDENTS)))
        return
    # All of them: SQLite renames no table while any view reads, even through others, what is not there.
    found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid"))
    yield from ((f'"{row.name}"', row.sql) for row in found if row.name != "files")


def _refuse_writes(connection: Connection) -> None:
    """PostgreSQL would pass writes to a simple view on to its table; SQLite never does."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(
        _sql(
            "CREATE FUNCTION image_proxy_refuse_writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'files is mapped to a table that is only read'; END $$"
        )
    )
    connection.execute(
        _sql(
            "CREATE TRIGGER files_are_only_read INSTEAD OF INSERT OR UPDATE OR DELETE ON files "
            "FOR EACH ROW EXECUTE FUNCTION image_proxy_refuse_writes()"
        )
    )
