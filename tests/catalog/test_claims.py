"""Who works on which image: never two at once, and never nobody for long."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, insert, select

from include.catalog.catalog import Catalog
from include.catalog.claims import held_by
from include.catalog.engine import create_catalog_engine
from include.catalog.errors import LeaseLost, UnknownRun
from include.catalog.records import Outcome
from include.catalog.tables import files, image_claims, image_run_items
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import (
    ANALYSE,
    LEASE,
    PROXY,
    Worker,
    add,
    image,
    listed,
    new_proxy,
    plan,
    process,
    record_proxy,
)

ROOT = Path(__file__).parents[2]


def test_a_claim_holds_the_batch_for_one_owner(catalog: Catalog) -> None:
    ids = add(catalog, 3)
    catalog.store_plan(plan("a", ids[:2], ids[2:]))
    catalog.store_plan(plan("b", ids))
    first, second = Worker(catalog, "a", PROXY), Worker(catalog, "b", PROXY)
    assert (first.held, first.claimed.busy) == (ids[:2], ())
    assert (second.held, second.claimed.busy) == (ids[2:], tuple(ids[:2]))
    assert second.claimed.owner == second.owner
    assert Worker(catalog, "a", PROXY, batch_id=1).claimed.busy == (ids[2],)


def test_items_say_what_is_there_already(catalog: Catalog) -> None:
    fresh, proxied, done = ids = add(catalog, 3)
    process(catalog, "proxies", proxied, stages=frozenset({PROXY}))
    process(catalog, "all", done)
    catalog.store_plan(plan("run", ids))
    items = Worker(catalog, "run", PROXY).claimed.items
    assert [item.image.file_id for item in items] == ids
    assert [item.image for item in items] == [catalog.image(file_id) for file_id in ids]
    assert [(item.proxied, item.analysed) for item in items] == [(False, False), (True, False), (True, True)]
    assert items[0].proxy is None
    proxy = items[1].proxy
    assert proxy is not None
    assert (proxy.file_id, proxy.outcome, proxy.uri) == (proxied, Outcome.PROXIED, f"s3://proxies/{proxied}.jpg")
    assert (proxy.run_id, proxy.content_version) == ("dag/proxies", "content-1")
    assert fresh == ids[0]


def test_what_the_other_run_did_meanwhile_is_seen(catalog: Catalog) -> None:
    """Both listed the image; the second claims when the first is done and must not pay again."""
    ids = add(catalog)
    catalog.store_plan(plan("late", ids))
    process(catalog, "early", *ids)
    [item] = Worker(catalog, "late", PROXY).claimed.items
    assert (item.proxied, item.analysed) == (True, True)


def test_decided_items_are_not_claimed_again_but_returned_ones_are(catalog: Catalog) -> None:
    made, kept, failed, skipped, returned, open_ = ids = add(catalog, 6)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    worker.proxy(made)
    worker.proxy(kept, new_proxy(outcome=Outcome.KEPT, action="kept", uri="s3://pictures/x.jpg"))
    worker.fail(failed)
    worker.skip(skipped)
    worker.put_back(returned)
    assert Worker(catalog, "run", PROXY, owner="retry").held == [returned, open_]
    assert catalog.run_counts("dag/run").undecided == 5  # from the claim on the returned one is undecided again


def test_an_analysis_is_claimed_only_after_a_proxy_stage_that_went_well(catalog: Catalog) -> None:
    made, failed, skipped, returned, open_ = ids = add(catalog, 5)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    worker.proxy(made)
    worker.fail(failed)
    worker.skip(skipped)
    worker.put_back(returned)
    answers = Worker(catalog, "run", ANALYSE)
    assert answers.held == [made, skipped]
    assert open_ in worker.held


def test_without_a_proxy_stage_nothing_waits_for_one(catalog: Catalog) -> None:
    ids = add(catalog)
    process(catalog, "proxies", *ids, stages=frozenset({PROXY}))
    catalog.store_plan(plan("answers", ids, stages={ANALYSE}))
    [item] = Worker(catalog, "answers", ANALYSE).claimed.items
    assert (item.proxied, item.analysed) == (True, False)


def test_an_expired_lease_comes_back(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("killed", ids))
    catalog.store_plan(plan("next", ids))
    killed = Worker(catalog, "killed", PROXY)
    clock.forward(LEASE - 1)
    assert Worker(catalog, "next", PROXY).held == []
    clock.forward(1)
    assert Worker(catalog, "next", PROXY).held == ids
    assert catalog.renew(killed.owner, LEASE) == frozenset()
    with pytest.raises(LeaseLost):
        killed.proxy(ids[0])


def test_a_lease_that_is_kept_alive_does_not_run_out(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("slow", ids))
    catalog.store_plan(plan("other", ids))
    slow = Worker(catalog, "slow", PROXY)
    for _ in range(5):
        clock.forward(LEASE - 1)
        assert catalog.renew(slow.owner, LEASE) == set(ids)
    assert Worker(catalog, "other", PROXY).held == []
    slow.proxy(ids[0])
    assert catalog.renew(slow.owner, LEASE) == {ids[1]}


def test_a_lease_that_ran_out_and_was_not_taken_is_still_the_owners(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("slow", ids))
    slow = Worker(catalog, "slow", PROXY)
    clock.forward(10 * LEASE)
    slow.proxy(ids[0])
    assert catalog.renew(slow.owner, LEASE) == {ids[1]}


def test_a_retry_takes_over_its_own_batch_at_once(catalog: Catalog) -> None:
    """The first try was killed; nobody waits for its lease. If it lives after all, it is told."""
    ids = add(catalog, 2)
    catalog.store_plan(plan("run", ids))
    first = Worker(catalog, "run", PROXY, owner="try 1")
    first.proxy(ids[0])
    retry = Worker(catalog, "run", PROXY, owner="try 2")
    assert (retry.held, retry.claimed.busy) == ([ids[1]], ())
    with pytest.raises(LeaseLost, match="try 2") as caught:
        first.proxy(ids[1])
    assert (caught.value.code, caught.value.holder) == ("lease_lost", "try 2")
    for decide in (first.fail, first.put_back, first.skip):
        with pytest.raises(LeaseLost):
            decide(ids[1])
    retry.proxy(ids[1])
    assert catalog.run_counts("dag/run").by_outcome == {}  # both wait for their analysis
    assert catalog.run_figures("dag/run").proxies_created == 2


def test_releasing_gives_back_only_what_was_named(catalog: Catalog) -> None:
    ids = add(catalog, 4)
    catalog.store_plan(plan("a", ids[:1], ids[1:2]))
    catalog.store_plan(plan("b", ids[2:]))
    one, _two, other = Worker(catalog, "a", PROXY, 0), Worker(catalog, "a", PROXY, 1), Worker(catalog, "b", PROXY)
    assert listed(catalog) == []
    assert catalog.release(one.owner) == 1
    assert listed(catalog) == ids[:1]
    assert catalog.release_run("dag/a") == 1
    assert listed(catalog) == ids[:2]
    assert catalog.release_all() == 2
    assert listed(catalog) == ids
    assert catalog.release(other.owner) == 0


def test_what_is_no_image_any_more_is_skipped_not_claimed(catalog: Catalog) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    catalog.register([image("00000", media_type="video/mp4", content_version="content-2")])
    assert Worker(catalog, "run", PROXY).claimed.items == ()
    assert (catalog.run_counts("dag/run").undecided, catalog.run_images("dag/run")[0].code) == (0, "source_row_gone")


def test_content_that_changed_since_the_plan_is_claimed_as_it_is(catalog: Catalog) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    catalog.register([image("00000", content_version="content-2")])
    worker = Worker(catalog, "run", PROXY)
    assert worker.claimed.items[0].image.content_version == "content-2"
    worker.proxy(ids[0])
    assert listed(catalog, stages={PROXY}) == []


def test_claiming_for_an_unknown_run_is_an_error(catalog: Catalog) -> None:
    with pytest.raises(UnknownRun):
        catalog.claim_batch("dag/none", 0, PROXY, "owner", LEASE)


def test_claimers_at_once_never_overlap(catalog: Catalog, url: URL) -> None:
    """Eight runs want the same images, in opposite orders of batches, at the same moment; three rounds."""
    runs, rounds = 8, 3
    ids = add(catalog, 200)
    for number in range(runs):
        batches = [ids[:100], ids[100:]] if number % 2 else [ids[100:], ids[:100]]
        catalog.store_plan(plan(f"run-{number}", *batches))
    barrier = threading.Barrier(runs)

    def claim(number: int) -> list[list[int]]:
        engine = create_catalog_engine(url)  # a connection of its own, as another process has
        mine = Catalog(engine)
        taken = []
        for _ in range(rounds):
            barrier.wait(60)
            workers = [Worker(mine, f"run-{number}", PROXY, batch) for batch in (0, 1)]
            taken.append([file_id for worker in workers for file_id in worker.held])
            barrier.wait(60)
            for worker in workers:
                assert mine.renew(worker.owner, LEASE) == set(worker.held)
                assert mine.release(worker.owner) == len(worker.held)
        engine.dispose()
        return taken

    with ThreadPoolExecutor(runs) as pool:
        results = list(pool.map(claim, range(runs)))
    for rounds_results in zip(*results, strict=True):
        assert Counter(file_id for taken in rounds_results for file_id in taken) == Counter(ids)


@pytest.mark.parametrize("kind", ["postgresql"])  # SQLite has one writer at a time
def test_claimers_do_not_wait_for_one_who_is_just_claiming(catalog: Catalog, engine: Engine) -> None:
    """Were they to wait, the lock timeout would turn the claim into an error."""
    ids = add(catalog, 4)
    catalog.store_plan(plan("slow", ids[:2]))
    for number in range(8):
        catalog.store_plan(plan(f"quick-{number}", ids))
    claiming = engine.connect()
    with claiming.begin():
        claiming.execute(select(files.c.id).where(files.c.id.in_(ids[:2])).with_for_update(key_share=True)).all()
        claiming.execute(insert(image_claims), [_claim(file_id) for file_id in ids[:2]])
        with engine.connect() as settings, settings.begin():
            settings.exec_driver_sql(f"ALTER DATABASE {engine.url.database} SET lock_timeout = '200ms'")
        impatient = Catalog(create_catalog_engine(engine.url), clock=Clock())
        claims = [Worker(impatient, f"quick-{number}", PROXY).claimed for number in range(8)]
    claiming.close()
    assert [len(claim.items) for claim in claims] == [2, 0, 0, 0, 0, 0, 0, 0]
    assert [item.image.file_id for item in claims[0].items] == ids[2:]
    assert claims[0].busy == tuple(ids[:2])


def _claim(file_id: int) -> dict[str, object]:
    own = {"file_id": file_id, "run_id": "dag/slow", "stage": "proxy", "owner": "slow"}
    return {**own, "claimed_at": NOON, "lease_until": NOON + timedelta(seconds=LEASE)}


def test_stealing_renewing_and_deciding_at_once_neither_deadlocks_nor_loses(catalog: Catalog, url: URL) -> None:
    """Leases of no length: everyone takes from everyone all the time. Each image is decided once a run at most, and
    in the end has one current proxy."""
    runs = 6
    ids = add(catalog, 60)
    for number in range(runs):
        catalog.store_plan(plan(f"run-{number}", ids, stages={PROXY}))
    barrier = threading.Barrier(runs)

    def work(number: int) -> list[int]:
        engine = create_catalog_engine(url)
        mine, run, done = Catalog(engine), f"run-{number}", []
        barrier.wait(60)
        for turn in range(4):
            owner = f"{run} turn {turn}"
            claimed = mine.claim_batch(f"dag/{run}", 0, PROXY, owner, 0)
            mine.renew(owner, 0)
            for item in reversed(claimed.items):
                try:
                    uri = f"s3://proxies/{item.image.file_id}.jpg"
                    record_proxy(mine, f"dag/{run}", owner, item.image.file_id, new_proxy(uri=uri))
                    done.append(item.image.file_id)
                except LeaseLost:
                    continue
            mine.release(owner)
        engine.dispose()
        return done

    with ThreadPoolExecutor(runs) as pool:
        results = list(pool.map(work, range(runs)))
    assert max(max(Counter(done).values(), default=0) for done in results) == 1
    assert {file_id for done in results for file_id in done} == set(ids)
    assert listed(catalog, stages={PROXY}) == []
    assert catalog.release_all() == 0
    created = [catalog.run_figures(f"dag/run-{number}").proxies_created for number in range(runs)]
    assert created == [len(done) for done in results]


def test_a_killed_process_leaves_its_claims_to_their_lease(catalog: Catalog, url: URL, clock: Clock) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("killed", ids))
    catalog.store_plan(plan("next", ids))
    code = (
        "import os, signal, sys\n"
        "from include.catalog.catalog import Catalog\n"
        "from include.catalog.engine import create_catalog_engine\n"
        "from include.catalog.records import Stage\n"
        "from datetime import datetime\n"
        "now = datetime.fromisoformat(sys.argv[2])\n"
        "catalog = Catalog(create_catalog_engine(sys.argv[1]), clock=lambda: now)\n"
        "assert len(catalog.claim_batch('dag/killed', 0, Stage.PROXY, 'victim', 60).items) == 2\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    address = url.render_as_string(hide_password=False)
    child = subprocess.run([sys.executable, "-c", code, address, clock.now.isoformat()], cwd=ROOT, check=False)
    assert child.returncode == -9
    assert Worker(catalog, "next", PROXY).claimed.busy == tuple(ids)
    clock.forward(60)
    assert Worker(catalog, "next", PROXY).held == ids


def test_a_failed_transaction_leaves_nothing_half_done(catalog: Catalog, engine: Engine) -> None:
    """The proxy's row cannot be written; so the claim is still held and the item undecided."""
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    with pytest.raises(Exception, match="constraint"):
        worker.proxy(ids[0], new_proxy(outcome=Outcome.ANALYSED))
    assert catalog.renew(worker.owner, LEASE) == set(ids)
    assert catalog.run_counts("dag/run").undecided == 1
    with engine.connect() as connection:
        assert connection.execute(select(image_run_items.c.proxy_outcome)).scalar_one() is None
    worker.proxy(ids[0])


def test_an_image_has_one_claim_by_the_table_itself(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    Worker(catalog, "run", PROXY)
    with engine.connect() as connection:
        row = dict(connection.execute(select(image_claims)).mappings().one())
        connection.rollback()
        with pytest.raises(Exception, match=r"(?i)unique"):
            connection.execute(insert(image_claims), [row | {"owner": "another"}])


def test_an_image_cannot_be_taken_while_its_owner_decides(catalog: Catalog, engine: Engine, clock: Clock) -> None:
    """The lease ran out, but the owner is inside its transaction, so who wants the image waits."""
    ids = add(catalog)
    for run in ("slow", "next"):
        catalog.store_plan(plan(run, ids, stages={PROXY}))
    slow = Worker(catalog, "slow", PROXY)
    clock.forward(LEASE)
    taken: list[Worker] = []
    thief = threading.Thread(target=lambda: taken.append(Worker(catalog, "next", PROXY)))
    with engine.begin() as connection:
        claim = held_by(connection, ids[0])
        assert claim is not None
        assert claim.owner == slow.owner
        thief.start()
        thief.join(0.5)
        assert taken == []
    thief.join(60)
    assert taken[0].held == ids
