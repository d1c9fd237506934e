"""A worker that is frozen in the middle of a transaction, as on a machine that hangs: PostgreSQL ends its session, so
that nobody waits for its locks, and what it was about to write is written once when it goes on."""

from __future__ import annotations

import os
import select as sockets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError

from include.catalog import engine as engines
from include.catalog import exports
from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine, prepare
from include.catalog.errors import LeaseLost
from include.catalog.records import AnalysisFilter, EvaluationCall, NewEvaluation, SpendingLimit
from include.catalog.tables import image_analyses, image_attempts, image_claims, image_proxies
from tests.catalog.conftest import Clock
from tests.catalog.making import ANALYSE, LEASE, PROXY, Worker, add, call, plan, process

pytestmark = pytest.mark.parametrize("kind", ["postgresql"])  # a SQLite catalog is of one machine, and hangs with it

ROOT = Path(__file__).parents[2]
COMMIT = "COMMIT"
ENOUGH = SpendingLimit("cost_limit", 100.0)
SECONDS = 30  # for what takes milliseconds


def until_ended(connection: Connection) -> None:
    """Waits until the server has said its last word on this connection."""
    driver: Any = connection.connection.driver_connection
    assert sockets.select([driver.fileno()], [], [], SECONDS)[0], "the session was not ended"


def freeze(connection: Connection) -> None:
    """No next statement for longer than the bound, which is a short one here."""
    driver: Any = connection.connection.driver_connection
    driver.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
    until_ended(connection)


