"""What may still be spent, decided under one lock; and what a day's work comes to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest

from include.catalog.catalog import Catalog
from include.catalog.errors import LeaseLost
from include.catalog.records import DayCalls, Failure, SpendingLimit, Stage, StorageBytes, WorkKey
from include.pipeline.params import parse_params
from include.pipeline.settings import load_settings
from include.pipeline.spending import SETTLED, SpendingGuard
from tests.catalog.conftest import Clock
from tests.catalog.making import (
    ANALYSE,
    KEY,
    LEASE,
    PROXY,
    Worker,
    add,
    call,
    image,
    kept,
    new_proxy,
    plan,
    process,
    selection,
)

WHOLE = SpendingLimit("daily_cost_limit", 5.0)


def ready(catalog: Catalog, count: int, name: str = "run") -> Worker:
    """Images with proxies, claimed for their analysis."""
    ids = add(catalog, count)
    catalog.store_plan(plan(name, ids))
    proxies = Worker(catalog, name, PROXY)
    for file_id in proxies.held:
        proxies.proxy(file_id)
    return Worker(catalog, name, ANALYSE)


def test_only_as_many_reservations_as_the_limit_pays_for_whoever_comes_at_once(catalog: Catalog) -> None:
    worker = ready(catalog, 12)
    with ThreadPoolExecutor(8) as threads:
        passed = list(threads.map(lambda file_id: catalog.reserve(worker.owner, file_id, 1.0, [WHOLE]), worker.held))
    assert sum(limit is None for limit in passed) == 5
    assert {limit.code for limit in passed if limit} == {"daily_cost_limit"}


def test_a_reservation_becomes_what_the_answer_cost(catalog: Catalog) -> None:
    worker = ready(catalog, 3)
    first, second, third = worker.held
    assert catalog.reserve(worker.owner, first, 4.0, [WHOLE]) is None
    assert catalog.reserve(worker.owner, second, 2.0, [WHOLE]) == WHOLE
    worker.analyse(first, cost_usd=1.0, cost_usd_projected=1.0)
    assert catalog.reserve(worker.owner, second, 2.0, [WHOLE]) is None
    worker.put_back(second)
    assert catalog.reserve(worker.owner, third, 4.0, [WHOLE]) is None, "what was put back has nothing set aside"


def test_asking_again_for_an_image_replaces_what_it_had(catalog: Catalog) -> None:
    worker = ready(catalog, 1)
    for _ in range(3):
        assert catalog.reserve(worker.owner, worker.held[0], 4.0, [WHOLE]) is None


def test_a_dead_tasks_reservation_ends_with_its_lease_or_with_a_retry(catalog: Catalog, clock: Clock) -> None:
    worker = ready(catalog, 2)
    first, second = worker.held
    assert catalog.reserve(worker.owner, first, 5.0, [WHOLE]) is None
    retry = Worker(catalog, "run", ANALYSE, owner="retry")
    assert catalog.reserve("retry", second, 5.0, [WHOLE]) is None
    clock.forward(LEASE + 1)
    assert catalog.reserve("retry", first, 5.0, [WHOLE]) is None
    with pytest.raises(LeaseLost):
        catalog.reserve(worker.owner, first, 1.0, [SpendingLimit("x", 100.0)])
    assert retry.held == [first, second]


def test_a_batch_job_sets_aside_what_is_left_of_a_limit_whoever_comes_at_once(catalog: Catalog) -> None:
    ids = add(catalog, 8)
    catalog.store_plan(plan("run", ids[:4], ids[4:]))
    jobs = [Worker(catalog, "run", PROXY, batch_id) for batch_id in (0, 1)]

    def set_aside(job: Worker) -> tuple[int, SpendingLimit | None]:
        return catalog.set_aside(job.owner, dict.fromkeys(job.held, 1.0), [WHOLE])

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(set_aside, jobs), key=lambda one: one[0]) == [(1, WHOLE), (4, None)]
    assert catalog.reserved_usd() == 5.0
    assert sorted(count for count, _ in map(set_aside, jobs)) == [1, 4], "asked again, a job has what it had"


def test_a_batch_job_is_cut_where_its_own_images_pass_the_limit_not_at_their_mean(catalog: Catalog) -> None:
    """Some models bill by size: the large ones may come first."""
    catalog.store_plan(plan("run", add(catalog, 4)))
    job = Worker(catalog, "run", PROXY)
    costs = dict(zip(job.held, (3.0, 2.0, 0.5, 0.1), strict=True))
    assert catalog.set_aside(job.owner, costs, [WHOLE, SpendingLimit("tighter", 4.0)]) == (
        1,
        SpendingLimit("tighter", 4.0),
    )
    assert catalog.reserved_usd() == 3.0
    assert catalog.set_aside(job.owner, costs, [WHOLE]) == (2, WHOLE), "to the cent"
    assert catalog.set_aside(job.owner, dict.fromkeys(job.held, 0.0), [WHOLE]) == (4, None)


def test_a_runs_limit_is_its_own_and_the_days_begins_at_midnight(catalog: Catalog, clock: Clock) -> None:
    other = ready(catalog, 1, "other")
    other.analyse(other.held[0], cost_usd=4.0)
    clock.forward(24 * 3600)
    worker = ready(catalog, 3)  # of which the other run has done one
    [first, second] = worker.held
    own = SpendingLimit("cost_limit", 2.0, run_id="dag/run")
    today = SpendingLimit("daily_cost_limit", 3.0, since=clock.now.replace(hour=0))
    assert catalog.reserve(worker.owner, first, 1.5, [own, today]) is None
    assert catalog.reserve(worker.owner, second, 1.0, [own, today]) == own
    assert catalog.reserve(worker.owner, second, 1.0, [SpendingLimit("daily_cost_limit", 4.5)]) is not None
    assert (catalog.spent_usd(), catalog.spent_usd(since=today.since), catalog.spent_usd(run_id="dag/other")) == (
        4,
        0,
        4,
    )


def test_what_is_settled_is_remembered_and_still_counts(catalog: Catalog, clock: Clock) -> None:
    worker = ready(catalog, 4)
    guard = SpendingGuard(catalog, parse_params({"max_cost_usd": 3.0}), load_settings(), "dag/run")
    for file_id in worker.held[:2]:
        assert guard.reserve(worker.owner, file_id, 1.0) is None
        worker.analyse(file_id, cost_usd=1.0)
        clock.forward(3 * SETTLED.total_seconds())
        catalog.renew(worker.owner, LEASE)
    third, fourth = worker.held[2:]
    limit = guard.reserve(worker.owner, third, 1.5)
    assert limit is not None and (limit.code, limit.usd) == ("cost_limit", 3.0)
    assert guard.reserve(worker.owner, third, 1.0) is None
    assert guard.reserve(worker.owner, fourth, 0.1) is not None


def test_without_a_limit_any_sum_passes_for_an_image_that_is_held(catalog: Catalog) -> None:
    worker = ready(catalog, 1)
    guard = SpendingGuard(catalog, parse_params({}), load_settings(), "dag/run")
    assert guard.reserve(worker.owner, worker.held[0], 1e9) is None
    for owner, file_id in (("another", worker.held[0]), (worker.owner, worker.held[0] + 1)):
        with pytest.raises(LeaseLost):
            guard.reserve(owner, file_id, 0.0)


def test_a_day_in_numbers(catalog: Catalog, clock: Clock) -> None:
    """Two images of the archive's disk and one of S3, worked on around midnight UTC."""
    clock.now = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    [cloud] = add(catalog)
    disk = [image(name, uri=f"file:///archive/{name}.jpg") for name in ("one", "two", "three")]
    catalog.register(disk)
    one, two, broken = (cloud + 1, cloud + 2, cloud + 3)
    catalog.store_plan(plan("run", [cloud, one, two, broken]))
    worker = Worker(catalog, "run", PROXY)
    worker.proxy(cloud, new_proxy(uri="s3://p/0", original_bytes=4000, proxy_bytes=400, bytes_uploaded=400))
    worker.proxy(one, new_proxy(uri="s3://p/1", original_bytes=1000, proxy_bytes=100, bytes_uploaded=100))
    worker.proxy(two, kept(original_bytes=500, proxy_bytes=500, bytes_uploaded=500))
    worker.fail(broken)
    answers = Worker(catalog, "run", ANALYSE)
    answers.analyse(cloud, billed_input_tokens=250, request_bytes=900, tier="flex")
    clock.forward(3600)  # past midnight
    answers.analyse(one, endpoint="aws", cost_usd=0.25, cost_usd_projected=0.25, billed_input_tokens=200)
    catalog.record_call("dag/run", two, call(code="throttled", input_tokens=0, output_tokens=0, cost_usd_projected=0.0))
    answers.fail(two, Failure("validation", "no"))
    before, after, empty = catalog.daily_figures(date(2026, 11, 22), date(2026, 11, 24))
    assert (before.day, before.proxies_created, before.originals_kept, before.proxies_failed) == (
        date(2026, 11, 22),
        2,
        1,
        1,
    )
    assert (before.bytes_original, before.bytes_served, before.bytes_uploaded) == (5500, 1000, 1000)
    assert before.storage == StorageBytes(4000, 400, 1500, 600)
    assert before.calls == (DayCalls("stand-in", "flex", 1, 300, 250, 100, 900, None, 0.5),)
    assert (before.analyses_written, after.analyses_written, after.analyses_failed) == (1, 1, 1)
    assert [(c.endpoint, c.nova_calls, c.cost_usd) for c in after.calls] == [("aws", 1, 0.25), ("stand-in", 1, None)]
    assert (empty.proxies_created, empty.bytes_original, empty.calls) == (0, 0, ())


