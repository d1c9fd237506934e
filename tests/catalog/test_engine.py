"""Many writers at once, and addresses that cannot work."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from include.catalog.engine import READ_ONLY, create_catalog_engine, prepare
from include.catalog.errors import UnsuitableDatabase
from include.catalog.tables import files, image_runs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("url", ["sqlite:///var/catalog.db", "sqlite:///file:var/catalog.db?uri=true"])
def test_a_relative_path_is_refused_with_what_to_type(url: str) -> None:
    with pytest.raises(UnsuitableDatabase, match=r"absolute.*sqlite:////") as caught:
        create_catalog_engine(url)
    assert caught.value.code == "catalog_database_unsuitable"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:/x?mode=memory&uri=true"])
def test_a_catalog_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UnsuitableDatabase, match="memory"):
        prepare(create_engine(url, poolclass=NullPool))


def test_postgresql_is_spoken_to_through_psycopg_3() -> None:
    for url in ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"):
        assert create_catalog_engine(url).dialect.driver == "psycopg"


def test_an_error_does_not_tell_what_was_to_be_written(engine: Engine) -> None:
    """It goes to the task's log: an answer that could not be stored must not stand there instead."""
    statement = text("INSERT INTO no_such_table (description) VALUES (:description)")
    with pytest.raises(DBAPIError, match="no_such_table") as caught, engine.begin() as connection:
        connection.execute(statement, {"description": "a letter from my mother"})
    assert "my mother" not in str(caught.value)


def test_sqlite_settings_hold_on_every_connection(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.connect() as before:
        assert before.execute(text("PRAGMA foreign_keys")).scalar_one() == 0
    prepare(prepare(engine))
    with engine.connect() as first, engine.connect() as second:
        for connection in (first.execution_options(**READ_ONLY), second.execution_options(**READ_ONLY)):
            settings = [
                connection.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "busy_timeout", "foreign_keys")
            ]
            assert settings == ["wal", 30_000, 1]
    engine.dispose()


def test_readers_who_write_next_wait_for_each_other(engine: Engine) -> None:
    """Read, meet, write: without the write lock from the start SQLite refuses all but one at once."""
    writers, rounds = 4, 10
    barrier = threading.Barrier(writers)
    with engine.begin() as connection:
        connection.execute(insert(files).values(**_file("counter", size_bytes=0)))

    def count(_: int) -> None:
        barrier.wait()
        for _ in range(rounds):
            with engine.begin() as connection:
                size = connection.execute(select(files.c.size_bytes).with_for_update()).scalar_one()
                connection.execute(files.update().values(size_bytes=size + 1))

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(count, range(writers)))
    with engine.connect() as connection:
        assert connection.execute(select(files.c.size_bytes)).scalar_one() == writers * rounds


def test_processes_that_open_a_new_file_at_once_all_write(tmp_path: Path) -> None:
    code = (
        "import sys; from include.catalog.engine import create_catalog_engine as c; from sqlalchemy import text\n"
        "e = c(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with e.begin() as x:\n"
        "        x.execute(text('CREATE TABLE IF NOT EXISTS t (n INTEGER)'))\n"
        "        x.execute(text('INSERT INTO t VALUES (1)'))"
    )
    url = f"sqlite:///{tmp_path}/new.db"
    children = [subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    engine = create_catalog_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 80
    engine.dispose()


def test_a_reader_does_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        writer.execute(insert(files).values(**_file("half done")))
        with engine.connect().execution_options(**READ_ONLY) as reader:
            assert reader.execute(select(files.c.uri)).all() == []


def test_times_come_back_as_the_same_moment_in_utc(engine: Engine) -> None:
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with engine.begin() as connection:
        connection.execute(insert(files).values(**_file("a", uploaded_at=moment)))
        found = connection.execute(select(files.c.uploaded_at)).scalar_one()
    assert found == moment
    assert found.tzinfo is UTC


def test_a_time_without_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="no time zone"), engine.begin() as connection:
        connection.execute(insert(files).values(**_file("a", uploaded_at=datetime(2026, 1, 1))))  # noqa: DTZ001


def test_words_of_others_are_stored_whatever_they_hold(engine: Engine) -> None:
    """PostgreSQL refuses NUL, both refuse lone surrogates (undecodable file names), JSON has no NaN."""
    with engine.begin() as connection:
        connection.execute(insert(files).values(**_file("a", filename="nul\x00 \udcff é 🖼")))
        assert connection.execute(select(files.c.filename)).scalar_one() == "nul\ufffd ? é 🖼"
        params = {"a\x00": ["\x00", float("nan"), 1.5, True, None], "b": {"c": "\ud800"}}
        connection.execute(insert(image_runs).values(**_run(params=params)))
        stored = connection.execute(select(image_runs.c.params)).scalar_one()
    assert stored == {"a\ufffd": ["\ufffd", None, 1.5, True, None], "b": {"c": "?"}}


def _file(uri: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "uri": uri,
        "filename": uri,
        "media_type": "image/png",
        "size_bytes": 1,
        "content_version": "v1",
        "uploaded_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return row | changes


def _run(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "run_id": "d/r",
        "dag_id": "d",
        "dag_run_id": "r",
        "params": {},
        "recipe_version": "r1",
        "model_id": "m",
        "prompt_version": "p",
        "stages": "proxy",
        "force": False,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return row | changes


def test_many_that_open_a_new_sqlite_file_at_the_same_moment_all_get_in(tmp_path: Path) -> None:
    """Switching a new file to its write-ahead log is refused at once while another does the same."""
    for attempt in range(20):
        engines = [create_catalog_engine(f"sqlite:///{tmp_path / f'{attempt}.db'}") for _ in range(8)]
        together = threading.Barrier(len(engines), timeout=30)

        def open_it(engine: Engine, together: threading.Barrier = together) -> str:
            together.wait()
            with engine.connect() as connection:
                return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())

        with ThreadPoolExecutor(len(engines)) as pool:
            assert set(pool.map(open_it, engines)) == {"wal"}
        for engine in engines:
            engine.dispose()
