"""Which table of the team's is to stand in for `files`, and which of its columns are which: a TOML file, checked."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from include.catalog.errors import CatalogError
from include.catalog.tables import files

_MUST_BE_COLUMNS: Final = ("id", "uri", "uploaded_at")
_REQUIRED: Final = (*_MUST_BE_COLUMNS, "media_type", "size_bytes", "content_version")


class InvalidMapping(CatalogError):
    """The mapping does not fit: the file is wrong, or the table lacks a column that it names."""

    code = "invalid_table_mapping"


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """Where a column of `files` comes from: a column of the table (behind a prefix), or one value for all rows."""

    column: str | None = None
    prefix: str = ""
    value: str | int | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they were given."""
        if self.column is None:
            return {"value": self.value}
        return {"column": self.column, **({"prefix": self.prefix} if self.prefix else {})}


@dataclass(frozen=True, slots=True)
class TableMapping:
    """A table, or a view, and what its columns are to us."""

    table: str  # name or schema.name
    columns: Mapping[str, ColumnSource]

    @property
    def place(self) -> tuple[str | None, str]:
        """Schema and name."""
        schema, _, name = self.table.rpartition(".")
        return schema or None, name

    def as_json(self) -> dict[str, Any]:
        """Plain values, to be stored."""
        return {"table": self.table, "columns": {name: source.as_json() for name, source in self.columns.items()}}


def read_mapping(path: Path) -> TableMapping:
    """The mapping in a TOML file. Raises `InvalidMapping`, naming what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidMapping(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidMapping(f"{path}: {error}") from error
    return parse_mapping(data, str(path))


def parse_mapping(data: Mapping[str, Any], where: str) -> TableMapping:
    """The mapping in plain values. Raises `InvalidMapping`."""
    columns = data.get("columns")
    if not isinstance(data.get("table"), str) or not isinstance(columns, Mapping) or set(data) - {"table", "columns"}:
        raise InvalidMapping(f'{where}: expected table = "name" and a section [columns], and nothing else')
    known = [column.name for column in files.c]
    for name in columns:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise InvalidMapping(f"{where}: columns.{name} is no column of files; {hint(close, known)}")
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise InvalidMapping(
            f"{where}: columns.{missing[0]} is missing: name the column of {data['table']} that has it"
        )
    sources = {name: _source(name, value, where) for name, value in columns.items()}
    return TableMapping(data["table"], sources)


def hint(close: list[str], names: Iterable[str]) -> str:
    """What to type in place of a name that there is not."""
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def _source(name: str, value: Any, where: str) -> ColumnSource:
    given = {"column": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not _fits(name, given):
        raise InvalidMapping(f"{where}: columns.{name} takes {_takes(name)}, not {value!r}")
    return ColumnSource(given.get("column"), given.get("prefix", ""), given.get("value"))


def _fits(name: str, given: Mapping[str, Any]) -> bool:
    kind = files.c[name].type.python_type
    if set(given) == {"value"}:
        return name not in _MUST_BE_COLUMNS and type(given["value"]) is kind
    texts = all(isinstance(text, str) for text in given.values())
    return texts and (set(given) == {"column"} or (set(given) == {"column", "prefix"} and kind is str))


def _takes(name: str) -> str:
    kind = files.c[name].type.python_type
    ways = ['"column"']
    if kind is str:
        ways.append('{ column = "…", prefix = "…" }')
    if name not in _MUST_BE_COLUMNS:
        ways.append({str: '{ value = "…" }', int: "{ value = 0 }", bool: "{ value = false }"}[kind])
    return " or ".join(ways)
