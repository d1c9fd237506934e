"""Savepoints on SQLite: on Python's own connections their first write is refused, on ours it is not."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from include.local import sqlite
from include.local.airflow import AirflowHome
from include.local.sqlite import CONNECT_ARGS

# The class of the connections on which Airflow's own sessions work.
CONNECTION = """
from airflow import settings
settings.initialize()
print("CONNECTION", type(settings.engine.raw_connection().dbapi_connection).__name__)
"""
LOCKED = pytest.raises(OperationalError, match="database is locked")


def engine(path: Path, *, ours: bool = True, seconds: float = 30) -> Engine:
    """``seconds``: how long it waits for another writer."""
    arguments = dict(CONNECT_ARGS) if ours else {}
    return create_engine(f"sqlite:///{path}?timeout={seconds}", connect_args=arguments, poolclass=NullPool)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as Airflow sets up its own, with a table of runs."""
    made = tmp_path / "airflow.db"
    with engine(made).begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("CREATE TABLE runs (id INTEGER)")
    return made


def add(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO runs VALUES (1)")


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one())


def test_a_laptops_airflow_works_on_our_connections(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONNECTION],
        env=AirflowHome(tmp_path).environment({}, "bucket"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CONNECTION AirflowConnection" in done.stdout.splitlines(), done.stdout + done.stderr


def test_pythons_own_connection_is_refused_when_somebody_wrote_since_it_read(path: Path) -> None:
    """If this fails, `include.local.sqlite` is no longer needed."""
    with engine(path, ours=False).connect() as connection, connection.begin_nested():
        assert count(connection) == 0
        with engine(path, ours=False).begin() as other:
            add(other)
        with LOCKED:
            add(connection)


def test_in_a_savepoint_nobody_else_writes_between_reading_and_writing(path: Path) -> None:
    with engine(path).connect() as connection:
        with connection.begin_nested():
            assert count(connection) == 0
            with engine(path, seconds=0).connect() as other, LOCKED:
                add(other)
            add(connection)
        connection.commit()
    with engine(path).begin() as other:
        add(other)
        assert count(other) == 2


def test_nobody_sees_what_a_savepoint_wrote_before_all_is_committed(path: Path) -> None:
    """A scheduler would start the first runs of a backfill that is taken back afterwards."""
    with engine(path).connect() as connection, engine(path).connect() as other:
        for _ in range(2):
            with connection.begin_nested():
                add(connection)
        assert count(other) == 0
        connection.rollback()
        assert count(other) == 0


def test_a_savepoint_that_is_rolled_back_leaves_the_rest(path: Path) -> None:
    with engine(path).connect() as connection:
        add(connection)
        with connection.begin_nested() as savepoint:
            add(connection)
            savepoint.rollback()
        connection.commit()
        assert count(connection) == 1


def test_an_event_loop_is_held_up_for_a_moment_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the write lock may need the loop to give it back."""
    monkeypatch.setattr(sqlite, "ON_LOOP_MS", 10)
    day = 86400

    async def write_on_the_loop() -> None:
        with engine(path, seconds=day).connect() as connection:
            with LOCKED:
                add(connection)
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10
            raw = connection.connection.dbapi_connection
            assert raw is not None
            plain = sqlite3.Cursor(cast(sqlite3.Connection, raw))
            assert plain.execute("PRAGMA busy_timeout").fetchone() == (day * 1000,), "elsewhere it waits as ever"

    with engine(path).connect() as holder:
        add(holder)
        asyncio.run(write_on_the_loop())
        holder.commit()
    with engine(path).connect() as connection:
        assert count(connection) == 1