def test_storage_of_a_proxy_that_is_made_again_counts_once(catalog: Catalog, clock: Clock) -> None:
    catalog.register([image("disk", uri="file:///archive/disk.jpg"), image("cloud")])
    disk, cloud = (row.file_id for row in catalog.select_unprocessed(selection(stages={PROXY})))
    recipes = {"first": "recipe-1", "again": "recipe-1", "next-day": "recipe-1", "smaller": "recipe-2"}
    for name, recipe in recipes.items():
        clock.forward(86_400 if name == "next-day" else 1)
        key = WorkKey(recipe, KEY.model_id, KEY.prompt_version)
        catalog.store_plan(plan(name, [disk, cloud], stages={PROXY}, force=True, key=key))
        worker = Worker(catalog, name, PROXY)
        for file_id in worker.held:
            uri = f"s3://proxies/{recipe}/{file_id}.jpg"
            worker.proxy(file_id, new_proxy(uri=uri, original_bytes=5000, proxy_bytes=600, bytes_uploaded=600))
    first, second = catalog.daily_figures(date(2026, 11, 22), date(2026, 11, 23))
    assert (first.proxies_created, first.bytes_uploaded) == (4, 2400), "what was done counts each time"
    assert first.storage == StorageBytes(5000, 600, 5000, 600)
    assert second.storage == StorageBytes(0, 600, 0, 600), "only the other recipe's objects are new"


