"""Engines that many processes and threads write through at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import PurePath
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from include.catalog.errors import UnsuitableDatabase

BUSY_TIMEOUT_MS = 30_000
# How long PostgreSQL lets an open transaction of ours wait for its next statement, before it ends the session and with
# it the locks of a worker that is frozen (a virtual machine that hangs). Statements and waits for locks do not count;
# between statements our writers need milliseconds. Below two thirds of the default lease, which is what a lease has
# left at least: so the locks on a frozen worker's images end before its lease does, and nobody waits for them longer.
IDLE_TRANSACTION_MS = 60_000
WAL_PAUSE_SECONDS = 0.01
READ_ONLY = {"catalog_read_only": True}  # execution options of a connection that only reads


def create_catalog_engine(url: str | URL) -> Engine:
    """An engine for the catalog at `url` (`sqlite:////absolute/path.db` or `postgresql://...`), already prepared.

    Raises `UnsuitableDatabase`. Nothing is connected yet.
    """
    try:
        address = make_url(url)
        if address.drivername in ("postgres", "postgresql"):
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError(f"{address.get_backend_name()} is no kind of catalog")
        engine = create_engine(address, pool_pre_ping=address.get_backend_name() != "sqlite")
    except (ArgumentError, ImportError, ValueError) as error:  # no address, a port that is no number, a driver missing
        raise UnsuitableDatabase(f"{error}; the catalog is SQLite or PostgreSQL") from error
    return prepare(engine)


def prepare(engine: Engine) -> Engine:
    """Makes any engine (also one from an Airflow connection) fit for concurrent writers; safe to call twice."""
    _refuse_unshared(engine.url)
    engine.hide_parameters = True  # an error goes to the task's log, and what it could not write may be an answer
    if engine.dialect.name == "sqlite" and not event.contains(engine, "connect", _configure_sqlite):
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        engine.dispose()  # connections opened before now know nothing of the settings
    if engine.dialect.name == "postgresql" and not event.contains(engine, "connect", _configure_postgresql):
        event.listen(engine, "connect", _configure_postgresql)
        engine.dispose()
    return engine


def _refuse_unshared(url: URL) -> None:
    if url.get_backend_name() != "sqlite":
        return
    path = (url.database or "").removeprefix("file:")
    if path in ("", ":memory:") or url.query.get("mode") == "memory":
        raise UnsuitableDatabase("the catalog cannot live in memory: every process would see another one; use a file")
    if not PurePath(path).is_absolute():
        raise UnsuitableDatabase(
            f"the SQLite catalog path {path!r} is relative, so each process would look in its own working directory; "
            "use an absolute one: sqlite:////absolute/path/to/catalog.db (four slashes)"
        )


def _configure_sqlite(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None  # the driver must not begin by itself, see _begin_sqlite
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _keep_a_write_ahead_log(cursor)
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _configure_postgresql(dbapi_connection: Any, _record: Any) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TRANSACTION_MS}")
    cursor.close()
    dbapi_connection.commit()  # what is set in a transaction that is rolled back is not set


def _keep_a_write_ahead_log(cursor: Any) -> None:
    """Switches the file once, for good. Of two that switch a new file at the same moment one is told "database is
    locked" at once, for SQLite does not wait here whatever the timeout; it tries again, and finds the switch done."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WAL_PAUSE_SECONDS)


def _begin_sqlite(connection: Connection) -> None:
    """Takes the write lock at the start. A transaction that reads first and then writes cannot wait for it: SQLite
    answers "database is locked" at once, whatever the timeout."""
    reads = connection.get_execution_options().get("catalog_read_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
