"""One database, one clock, and the few SQL forms that every part of the catalog uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, wraps
from typing import ParamSpec, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    any_,
    exists,
    false,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from include.catalog.columns import Clock
from include.catalog.engine import IDLE_TRANSACTION_MS, READ_ONLY, prepare
from include.catalog.records import SourceImage, WorkKey
from include.catalog.tables import files, image_analyses, image_proxies, image_table_mapping

log = logging.getLogger(__name__)

CHUNK = 1000  # rows or ids in one statement, far below both databases' limits on parameters
TRIES = 3
DEADLOCK = "40P01"  # PostgreSQL's code for the one that it chose of those who waited in a circle

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Where a transaction starts. Writers commit at the end of the block or leave nothing."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = prepare(engine)
        self._clock = clock

    def now(self) -> datetime:
        """The moment, by the injected clock."""
        return self._clock()

    @cached_property
    def mapped(self) -> bool:
        """Whether a table of the team's stands in for `files`, which is only read then."""
        with self.reading() as connection:
            return bool(connection.scalar(select(exists(select(image_table_mapping.c.id)))))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and so waits for nobody."""
        with self._engine.connect().execution_options(**READ_ONLY) as connection:
            yield connection

    @contextmanager
    def streaming(self) -> Iterator[Connection]:
        """A transaction that only reads, and may take its time between two pages: its reader works on what it has."""
        with self.reading() as connection:
            let_idle(connection)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction whose every statement reads the same state of the database. It may take its time between two:
        what the first found may be a whole catalog."""
        # SQLite's read transactions are that by themselves.
        level = {"isolation_level": "REPEATABLE READ"} if self._engine.dialect.name == "postgresql" else {}
        with self._engine.connect().execution_options(**READ_ONLY, **level) as connection:
            let_idle(connection)
            yield connection


def persist(write: Callable[[bool], T]) -> T:
    """`write(False)`; and `write(True)` when the session broke off under it: what it wrote may be there, or may not.
    Also when it was undone to end a deadlock.

    A worker that was frozen in the middle of a transaction finds its session ended when it goes on (see engine.py). It
    may be about to write an answer that is paid for: left to the task's retry, that would be asked for and paid again.
    Who has the image by now is looked up by the new try, as by anyone who comes late. A database that is away is not
    waited for.

    A deadlock is what locks of others can lead to: our own are taken in one order (see claims.py), a team's own DELETE
    of several images has any. Registration and most of maintenance lock rows of many images in the order in which they
    find them, and are not wrapped in this: there it is the task that is tried again.
    """
    for number in range(TRIES - 1):
        try:
            return write(number > 0)
        except DBAPIError as error:
            if not (error.connection_invalidated or getattr(error.orig, "sqlstate", None) == DEADLOCK):
                raise
            log.warning("the database undid a transaction, which is tried again: %s", error.orig)
    return write(True)


def tried_again(write: Callable[P, T]) -> Callable[P, T]:
    """`persist` for what may be written twice: the second finds the image decided, or sets what is set already."""

    @wraps(write)
    def trying(*args: P.args, **kwargs: P.kwargs) -> T:
        return persist(lambda _again: write(*args, **kwargs))

    return trying


def let_idle(connection: Connection, seconds: float | None = None) -> None:
    """Sets a shorter bound than engine.py's for this transaction, of a second at least; None lifts it, for one that
    only reads and so has no locks that writers wait for."""
    if connection.dialect.name == "postgresql":
        bound = 0 if seconds is None else min(IDLE_TRANSACTION_MS, max(1000, int(seconds * 1000)))
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {bound}")


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that takes ON CONFLICT: both databases write it alike, SQLAlchemy has one for each."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """`values` in pieces."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def among(connection: Connection, column: ColumnElement[int], ids: Sequence[int]) -> ColumnElement[bool]:
    """Whether `column` is one of `ids`. On PostgreSQL one parameter: a thousand take longer to bind than to look up."""
    if connection.dialect.name == "postgresql":
        return column == any_(literal(list(ids), postgresql.ARRAY(BigInteger)))
    return column.in_(ids)


def is_source() -> ColumnElement[bool]:
    """A row of `files` that is an image of the team's, not a proxy of ours, a video or a document."""
    return and_(files.c.is_proxy == false(), files.c.media_type.like("image/%"))


def proxy_key(file_id: ColumnElement[int], content: ColumnElement[str], key: WorkKey) -> ColumnElement[bool]:
    """Rows of `image_proxies` for this image, content and recipe, current or not."""
    p = image_proxies.c
    return and_(p.file_id == file_id, p.content_version == content, p.recipe_version == key.recipe_version)


def analysis_key(file_id: ColumnElement[int], content: ColumnElement[str], key: WorkKey) -> ColumnElement[bool]:
    """Rows of `image_analyses` for this image, content, recipe, model and prompt, current or not."""
    a = image_analyses.c
    return and_(
        a.file_id == file_id,
        a.content_version == content,
        a.recipe_version == key.recipe_version,
        a.model_id == key.model_id,
        a.prompt_version == key.prompt_version,
    )


SOURCE_COLUMNS = (
    files.c.id.label("file_id"),
    files.c.uri,
    files.c.filename,
    files.c.media_type,
    files.c.size_bytes,
    files.c.content_version,
    files.c.format,
    files.c.resolution_width,
    files.c.resolution_height,
    files.c.uploaded_at,
)  # in the order of SourceImage's fields


def source_image(row: Sequence[object]) -> SourceImage:
    """The record of a row that starts with SOURCE_COLUMNS."""
    return SourceImage(*row[: len(SOURCE_COLUMNS)])  # type: ignore[arg-type]