def test_a_day_is_the_same_to_a_session_of_another_zone(catalog: Catalog, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    process(catalog, "run", *add(catalog, 2))
    if catalog._store._engine.dialect.name == "postgresql":
        with catalog._store.writing() as connection:
            connection.exec_driver_sql("SET TIME ZONE 'Asia/Tokyo'")
    days = catalog.daily_figures(date(2026, 11, 21), date(2026, 11, 23))
    assert [day.analyses_written for day in days] == [0, 2, 0]


def test_days_in_the_wrong_order_are_an_error(catalog: Catalog) -> None:
    today = date(2026, 11, 22)
    with pytest.raises(ValueError, match="before the first"):
        catalog.daily_figures(today, today - timedelta(days=1))


def test_a_run_adds_up_what_its_images_keep_in_s3(catalog: Catalog) -> None:
    [cloud] = add(catalog)
    catalog.register([image("disk", uri="file:///archive/disk.jpg")])
    catalog.store_plan(plan("run", [cloud, cloud + 1]))
    worker = Worker(catalog, "run", PROXY)
    worker.proxy(cloud, new_proxy(uri="s3://p/0", original_bytes=4000, proxy_bytes=400, bytes_uploaded=400))
    worker.proxy(cloud + 1, new_proxy(uri="s3://p/1", original_bytes=1000, proxy_bytes=100, bytes_uploaded=100))
    assert catalog.run_figures("dag/run").storage == StorageBytes(), "only analysed images count"
    answers = Worker(catalog, "run", Stage.ANALYSE)
    for file_id in answers.held:
        answers.analyse(file_id, request_bytes=1000, billed_input_tokens=260, tier="priority")
    figures = catalog.run_figures("dag/run")
    assert figures.storage == StorageBytes(4000, 400, 1000, 100)
    assert (figures.request_bytes, figures.billed_input_tokens, figures.tiers) == (2000, 520, ("priority",))
    assert [(size.original_width, size.width, size.images) for size in figures.image_sizes] == [(4000, 1200, 2)]


@pytest.mark.parametrize("day", [date.min, date.max])
def test_the_first_and_the_last_day_of_the_calendar_are_days(catalog: Catalog, day: date) -> None:
    (figures,) = catalog.daily_figures(day, day)
    assert (figures.day, figures.proxies_created, figures.calls) == (day, 0, ())
