"""The failure ledger: attempts, the last reason, the next try; and what `force` means when a run is asked anew."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, select, update

from include.catalog.catalog import Catalog
from include.catalog.records import Failure, Outcome, Stage
from include.catalog.tables import files, image_failures, image_proxies
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import (
    ANALYSE,
    BOTH,
    BROKEN,
    KEY,
    LEASE,
    PROXY,
    THROTTLED,
    Worker,
    add,
    listed,
    new_proxy,
    plan,
    process,
)


def fail(catalog: Catalog, run: str, file_id: int, failure: Failure, max_attempts: int) -> None:
    catalog.store_plan(plan(run, [file_id]))
    worker = Worker(catalog, run, PROXY)
    catalog.record_failure(worker.run_id, worker.owner, file_id, PROXY, failure, max_attempts)


def test_a_transient_failure_is_tried_again_later_and_later_until_it_is_given_up(
    catalog: Catalog, clock: Clock
) -> None:
    [file_id] = add(catalog)
    delays = []
    for attempt in range(1, 4):
        assert listed(catalog) == [file_id]
        fail(catalog, f"run {attempt}", file_id, THROTTLED, max_attempts=3)
        [line] = catalog.failed_images([file_id])
        assert (line.attempts, line.code, line.last_try_at, line.stage) == (attempt, THROTTLED.code, clock.now, PROXY)
        assert line.run_id == f"dag/run {attempt}"
        assert listed(catalog) == []
        if line.next_try_at is not None:
            delays.append(line.next_try_at - clock.now)
            assert (catalog.ledger_counts(KEY).waiting, catalog.ledger_counts(KEY).next_try_at) == (1, line.next_try_at)
            clock.now = line.next_try_at
            assert catalog.ledger_counts(KEY).due == 1
    assert delays == [timedelta(minutes=10), timedelta(minutes=30)]
    clock.forward(365 * 24 * 3600)
    assert listed(catalog) == []
    assert catalog.ledger_counts(KEY).given_up == 1
    assert listed(catalog, force=True) == [file_id]


def test_a_permanent_failure_is_left_alone_until_force(catalog: Catalog, clock: Clock) -> None:
    [file_id] = add(catalog)
    fail(catalog, "first", file_id, BROKEN, max_attempts=5)
    clock.forward(365 * 24 * 3600)
    assert (listed(catalog), listed(catalog, force=True)) == ([], [file_id])
    counts = catalog.ledger_counts(KEY)
    assert (counts.due, counts.waiting, counts.given_up, counts.next_try_at) == (0, 0, 1, None)


def test_success_and_new_content_clear_the_ledger(catalog: Catalog, clock: Clock, engine: Engine) -> None:
    one, other = add(catalog, 2)
    for number, file_id in enumerate((one, other)):
        fail(catalog, f"run {number}", file_id, THROTTLED, max_attempts=5)
    assert [line.file_id for line in catalog.failed_images()] == [one, other]
    clock.forward(600)
    process(catalog, "again", one)
    with engine.begin() as connection:
        connection.execute(update(files).where(files.c.id == other).values(content_version="content-2"))
    assert catalog.failed_images() == []


def test_the_view_has_the_documented_columns(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(select(image_failures)).all() == []
        found = connection.exec_driver_sql("SELECT * FROM image_failures").keys()
    assert list(found) == [column.name for column in image_failures.c]


# -- force, when a run is asked anew ---------------------------------------------------------------------------------


def test_a_run_that_is_repeated_by_force_redoes_what_it_did_before_it_was_forced(
    catalog: Catalog, clock: Clock, engine: Engine
) -> None:
    """A forced backfill of an interval runs under the id of the interval's earlier run."""
    [file_id] = add(catalog)
    process(catalog, "interval", file_id)
    clock.forward(60)
    assert listed(catalog, run_id="dag/interval", force=True) == [file_id]
    process_forced(catalog, file_id)
    assert listed(catalog, run_id="dag/interval", force=True) == []
    with engine.connect() as connection:
        rows = connection.execute(select(image_proxies).order_by(image_proxies.c.id)).all()
    assert [row.superseded_at for row in rows] == [clock.now, None]
    clock.forward(60)
    catalog.store_plan(plan("interval", [file_id], force=True))  # it is cleared: nothing is redone, nor paid, again
    assert [item.proxied for item in Worker(catalog, "interval", PROXY, batch_id=2).claimed.items] == []


def process_forced(catalog: Catalog, file_id: int) -> None:
    catalog.store_plan(plan("interval", [file_id], force=True))
    worker = Worker(catalog, "interval", PROXY, batch_id=1, owner="forced proxy")
    assert [item.proxied for item in worker.claimed.items] == [False]
    worker.proxy(file_id, new_proxy())
    analyst = Worker(catalog, "interval", ANALYSE, batch_id=1, owner="forced analysis")
    assert [item.analysed for item in analyst.claimed.items] == [False]
    analyst.analyse(file_id)


def test_a_forced_analysis_keeps_the_proxy_and_makes_a_missing_one(catalog: Catalog, clock: Clock) -> None:
    done, bare = add(catalog, 2)
    process(catalog, "before", done)
    clock.forward(60)
    assert listed(catalog, force=True, force_proxies=False) == [done, bare]
    catalog.store_plan(plan("asked", [done, bare], force=True, params={"stages": ["analyse"]}))
    assert catalog.run_stages("dag/asked") == BOTH
    worker = Worker(catalog, "asked", PROXY)
    assert {item.image.file_id: item.proxied for item in worker.claimed.items} == {done: True, bare: False}
    catalog.record_skip(worker.run_id, worker.owner, done, PROXY, code="proxy_exists", message="")
    worker.proxy(bare, new_proxy())
    analyst = Worker(catalog, "asked", ANALYSE)
    assert [item.analysed for item in analyst.claimed.items] == [False, False]
    for file_id in (done, bare):
        analyst.analyse(file_id)
    assert catalog.run_counts("dag/asked").by_outcome == {Outcome.ANALYSED: 2}
    assert listed(catalog, run_id="dag/asked", force=True, force_proxies=False) == []


def test_only_the_same_request_is_a_repetition(catalog: Catalog) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids, run_type="scheduled", params={"limit": 3}))
    assert catalog.is_same_request("dag/run", "scheduled", {"limit": 3})
    assert not catalog.is_same_request("dag/run", "backfill", {"limit": 3})
    assert not catalog.is_same_request("dag/run", "scheduled", {"limit": 4})
    assert not catalog.is_same_request("dag/other", "scheduled", {"limit": 3})


def test_who_else_is_at_work(catalog: Catalog, clock: Clock) -> None:
    one, two = add(catalog, 2)
    catalog.store_plan(plan("mine", [one], run_type="scheduled"))
    catalog.store_plan(plan("other", [two], run_type="asset_triggered"))
    Worker(catalog, "mine", Stage.PROXY)
    assert not catalog.others_at_work("dag/mine", ("scheduled", "asset_triggered"))
    Worker(catalog, "other", Stage.PROXY)
    assert catalog.others_at_work("dag/mine", ("scheduled", "asset_triggered"))
    assert not catalog.others_at_work("dag/mine", ("scheduled",))
    clock.forward(LEASE + 1)
    assert not catalog.others_at_work("dag/mine", ("scheduled", "asset_triggered"))
    assert clock.now > NOON
