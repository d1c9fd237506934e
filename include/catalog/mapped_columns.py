"""The columns of `files`, made from those of a table of the team's."""

from __future__ import annotations

import difflib
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    Select,
    String,
    Text,
    and_,
    cast,
    func,
    inspect,
    literal_column,
    null,
    select,
    table,
)
from sqlalchemy import column as sql_column
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType

from include.catalog.mapping import InvalidMapping, TableMapping, hint
from include.catalog.tables import files


def view_of(connection: Connection, mapping: TableMapping) -> Select[Any]:
    """The SELECT that gives the table the columns of `files`. Raises `InvalidMapping`, naming the missing column."""
    types = _types(connection, mapping)
    schema, name = mapping.place
    found = table(name, *(sql_column(column, kind) for column, kind in types.items()), schema=schema)
    for ours, source in mapping.columns.items():
        if source.column is not None and source.column not in types:
            close = difflib.get_close_matches(source.column, types, n=1)
            raise InvalidMapping(
                f"columns.{ours}: the table {mapping.table} has no column {source.column!r}; {hint(close, types)}"
            )
        if source.column is not None:
            _require_kind(ours, mapping, source.column, types[source.column])
    id_source, time_source = mapping.columns["id"], mapping.columns["uploaded_at"]
    if not isinstance(types[str(id_source.column)], Integer):
        kind = types[str(id_source.column)]
        raise InvalidMapping(
            f"columns.id: {mapping.table}.{id_source.column} is {kind}, and ids are whole numbers here"
        )
    uploaded_at = _time(connection, found.c[str(time_source.column)], mapping)
    columns = [_column(ours.name, mapping, found, uploaded_at).label(ours.name) for ours in files.c]
    needed = and_(*(found.c[str(mapping.columns[ours].column)].is_not(None) for ours in ("id", "uri")))
    return select(*columns).where(needed, uploaded_at.is_not(None))


def _require_kind(ours: str, mapping: TableMapping, theirs: str, kind: Any) -> None:
    """Raises `InvalidMapping` for what the work would stumble over later: a text is no number, and no yes or no."""
    wanted, what = files.c[ours].type, ""
    if isinstance(wanted, Integer) and not isinstance(kind, (Integer, Numeric, Float, NullType)):
        what = "a number"
    if isinstance(wanted, Boolean) and not isinstance(kind, (Boolean, Integer, NullType)):
        what = "true or false"
    if what and ours != "id":  # which is asked for a whole number
        raise InvalidMapping(f"columns.{ours}: {mapping.table}.{theirs} is {kind}, and {ours} is {what} here")


def _types(connection: Connection, mapping: TableMapping) -> dict[str, Any]:
    schema, name = mapping.place
    if name == files.name and schema in (None, inspect(connection).default_schema_name):
        raise InvalidMapping(
            f"{mapping.table} is the catalog's own name: on PostgreSQL give the catalog a schema of its own and map "
            f"schema.{name}, on SQLite call your table something else"
        )
    try:
        found = inspect(connection).get_columns(name, schema=schema)
    except NoSuchTableError as error:
        raise InvalidMapping(f"there is no table or view {mapping.table} in the catalog's database") from error
    return {column["name"]: column["type"] for column in found}


def _column(name: str, mapping: TableMapping, found: Any, uploaded_at: ColumnElement[Any]) -> ColumnElement[Any]:
    """One column of `files`. Ids and times stay bare columns where they can, so that the table's own indexes serve."""
    source = mapping.columns.get(name)
    if name == "uploaded_at":
        return uploaded_at
    if source is None:
        return _absent(name, mapping, found)
    if source.column is None:
        return _constant(source.value)
    value = _in_our_kind(name, found.c[source.column])
    if source.prefix:
        value = literal_column(_quoted(source.prefix), Text) + cast(value, Text)
    return _without_nulls(name, value, found.c[str(mapping.columns["uri"].column)])


def _in_our_kind(name: str, theirs: ColumnElement[Any]) -> ColumnElement[Any]:
    """Bare where it is of our kind already. An enumeration is no text to PostgreSQL, and 4000.5 is no width."""
    wanted, kind = files.c[name].type, theirs.type
    if isinstance(wanted, Integer) and not isinstance(kind, Integer):
        return cast(theirs, BigInteger)
    if isinstance(wanted, Boolean) and isinstance(kind, Integer):
        return theirs != literal_column("0", Integer)
    if isinstance(wanted, String) and (isinstance(kind, Enum) or not isinstance(kind, String)):
        return cast(theirs, Text)
    return theirs


def _without_nulls(name: str, value: ColumnElement[Any], uri: ColumnElement[Any]) -> ColumnElement[Any]:
    """The columns that the work takes for granted."""
    made = {
        "media_type": func.lower(value),  # it is compared in lower case
        "content_version": func.coalesce(cast(value, Text), literal_column("''", Text)),  # null equals nothing at all
        "size_bytes": func.coalesce(value, literal_column("0", Integer)),
        "filename": func.coalesce(value, uri),
        "is_proxy": func.coalesce(cast(value, Boolean), literal_column("false", Boolean)),
    }
    return made.get(name, value)


def _absent(name: str, mapping: TableMapping, found: Any) -> ColumnElement[Any]:
    if name == "filename":  # the work takes the last part of it
        return cast(found.c[str(mapping.columns["uri"].column)], Text)
    if name == "is_proxy":
        return literal_column("false", Boolean)
    if name == "format":
        return cast(null(), Text)
    return cast(null(), BigInteger if name == "source_file_id" else Integer)


def _constant(value: str | int | None) -> ColumnElement[Any]:
    if isinstance(value, bool):
        return literal_column(str(value).lower(), Boolean)
    if isinstance(value, int):
        return literal_column(str(value), BigInteger)
    return cast(literal_column(_quoted(str(value)), Text), Text)


def _quoted(value: str) -> str:
    escaped = value.replace("'", "''")
    return f"'{escaped}'"


def _time(connection: Connection, column: ColumnElement[Any], mapping: TableMapping) -> ColumnElement[Any]:
    """The upload time as our columns have it. Times without a zone are taken for UTC."""
    kind = column.type
    if connection.dialect.name == "sqlite":
        # SQLite compares times as text, so they must all be written alike: to the millisecond, and six digits.
        unix = ", 'unixepoch'" if isinstance(kind, Integer) else ""
        name = connection.dialect.identifier_preparer.quote(str(column.name))
        return literal_column(f"strftime('%Y-%m-%d %H:%M:%f000', {name}{unix})", DateTime)
    if isinstance(kind, DateTime):
        return column if kind.timezone else func.timezone(literal_column("'UTC'", String), column)
    if isinstance(kind, Date):
        return func.timezone(literal_column("'UTC'", String), cast(column, DateTime))
    raise InvalidMapping(f"columns.uploaded_at: {mapping.table}.{column.name} is {kind}, and no time")
