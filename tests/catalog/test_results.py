"""What became of an image: one current row a key, history kept, paid answers never thrown away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Engine, Table, delete, select

from include.catalog.browse_records import NewPreview
from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.errors import LeaseLost, UnknownImages
from include.catalog.records import Failure, MadeProxy, Outcome
from include.catalog.results import RETRY_BASE, RETRY_CAP, retry_delay
from include.catalog.tables import (
    files,
    image_analyses,
    image_attempts,
    image_claims,
    image_previews,
    image_proxies,
    image_run_items,
)
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import (
    ANALYSE,
    BROKEN,
    LEASE,
    PROXY,
    THROTTLED,
    Worker,
    add,
    analysis,
    call,
    kept,
    listed,
    new_proxy,
    plan,
    process,
    record_proxy,
)

JUST_PROXY = frozenset({PROXY})


def rows(engine: Engine, table: Table) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table).order_by(*table.primary_key.columns)))


def test_a_proxy_is_stored_with_its_savings_and_listed_as_a_file(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    proxy = new_proxy(original_bytes=3_000_000, proxy_bytes=750_000, bytes_uploaded=750_000)
    record_proxy(catalog, "dag/run", worker.owner, ids[0], proxy)
    [row] = rows(engine, image_proxies)
    assert (row.uri, row.run_id) == (proxy.uri, "dag/run")
    assert (row.saved_bytes, row.saving_ratio, row.status, row.attempts) == (2_250_000, 0.75, "proxied", 1)
    assert (row.created_at, row.superseded_at, row.next_try_at) == (NOON, None, None)
    source, listed_proxy = rows(engine, files)
    assert listed_proxy.id == row.proxy_file_id
    assert (listed_proxy.is_proxy, listed_proxy.source_file_id, listed_proxy.uri) == (True, source.id, proxy.uri)
    assert (listed_proxy.media_type, listed_proxy.size_bytes, listed_proxy.filename) == (
        "image/jpeg",
        750_000,
        "one.jpg",
    )
    assert (listed_proxy.resolution_width, listed_proxy.resolution_height) == (1200, 896)
    assert rows(engine, image_claims) == []
    [item] = rows(engine, image_run_items)
    assert (item.proxy_outcome, item.proxy_id, item.proxy_decided_at) == ("proxied", row.id, NOON)
    assert catalog.image(listed_proxy.id) is None


def test_a_kept_original_needs_no_file_row(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids, stages=JUST_PROXY))
    Worker(catalog, "run", PROXY).proxy(ids[0], kept(original_bytes=500, proxy_bytes=500, reason="fits"))
    [row] = rows(engine, image_proxies)
    assert (row.status, row.reason, row.saved_bytes, row.saving_ratio) == ("kept", "fits", 0, 0.0)
    assert (row.proxy_file_id, len(rows(engine, files))) == (None, 1)
    assert listed(catalog, stages=JUST_PROXY) == []


def test_a_grown_proxy_and_an_empty_original_have_honest_savings(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    worker.proxy(ids[0], new_proxy(original_bytes=1_000, proxy_bytes=1_500))
    worker.proxy(ids[1], new_proxy(original_bytes=0, proxy_bytes=10, uri="s3://proxies/two.jpg"))
    grown, empty = rows(engine, image_proxies)
    assert (grown.saved_bytes, grown.saving_ratio) == (-500, -0.5)
    assert (empty.saved_bytes, empty.saving_ratio) == (-10, None)


@pytest.mark.parametrize("same_uri", [True, False])
def test_a_proxy_made_again_supersedes_and_keeps_history(catalog: Catalog, engine: Engine, same_uri: bool) -> None:
    ids = add(catalog)
    process(catalog, "old", *ids, stages=JUST_PROXY)
    catalog.store_plan(plan("redo", ids, stages=JUST_PROXY, force=True))
    uri = f"s3://proxies/{ids[0]}.jpg" if same_uri else "s3://proxies/other.jpg"
    Worker(catalog, "redo", PROXY).proxy(ids[0], new_proxy(uri=uri, proxy_bytes=7))
    old, new = rows(engine, image_proxies)
    assert (old.run_id, old.superseded_at) == ("dag/old", NOON)
    assert (new.run_id, new.superseded_at, new.proxy_bytes) == ("dag/redo", None, 7)
    assert len(rows(engine, files)) == (2 if same_uri else 3)
    assert catalog.current(ids[0])["proxy_bytes"] == 7  # type: ignore[index]


def test_an_analysis_and_its_call_are_written_together(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    process(catalog, "run", *ids, stages=JUST_PROXY)
    catalog.store_plan(plan("run", ids))
    Worker(catalog, "run", ANALYSE, 1).analyse(ids[0], "a dog\x00", tier="flex", cost_usd=0.25, endpoint="aws")
    [row] = rows(engine, image_analyses)
    assert (row.status, row.description, row.labels) == (
        "analysed",
        "a dog\ufffd",
        [{"name": "cat", "confidence": 0.9}],
    )
    assert row.objects == [{"name": "cat", "box": [1, 2, 3, 4]}]
    assert (row.endpoint, row.tier, row.input_tokens, row.output_tokens) == ("aws", "flex", 300, 100)
    assert (row.cost_usd, row.cost_usd_projected, row.price_date) == (0.25, 0.5, "2026-11-01")
    assert row.proxy_id == rows(engine, image_proxies)[0].id
    [attempt] = [row for row in rows(engine, image_attempts) if row.stage == "analyse"]
    assert (attempt.called, attempt.code, attempt.cost_usd, attempt.recorded_at) == (True, None, 0.25, NOON)
    view = catalog.current(ids[0])
    assert view is not None
    assert (view["description"], view["labels"], view["endpoint"]) == (row.description, row.labels, "aws")
    assert (view["proxy_status"], view["saving_ratio"], view["analysed_at"]) == ("proxied", 0.9, NOON)


def test_every_try_and_every_call_is_an_attempt(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    Worker(catalog, "run", PROXY).proxy(ids[0])
    worker = Worker(catalog, "run", ANALYSE)
    catalog.record_call("dag/run", ids[0], call(code="malformed", message="no tool use"))
    worker.fail(ids[0], Failure("malformed", "twice"))
    attempts = [(row.stage, row.called, row.code, row.message) for row in rows(engine, image_attempts)]
    assert attempts == [
        ("proxy", False, None, None),
        ("analyse", True, "malformed", "no tool use"),
        ("analyse", False, "malformed", "twice"),
    ]
    assert catalog.run_figures("dag/run").nova_calls == 1


def test_the_delay_grows_to_its_cap() -> None:
    minutes = [retry_delay(attempts) / timedelta(minutes=1) for attempts in (1, 2, 3, 4)]
    assert minutes == [10, 30, 90, 270]
    assert retry_delay(1) == RETRY_BASE
    assert retry_delay(6) == retry_delay(1_000_000) == RETRY_CAP


def test_failures_are_counted_with_their_last_reason_and_next_try(
    catalog: Catalog, engine: Engine, clock: Clock
) -> None:
    ids = add(catalog)
    for number in (1, 2):
        catalog.store_plan(plan(f"try-{number}", ids))
        Worker(catalog, f"try-{number}", PROXY).fail(ids[0], THROTTLED)
        clock.forward(3_600)
    first, second = rows(engine, image_proxies)
    assert (first.attempts, first.superseded_at) == (1, NOON + timedelta(hours=1))
    assert (second.attempts, second.superseded_at) == (2, None)
    assert (second.status, second.code, second.message) == ("failed", THROTTLED.code, THROTTLED.message)
    assert (second.transient, second.next_try_at) == (True, NOON + timedelta(hours=1, minutes=30))
    catalog.store_plan(plan("try-3", ids))
    Worker(catalog, "try-3", PROXY).proxy(ids[0])
    assert rows(engine, image_proxies)[-1].attempts == 1
    assert listed(catalog, stages=JUST_PROXY) == []


def test_a_permanent_failure_has_no_next_try(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    Worker(catalog, "run", PROXY).fail(ids[0], BROKEN)
    [row] = rows(engine, image_proxies)
    assert (row.transient, row.next_try_at, row.attempts) == (False, None, 1)
    [item] = rows(engine, image_run_items)
    assert (item.proxy_outcome, item.proxy_code, item.proxy_message) == ("failed", BROKEN.code, BROKEN.message)
    assert rows(engine, image_claims) == []


@pytest.mark.parametrize("stage", [PROXY, ANALYSE])
def test_a_failed_second_try_destroys_nothing(catalog: Catalog, engine: Engine, stage: Any) -> None:
    ids = add(catalog)
    process(catalog, "good", *ids)
    catalog.store_plan(plan("redo", ids, stages={stage}, force=True))
    Worker(catalog, "redo", stage).fail(ids[0])
    good, failed = rows(engine, image_proxies if stage is PROXY else image_analyses)
    assert (good.superseded_at, failed.status, failed.superseded_at) == (None, "failed", NOON)
    assert catalog.run_counts("dag/redo").by_outcome == {Outcome.FAILED: 1}
    view = catalog.current(ids[0])
    assert view is not None
    assert (view["proxy_status"], view["description"]) == ("proxied", "a cat")
    assert listed(catalog) == []
    assert listed(catalog, run_id="dag/redo", stages={stage}, force=True) == []


def test_skips_and_returns_leave_the_images_as_they_were(catalog: Catalog, engine: Engine) -> None:
    skipped, returned = ids = add(catalog, 2)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    worker.skip(skipped)
    worker.put_back(returned)
    assert rows(engine, image_proxies) == rows(engine, image_claims) == []
    first, second = rows(engine, image_run_items)
    assert (first.proxy_outcome, first.proxy_code, first.proxy_message) == ("skipped", "done", "done before")
    assert (second.proxy_outcome, second.proxy_code) == ("returned", "throttled")
    assert listed(catalog) == ids


def test_a_busy_image_is_skipped_without_a_claim(catalog: Catalog) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("holder", ids))
    catalog.store_plan(plan("other", ids))
    holder = Worker(catalog, "holder", PROXY)
    for file_id in Worker(catalog, "other", PROXY).claimed.busy:
        catalog.record_skip("dag/other", None, file_id, PROXY, code="busy", message="another run has it")
    assert catalog.run_counts("dag/other").undecided == 2  # their analysis is still to be looked at
    assert catalog.renew(holder.owner, LEASE) == set(ids)
    with pytest.raises(LeaseLost):  # nobody skips what this run itself works on
        catalog.record_skip("dag/holder", None, ids[0], PROXY, code="busy", message="x")


def test_an_image_lost_to_another_run_can_be_returned(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("slow", ids, stages=JUST_PROXY))
    catalog.store_plan(plan("fast", ids, stages=JUST_PROXY))
    slow = Worker(catalog, "slow", PROXY)
    clock.forward(LEASE)
    fast = Worker(catalog, "fast", PROXY)
    with pytest.raises(LeaseLost):
        slow.proxy(ids[0])
    slow.put_back(ids[0])
    assert catalog.run_counts("dag/slow").by_outcome == {Outcome.RETURNED: 1}
    fast.proxy(ids[0])
    assert catalog.run_counts("dag/fast").by_outcome == {Outcome.PROXIED: 1}


def _lose(catalog: Catalog, clock: Clock, force: bool = False) -> tuple[int, Worker, Worker]:
    """An image whose analysis is under way in "slow", and was taken over by "fast"."""
    [file_id] = add(catalog)
    process(catalog, "proxies", file_id, stages=JUST_PROXY)
    for run in ("slow", "fast"):
        catalog.store_plan(plan(run, [file_id], stages={ANALYSE}, force=force))
    slow = Worker(catalog, "slow", ANALYSE)
    clock.forward(LEASE)
    return file_id, slow, Worker(catalog, "fast", ANALYSE)


def test_a_late_answer_is_written_when_nobody_else_has_one(catalog: Catalog, engine: Engine, clock: Clock) -> None:
    file_id, slow, fast = _lose(catalog, clock)
    slow.analyse(file_id, "late but paid")
    assert catalog.current(file_id)["description"] == "late but paid"  # type: ignore[index]
    assert catalog.run_counts("dag/slow").by_outcome == {Outcome.ANALYSED: 1}
    assert catalog.renew(fast.owner, LEASE) == {file_id}  # the holder is not disturbed
    fast.analyse(file_id, "in flight meanwhile")
    assert [row.superseded_at is None for row in rows(engine, image_analyses)] == [False, True]


def test_a_late_answer_after_another_keeps_the_call_and_raises(catalog: Catalog, engine: Engine, clock: Clock) -> None:
    file_id, slow, fast = _lose(catalog, clock)
    fast.analyse(file_id, "first")
    with pytest.raises(LeaseLost) as caught:
        slow.analyse(file_id, "second")
    assert caught.value.holder is None
    assert catalog.current(file_id)["description"] == "first"  # type: ignore[index]
    assert catalog.run_figures("dag/slow").nova_calls == 1
    assert rows(engine, image_claims) == []
    slow.put_back(file_id)
    assert catalog.run_counts("dag/slow").by_outcome == {Outcome.RETURNED: 1}


def test_a_late_answer_of_a_forced_run_counts_only_its_own(catalog: Catalog, engine: Engine, clock: Clock) -> None:
    file_id, slow, fast = _lose(catalog, clock, force=True)
    fast.analyse(file_id, "fast")
    slow.analyse(file_id, "slow")  # that run has none of its own yet, and this one is paid
    with pytest.raises(LeaseLost):
        slow.analyse(file_id, "slow again")
    assert [row.description for row in rows(engine, image_analyses)] == ["fast", "slow"]
    assert rows(engine, image_claims) == []


def test_a_retry_does_not_undo_its_predecessors_late_answer(catalog: Catalog) -> None:
    ids = add(catalog)
    process(catalog, "proxies", *ids, stages=JUST_PROXY)
    catalog.store_plan(plan("run", ids, stages={ANALYSE}))
    first = Worker(catalog, "run", ANALYSE, owner="try 1")
    retry = Worker(catalog, "run", ANALYSE, owner="try 2")
    first.analyse(ids[0], "paid")
    retry.fail(ids[0], THROTTLED)
    assert catalog.run_counts("dag/run").by_outcome == {Outcome.ANALYSED: 1}
    assert catalog.current(ids[0])["description"] == "paid"  # type: ignore[index]
    assert listed(catalog) == []


def test_late_answers_at_once_make_one_current_analysis(catalog: Catalog, engine: Engine, url: URL) -> None:
    """Nobody holds the image any more, and four answers of four runs arrive in the same moment."""
    ids = add(catalog)
    process(catalog, "proxies", *ids, stages=JUST_PROXY)
    runs = 4
    for number in range(runs):
        catalog.store_plan(plan(f"run-{number}", ids, stages={ANALYSE}))
    barrier = threading.Barrier(runs)

    def answer(number: int) -> bool:
        own = create_catalog_engine(url)
        barrier.wait(60)
        try:
            Catalog(own).record_analysis(f"dag/run-{number}", f"gone {number}", ids[0], analysis(), call())
        except LeaseLost:
            return False
        finally:
            own.dispose()
        return True

    with ThreadPoolExecutor(runs) as pool:
        written = list(pool.map(answer, range(runs)))
    assert sum(written) == len(rows(engine, image_analyses)) == 1
    assert sum(catalog.run_figures(f"dag/run-{number}").nova_calls for number in range(runs)) == runs
    assert rows(engine, image_claims) == []


def test_results_for_an_image_outside_the_run_are_an_error(catalog: Catalog) -> None:
    inside, outside = add(catalog, 2)
    catalog.store_plan(plan("run", [inside]))
    with pytest.raises(UnknownImages):
        catalog.record_call("dag/run", outside, call())
    with pytest.raises(LeaseLost):
        record_proxy(catalog, "dag/run", "owner", outside, new_proxy())


# -- several at once ---------------------------------------------------------------------------------------------------


def made(*file_ids: int) -> list[MadeProxy]:
    preview = NewPreview("s3://previews/a.jpg", "jpeg", 80, 60, 900)
    return [MadeProxy(one, new_proxy(uri=f"s3://proxies/{one}.jpg"), preview) for one in file_ids]


def test_a_group_is_written_as_each_of_its_images_would_be(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog, 4)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    entries = [*made(*ids[:2]), MadeProxy(ids[2], kept(reason="proxy_larger"))]
    done = catalog.record_proxies("dag/run", worker.owner, entries)
    assert (done.written, done.gone, done.lost) == (frozenset(ids[:3]), frozenset(), {})
    first, second, third = rows(engine, image_proxies)
    assert [row.file_id for row in (first, second, third)] == ids[:3]
    proxies = {row.id: row.source_file_id for row in rows(engine, files) if row.is_proxy}
    assert (proxies[first.proxy_file_id], proxies[second.proxy_file_id]) == (ids[0], ids[1])
    assert third.proxy_file_id is None
    items = {row.file_id: row for row in rows(engine, image_run_items)}
    assert [items[one].proxy_id for one in ids] == [first.id, second.id, third.id, None]
    assert [items[one].proxy_code for one in ids] == [None, None, "proxy_larger", None]
    assert [row.file_id for row in rows(engine, image_attempts)] == ids[:3]
    assert [row.file_id for row in rows(engine, image_previews)] == ids[:2]
    assert [row.file_id for row in rows(engine, image_claims)] == ids[3:]


def test_of_a_group_what_was_taken_over_or_deleted_stops_none_of_the_others(catalog: Catalog, engine: Engine) -> None:
    mine, taken, deleted, free = ids = add(catalog, 4)
    catalog.store_plan(plan("run", ids))
    catalog.store_plan(plan("other", [taken]))
    worker = Worker(catalog, "run", PROXY)
    with engine.begin() as connection:
        connection.execute(delete(image_claims).where(image_claims.c.file_id.in_([taken, free])))
        connection.execute(delete(files).where(files.c.id == deleted))
    other = Worker(catalog, "other", PROXY)
    done = catalog.record_proxies("dag/run", worker.owner, made(*reversed(ids)))
    assert (done.written, done.gone) == (frozenset([mine]), frozenset([deleted]))
    assert done.lost == {taken: other.owner, free: None}
    assert [row.file_id for row in rows(engine, image_proxies)] == [mine]
    outcomes = {row.file_id: row.proxy_outcome for row in rows(engine, image_run_items) if row.run_id == "dag/run"}
    assert outcomes == {mine: "proxied", taken: None, deleted: "skipped", free: None}
    assert [row.file_id for row in rows(engine, image_claims)] == [taken]


def test_a_group_that_is_made_anew_supersedes_just_its_own_content_and_recipe(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog, 3)
    catalog.store_plan(plan("first", ids))
    first = Worker(catalog, "first", PROXY)
    catalog.record_proxies("dag/first", first.owner, made(*ids))
    catalog.store_plan(plan("again", ids[:2], force=True))
    again = Worker(catalog, "again", PROXY)
    catalog.record_proxies("dag/again", again.owner, made(*ids[:2]))
    current = {row.file_id: row.run_id for row in rows(engine, image_proxies) if row.superseded_at is None}
    assert current == {ids[0]: "dag/again", ids[1]: "dag/again", ids[2]: "dag/first"}
    assert len(rows(engine, image_proxies)) == 5
    assert len([row for row in rows(engine, files) if row.is_proxy]) == 3
