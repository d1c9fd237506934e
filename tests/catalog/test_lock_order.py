"""Images are deleted while proxies of them are recorded, on PostgreSQL: our own ways of deleting wait in a line, and a
team's DELETE, which has any order, costs a second try at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, delete, event, select, text

from include.catalog import claims, store
from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.records import MadeProxy, RecordedProxies, Stage
from include.catalog.tables import files, image_claims, image_proxies
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import LEASE, PROXY, Worker, add, new_proxy, plan, process

pytestmark = pytest.mark.parametrize("kind", ["postgresql"])  # SQLite has one writer at a time

LOOKS = 100_000  # at who waits; each takes a millisecond


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock is an error: nothing is tried again."""
    monkeypatch.setattr(store, "TRIES", 1)


@pytest.fixture
def beside(url: URL, clock: Clock) -> Iterator[Catalog]:
    """The catalog as another process has it."""
    engine = create_catalog_engine(url)
    yield Catalog(engine, clock=clock)
    engine.dispose()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def recording(catalog: Catalog, count: int) -> tuple[list[int], Callable[[], RecordedProxies]]:
    """A worker that holds images with proxies of before, and is about to record others."""
    ids = add(catalog, count)
    process(catalog, "before", *ids, stages=frozenset({PROXY}))
    catalog.store_plan(plan("run", ids, force=True))
    worker = Worker(catalog, "run", PROXY)
    made = [MadeProxy(one, new_proxy(uri=f"s3://proxies/{one}-anew.jpg")) for one in worker.held]
    return ids, lambda: catalog.record_proxies("dag/run", worker.owner, made)


def until_waiting(engine: Engine, count: int, task: Future[Any] | None = None) -> None:
    """Looks until so many sessions of this database wait for a lock, or the task has ended without waiting."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(LOOKS):
            if connection.scalar(text(query)) == count or (task is not None and task.done()):
                return
    pytest.fail(f"no {count} sessions that wait for a lock")


@contextmanager
def meanwhile(engine: Engine, words: str, act: Callable[[], None]) -> Iterator[None]:
    """Acts once, in the middle of a transaction: after the statement that holds these words."""
    acted = threading.Event()

    def after_statement(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement and not acted.is_set():
            acted.set()
            act()

    event.listen(engine, "after_cursor_execute", after_statement)
    yield
    event.remove(engine, "after_cursor_execute", after_statement)
    assert acted.is_set()


@pytest.mark.usefixtures("once")
def test_images_that_are_forgotten_while_they_are_recorded(
    catalog: Catalog, engine: Engine, beside: Catalog, pool: ThreadPoolExecutor
) -> None:
    """The recorder holds the claims, and is about to write rows that the other would have locked already."""
    ids, record = recording(catalog, 2)
    forgetting: list[Future[None]] = []

    def forget() -> None:
        forgetting.append(pool.submit(beside.forget, ids))
        until_waiting(engine, 1)

    with meanwhile(engine, "FROM image_claims", forget):
        done = record()
    forgetting[0].result(60)
    assert done.written == frozenset(ids)
    with engine.connect() as connection:
        assert connection.execute(select(image_proxies.c.id)).all() == []
        assert connection.execute(select(files.c.id)).all() == []


@pytest.mark.usefixtures("once")
def test_images_that_are_forgotten_while_they_are_claimed_and_recorded(
    catalog: Catalog, engine: Engine, beside: Catalog, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    """The claimer has locked the images' rows and waits for the claim that the recorder holds; the one who forgets must
    not hold that claim's place in the line before it has the rows."""
    ids, record = recording(catalog, 1)
    catalog.store_plan(plan("other", ids, force=True))
    clock.forward(LEASE)
    others: list[Future[Any]] = []

    def claim_and_forget() -> None:
        others.append(pool.submit(beside.claim_batch, "dag/other", 0, Stage.PROXY, "other", LEASE))
        until_waiting(engine, 1)
        others.append(pool.submit(beside.forget, ids))
        until_waiting(engine, 2)

    with meanwhile(engine, "FROM image_claims", claim_and_forget):
        assert record().written == frozenset(ids)
    for other in others:
        other.result(60)


@pytest.mark.usefixtures("once")
def test_expired_claims_are_removed_in_the_order_in_which_they_are_locked(
    catalog: Catalog, engine: Engine, beside: Catalog, pool: ThreadPoolExecutor, clock: Clock
) -> None:
    """The later image's claim comes first in the table, so a plain DELETE would lock it first."""
    first, second = add(catalog, 2)
    catalog.store_plan(plan("run", [first, second]))
    row = {"run_id": "dag/run", "stage": "proxy", "owner": "late", "claimed_at": NOON, "lease_until": NOON}
    with engine.begin() as connection:
        for file_id in (second, first):
            connection.execute(image_claims.insert().values(file_id=file_id, **row))
    clock.forward(LEASE)
    made = [MadeProxy(one, new_proxy(uri=f"s3://proxies/{one}.jpg")) for one in (first, second)]
    with engine.connect() as holder, holder.begin():
        claims.held_by(holder, second)
        removal = pool.submit(beside.expired_claims, NOON + timedelta(seconds=1), remove=True)
        until_waiting(engine, 1)
        record = pool.submit(catalog.record_proxies, "dag/run", "late", made)
        until_waiting(engine, 2)
    assert removal.result(60) == 2
    assert record.result(60).lost == {first: None, second: None}


@pytest.mark.usefixtures("once")
def test_an_image_whose_deletion_is_under_way_is_waited_for_and_skipped(
    catalog: Catalog, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    """Else its row is still seen, and the row of its proxy refers to nothing: the whole group would fail."""
    ids, record = recording(catalog, 2)
    with engine.connect() as team, team.begin():
        _delete_source(team, ids[0])
        recorded = pool.submit(record)
        until_waiting(engine, 1, recorded)
    done = recorded.result(60)
    assert (done.written, done.gone) == (frozenset(ids[1:]), frozenset(ids[:1]))


def test_a_deadlock_with_a_teams_own_delete_is_tried_again(
    catalog: Catalog, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    """It deletes in the other order, one by one. Of the two the recorder is chosen: it looks sooner."""
    ids, record = recording(catalog, 2)
    with engine.connect() as settings, settings.begin():
        settings.exec_driver_sql(f"ALTER DATABASE {engine.url.database} SET deadlock_timeout = '5s'")
    engine.dispose()
    with engine.connect() as team, team.begin():
        team.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")
        _delete_source(team, ids[1])
        recorded = pool.submit(record)
        until_waiting(engine, 1, recorded)
        _delete_source(team, ids[0])
    assert recorded.result(60).gone == frozenset(ids)


def _delete_source(connection: Connection, file_id: int) -> None:
    connection.execute(delete(files).where(files.c.source_file_id == file_id))
    connection.execute(delete(files).where(files.c.id == file_id))
