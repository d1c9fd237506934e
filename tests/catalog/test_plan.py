"""A run's plan, stored once and again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from include.catalog.catalog import Catalog
from include.catalog.errors import UnknownImages, UnknownRun
from include.catalog.records import PlannedBatch, WorkKey
from include.catalog.tables import image_run_items, image_runs
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import ANALYSE, KEY, PROXY, Worker, add, image, new_proxy, plan, process


def test_a_plan_is_stored_with_its_batches(catalog: Catalog, engine: Engine) -> None:
    one, two, three = add(catalog, 3)
    batches = catalog.store_plan(plan("run", [two, one], [three]))
    assert batches == (PlannedBatch(0, 2), PlannedBatch(1, 1))
    assert _items(engine) == {one: (0, None, None), two: (0, None, None), three: (1, None, None)}
    with engine.connect() as connection:
        row = connection.execute(select(image_runs)).one()
    assert (row.run_id, row.dag_id, row.dag_run_id, row.stages) == ("dag/run", "dag", "run", "proxy,analyse")
    assert (row.params, row.force, row.nova_endpoint) == ({"limit": 10}, False, "stand-in")
    assert (row.started_at, row.finished_at, row.note) == (NOON, None, None)


def test_a_run_with_nothing_to_do_is_stored_and_complete(catalog: Catalog) -> None:
    assert catalog.store_plan(plan("run")) == ()
    assert catalog.store_plan(plan("run", [])) == ()
    counts = catalog.run_counts("dag/run")
    assert (counts.listed, counts.undecided, counts.by_outcome) == (0, 0, {})


def test_a_plan_with_unknown_images_stores_nothing(catalog: Catalog) -> None:
    [file_id] = add(catalog)
    with pytest.raises(UnknownImages, match="998, 999") as caught:
        catalog.store_plan(plan("run", [file_id, 998], [999]))
    assert (caught.value.code, caught.value.file_ids) == ("catalog_unknown_images", (998, 999))
    with pytest.raises(UnknownRun, match="dag/run"):
        catalog.run_counts("dag/run")


def test_a_retried_plan_continues_its_batch_ids_and_drops_what_nobody_touched(catalog: Catalog, engine: Engine) -> None:
    one, two, three = add(catalog, 3)
    catalog.store_plan(plan("run", [one], [two]))
    assert catalog.store_plan(plan("run", [two, three])) == (PlannedBatch(2, 2),)
    assert _items(engine) == {two: (2, None, None), three: (2, None, None)}


def test_planning_again_keeps_what_was_decided(catalog: Catalog, engine: Engine) -> None:
    done, half, failed, returned, gone = ids = add(catalog, 5)
    catalog.store_plan(plan("run", ids))
    proxies = Worker(catalog, "run", PROXY)
    for file_id in (done, half, gone):
        proxies.proxy(file_id)
    proxies.fail(failed)
    proxies.put_back(returned)
    Worker(catalog, "run", ANALYSE).analyse(done)
    before = catalog.run_figures("dag/run")
    assert before.undecided == 2
    catalog.finish_run("dag/run", "stopped")

    catalog.release_run("dag/run")
    assert catalog.store_plan(plan("run", [half], [returned])) == (PlannedBatch(1, 1), PlannedBatch(2, 1))

    assert _items(engine) == {
        done: (0, "proxied", "analysed"),
        half: (1, "proxied", None),  # its proxy is not made again, its analysis still has to come
        failed: (0, "failed", None),
        returned: (2, None, None),  # pending, and now planned: undecided
        gone: (0, "proxied", "skipped"),  # another run analysed it, say; its proxy still counts
    }
    figures = catalog.run_figures("dag/run")
    assert (figures.proxies_created, figures.bytes_original) == (3, before.bytes_original)
    assert (figures.undecided, figures.skipped, figures.failed, figures.returned) == (2, 1, 1, 0)
    assert Worker(catalog, "run", PROXY, batch_id=1).held == []
    assert Worker(catalog, "run", ANALYSE, batch_id=1).held == [half]
    assert Worker(catalog, "run", PROXY, batch_id=2).held == [returned]
    assert _run(engine).finished_at is None


def test_what_was_put_back_and_is_not_planned_again_stays_returned(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("run", ids))
    Worker(catalog, "run", PROXY).put_back(ids[0])
    catalog.store_plan(plan("run"))
    assert _items(engine) == {ids[0]: (0, "returned", None)}


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, ("proxied", "analysed")),
        ({"key": WorkKey("recipe-2", KEY.model_id, KEY.prompt_version)}, (None, None)),
        ({"key": WorkKey(KEY.recipe_version, KEY.model_id, "prompt-2")}, ("proxied", None)),
    ],
)
def test_what_was_decided_for_another_key_is_undecided(
    catalog: Catalog, engine: Engine, changes: dict[str, Any], left: tuple[str | None, str | None]
) -> None:
    ids = add(catalog)
    process(catalog, "run", *ids)
    catalog.store_plan(plan("run", ids, **changes))
    assert _items(engine)[ids[0]][1:] == left


def test_what_was_decided_for_other_content_is_undecided(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog)
    process(catalog, "run", *ids)
    catalog.register([image("00000", content_version="content-2")])
    catalog.store_plan(plan("run", ids))
    assert _items(engine)[ids[0]] == (1, None, None)
    worker = Worker(catalog, "run", PROXY, batch_id=1)
    assert worker.claimed.items[0].image.content_version == "content-2"
    assert worker.claimed.items[0].proxy is None


def test_clearing_a_forced_run_repeats_nothing_paid(catalog: Catalog) -> None:
    done, open_ = ids = add(catalog, 2)
    process(catalog, "before", *ids)
    catalog.store_plan(plan("redo", ids, force=True))
    proxies = Worker(catalog, "redo", PROXY)
    assert [(item.proxied, item.analysed) for item in proxies.claimed.items] == [(False, False)] * 2
    assert all(item.proxy is not None for item in proxies.claimed.items)  # there is one, of another run
    for file_id in ids:
        proxies.proxy(file_id, new_proxy(uri=f"s3://proxies/{file_id}-again.jpg"))
    answers = Worker(catalog, "redo", ANALYSE)
    assert [(item.proxied, item.analysed) for item in answers.claimed.items] == [(True, False)] * 2
    answers.analyse(done, "again")

    catalog.release_run("dag/redo")
    [batch] = catalog.store_plan(plan("redo", ids, force=True))  # even if everything were planned again
    assert Worker(catalog, "redo", PROXY, batch.batch_id, "cleared").held == []
    cleared = Worker(catalog, "redo", ANALYSE, batch.batch_id, "cleared")
    assert cleared.held == [open_]
    assert not cleared.claimed.items[0].analysed


def test_finishing_says_when_and_why(catalog: Catalog, engine: Engine, clock: Clock) -> None:
    catalog.store_plan(plan("run"))
    clock.forward(90)
    catalog.finish_run("dag/run", "would cost more than max_cost_usd")
    row = _run(engine)
    assert (row.finished_at - row.started_at).total_seconds() == 90
    assert row.note == "would cost more than max_cost_usd"
    with pytest.raises(UnknownRun):
        catalog.finish_run("dag/other")


def test_a_plan_of_thousands(catalog: Catalog) -> None:
    ids = add(catalog, 2_500)
    batches = catalog.store_plan(plan("run", ids[:1_500], ids[1_500:]))
    assert [batch.size for batch in batches] == [1_500, 1_000]
    worker = Worker(catalog, "run", PROXY, batch_id=0)
    assert worker.held == ids[:1_500]
    assert catalog.release(worker.owner) == 1_500
    catalog.store_plan(plan("run", ids[:10]))
    assert catalog.run_counts("dag/run").listed == 10


def _items(engine: Engine) -> dict[int, tuple[int, str | None, str | None]]:
    with engine.connect() as connection:
        rows = connection.execute(select(image_run_items)).all()
    return {row.file_id: (row.batch_id, row.proxy_outcome, row.analysis_outcome) for row in rows}


def _run(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(image_runs)).one()