@contextmanager
def struck(engine: Engine, moment: str, blow: Callable[[Connection], None] = freeze) -> Iterator[list[str]]:
    """The blow falls once: before a COMMIT, or after the first statement that holds these words."""
    fell: list[str] = []

    def fall(connection: Connection) -> None:
        if not fell:
            fell.append(moment)
            blow(connection)

    def after_statement(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if moment in statement:
            fall(connection)

    name, listener = ("commit", fall) if moment == COMMIT else ("after_cursor_execute", after_statement)
    event.listen(engine, name, listener)
    try:
        yield fell
    finally:
        event.remove(engine, name, listener)
    assert fell == [moment]


def end_session(engine: Engine) -> Callable[[Connection], None]:
    """A blow: the session is ended as by a server that shuts down."""

    def end(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": driver.info.backend_pid})
        until_ended(connection)

    return end


def count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return len(connection.execute(select(table)).all())


def record_call(worker: Worker, file_id: int) -> None:
    worker.catalog.record_call(worker.run_id, file_id, call(code="malformed"))


@pytest.fixture
def asking(catalog: Catalog) -> Worker:
    """Holds one image, of which it asks Nova."""
    ids = add(catalog)
    process(catalog, "proxies", *ids, stages=frozenset({PROXY}))
    catalog.store_plan(plan("run", ids, stages={ANALYSE}))
    return Worker(catalog, "run", ANALYSE)


# -- what is paid for --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["FROM image_claims", "INTO image_attempts", "INTO image_analyses", COMMIT])
def test_an_answer_whose_transaction_was_ended_is_written_once(asking: Worker, engine: Engine, moment: str) -> None:
    """Else the task would be tried again, and the answer paid for a second time."""
    before = count(engine, image_attempts)
    with struck(engine, moment):
        asking.analyse(asking.held[0], "paid")
    assert asking.catalog.current(asking.held[0])["description"] == "paid"  # type: ignore[index]
    assert (count(engine, image_analyses), count(engine, image_attempts) - before) == (1, 1)
    assert count(engine, image_claims) == 0


def test_an_answer_that_comes_when_another_has_answered_is_booked_and_not_written(
    asking: Worker, engine: Engine, url: URL, clock: Clock
) -> None:
    """The lease ended while the worker was frozen: what it wrote at first was undone with its session."""
    other_engine = create_catalog_engine(url)
    theirs = Catalog(other_engine, clock=clock)

    def freeze_for_long(connection: Connection) -> None:
        freeze(connection)
        clock.forward(LEASE)
        theirs.store_plan(plan("other", asking.held, stages={ANALYSE}))
        Worker(theirs, "other", ANALYSE).analyse(asking.held[0], "the other's")

    with struck(engine, COMMIT, freeze_for_long), pytest.raises(LeaseLost):
        asking.analyse(asking.held[0], "too late")
    other_engine.dispose()
    assert asking.catalog.current(asking.held[0])["description"] == "the other's"  # type: ignore[index]
    assert count(engine, image_analyses) == 1
    assert [asking.catalog.run_figures(f"dag/{run}").nova_calls for run in ("run", "other")] == [1, 1]


def test_a_request_without_an_answer_is_booked_once(asking: Worker, engine: Engine) -> None:
    with struck(engine, COMMIT):
        record_call(asking, asking.held[0])
    assert asking.catalog.run_figures("dag/run").nova_calls == 1


def test_a_question_of_an_evaluation_is_booked_once(catalog: Catalog, engine: Engine) -> None:
    catalog.store_evaluation(NewEvaluation("dag/run", {}, "nova-2-lite", "prompt-1", "stand-in", (1,)))
    with struck(engine, COMMIT):
        catalog.record_evaluation_call("dag/run", EvaluationCall(1, "896", 0, called=True, final=True))
    assert len(catalog.evaluation_calls("dag/run")) == 1


def test_a_hold_on_money_is_taken_once(asking: Worker, engine: Engine) -> None:
    with struck(engine, COMMIT):
        assert asking.catalog.reserve(asking.owner, asking.held[0], 2.0, [ENOUGH]) is None
    assert asking.catalog.reserved_usd() == 2.0


def test_a_group_of_proxies_is_written_once(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    with struck(engine, "INTO image_proxies"):
        worker.proxy(ids[0])
    with struck(engine, COMMIT):
        worker.proxy(ids[1])
    assert count(engine, image_proxies) == 2


@pytest.mark.parametrize("moment", ["INTO image_analyses", COMMIT])
def test_a_session_that_ends_otherwise_is_no_reason_to_pay_again(asking: Worker, engine: Engine, moment: str) -> None:
    """A machine that hung for long does not hear why: the server's last words are not sent for ever."""
    with struck(engine, moment, end_session(engine)):
        asking.analyse(asking.held[0])
    assert (count(engine, image_analyses), asking.catalog.run_figures("dag/run").nova_calls) == (1, 1)


@pytest.mark.parametrize("write", [Worker.analyse, record_call], ids=["answer", "call"])
def test_what_was_written_and_not_confirmed_is_not_written_again(
    asking: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch, write: Callable[[Worker, int], None]
) -> None:
    """The session breaks off after its COMMIT, before the server's answer to that."""
    commit = engine.dialect.do_commit

    def unconfirmed(driver: Any) -> None:
        monkeypatch.undo()
        commit(driver)
        driver.driver_connection.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(engine.dialect, "do_commit", unconfirmed)
    write(asking, asking.held[0])
    assert asking.catalog.run_figures("dag/run").nova_calls == 1
    assert count(engine, image_analyses) <= 1


def test_a_writer_that_is_always_frozen_gives_up(asking: Worker, engine: Engine) -> None:
    event.listen(engine, "commit", freeze)
    with pytest.raises(DBAPIError):
        asking.analyse(asking.held[0])
    event.remove(engine, "commit", freeze)
    assert (count(engine, image_analyses), asking.catalog.run_figures("dag/run").nova_calls) == (0, 0)


# -- who waits for whom ------------------------------------------------------------------------------------------------

FROZEN_WRITER = """
import os, signal, sys
from sqlalchemy import event
from include.catalog import engine as engines
from include.catalog.catalog import Catalog
from include.catalog.errors import LeaseLost
from include.catalog.records import SpendingLimit
from datetime import datetime

engines.IDLE_TRANSACTION_MS = 500
engine = engines.create_catalog_engine(sys.argv[1])
now = datetime.fromisoformat(sys.argv[2])

@event.listens_for(engine, "commit", once=True)
def freeze(_):
    os.kill(os.getpid(), signal.SIGSTOP)

try:
    passed = Catalog(engine, clock=lambda: now).reserve(sys.argv[3], int(sys.argv[4]), 1.0, [SpendingLimit("l", 100.0)])
    print("reserved" if passed is None else "refused")
except LeaseLost:
    print("lease lost")
"""


def test_nobody_waits_for_the_locks_of_a_frozen_worker(asking: Worker, engine: Engine, clock: Clock) -> None:
    """It holds the lock on spending and its image's claim. Others spend, and take the image when its lease is over."""
    file_id = asking.held[0]
    asking.catalog.store_plan(plan("other", [file_id], stages={ANALYSE}))
    with engine.connect() as settings, settings.begin():
        settings.exec_driver_sql(f"ALTER DATABASE {engine.url.database} SET lock_timeout = '{SECONDS}s'")
    engine.dispose()
    address = engine.url.render_as_string(hide_password=False)
    argv = [sys.executable, "-c", FROZEN_WRITER, address, clock.now.isoformat(), asking.owner, str(file_id)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as frozen:
        try:
            assert os.WIFSTOPPED(os.waitpid(frozen.pid, os.WUNTRACED)[1])
            clock.forward(LEASE)
            other = Worker(asking.catalog, "other", ANALYSE)
            assert other.held == [file_id]
            assert asking.catalog.reserve(other.owner, file_id, 1.0, [ENOUGH]) is None
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        said, _ = frozen.communicate(timeout=SECONDS)
    assert (frozen.returncode, said) == (0, "lease lost\n")
    assert asking.catalog.reserved_usd() == 1.0


def test_every_connection_has_the_bound(engine: Engine) -> None:
    """Also those of an engine that was made elsewhere and is in use; twice prepared is prepared."""
    elsewhere = create_engine(engine.url)
    with elsewhere.connect() as before:
        assert before.scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"
    for prepared in (engine, prepare(prepare(elsewhere))):
        with prepared.connect() as first, prepared.connect() as second:
            for connection in (first, second):
                assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "1min"
    elsewhere.dispose()


def test_what_a_frozen_worker_was_just_claiming_is_let_go_before_a_lease_would_end(
    catalog: Catalog, engine: Engine
) -> None:
    """Others skip such an image as busy, the retry of the same task too: it comes after a lease, not before."""
    bounds: list[str] = []

    def look(connection: Connection) -> None:
        bounds.append(str(connection.scalar(text("SHOW idle_in_transaction_session_timeout"))))

    catalog.store_plan(plan("run", add(catalog)))
    with struck(engine, "INTO image_claims", look):
        Worker(catalog, "run", PROXY)
    assert bounds == [f"{LEASE // 2}s"]


def test_who_works_on_the_rows_of_a_stream_may_take_longer_than_the_bound(
    catalog: Catalog, url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export writes a group of rows before it asks for the next page."""
    ids = add(catalog, 3)
    process(catalog, "run", *ids)
    monkeypatch.setattr(engines, "IDLE_TRANSACTION_MS", 500)
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 1)
    impatient = create_catalog_engine(url)
    found = []
    for row in Catalog(impatient).current_analyses(AnalysisFilter()):
        found.append(row["file_id"])
        outlast_the_bound(impatient)
    assert found == ids
    for transaction in (Catalog(impatient)._store.streaming, Catalog(impatient)._store.snapshot):
        with transaction() as connection:
            connection.scalar(select(image_proxies.c.id).limit(1))
            outlast_the_bound(impatient)
            assert connection.scalar(text("SELECT 1")) == 1
    impatient.dispose()


def outlast_the_bound(engine: Engine) -> None:
    """A transaction that begins to idle now is ended, so one that went on idling before has idled for longer."""
    with pytest.raises(DBAPIError), engine.connect() as other:
        other.scalar(text("SELECT 1"))
        until_ended(other)
        other.scalar(text("SELECT 1"))
