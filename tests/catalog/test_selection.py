"""Which images have work left, and that finding them uses the indexes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, text

from include.catalog import low_water
from include.catalog.catalog import Catalog
from include.catalog.records import Failure, WorkKey
from include.catalog.tables import files, image_analyses, image_proxies
from tests.catalog.conftest import NOON, Clock
from tests.catalog.making import (
    ANALYSE,
    BOTH,
    BROKEN,
    FIRST_UPLOAD,
    KEY,
    LEASE,
    PROXY,
    THROTTLED,
    Worker,
    add,
    image,
    listed,
    plan,
    process,
    selection,
)


def test_only_images_of_the_team_are_listed(catalog: Catalog) -> None:
    """Videos, documents and our own proxies never are, not even when asked for by id or by force."""
    [file_id] = add(catalog)
    process(catalog, "first", file_id)
    others = [image("film", media_type="video/mp4"), image("page", media_type="application/pdf"), image("new")]
    catalog.register([*others, image("trick", media_type="imagery/x")])
    everything = tuple(range(1, 20))
    assert len(listed(catalog)) == 1
    assert len(listed(catalog, file_ids=everything)) == 1
    forced = catalog.select_unprocessed(selection(force=True, file_ids=everything))
    assert [found.filename for found in forced] == ["00000.jpg", "new.jpg"]


def test_oldest_first_within_the_window_up_to_the_limit(catalog: Catalog) -> None:
    late = image("late", uploaded_at=FIRST_UPLOAD + timedelta(minutes=2))
    ids = add(catalog, 5)
    catalog.register([late])
    [tied] = set(listed(catalog)) - set(ids)
    assert listed(catalog) == [*ids[:3], tied, *ids[3:]]  # the same minute: by id
    assert listed(catalog, limit=2) == ids[:2]
    window = {
        "uploaded_from": FIRST_UPLOAD + timedelta(minutes=1),
        "uploaded_to": FIRST_UPLOAD + timedelta(minutes=3),
    }
    assert listed(catalog, **window) == [ids[1], ids[2], tied]  # from is in, to is out
    assert listed(catalog, file_ids=(ids[4], tied, ids[0], 999)) == [ids[0], tied, ids[4]]
    assert listed(catalog, file_ids=(ids[4], ids[0]), limit=1) == [ids[0]]
    assert listed(catalog, file_ids=tuple(range(5_000))) == [*ids[:3], tied, *ids[3:]]
    assert listed(catalog, file_ids=()) == []


def test_what_is_left_depends_on_the_stages(catalog: Catalog) -> None:
    fresh, proxied, done, failed = add(catalog, 4)
    process(catalog, "proxies", proxied, stages=frozenset({PROXY}))
    process(catalog, "all", done)
    catalog.store_plan(plan("bad", [failed]))
    Worker(catalog, "bad", PROXY).fail(failed, BROKEN)
    assert listed(catalog, stages={PROXY}) == [fresh]
    assert listed(catalog, stages={ANALYSE}) == [proxied]
    assert listed(catalog, stages=BOTH) == [fresh, proxied]


@pytest.mark.parametrize(
    ("key", "left"),
    [
        (WorkKey("recipe-2", KEY.model_id, KEY.prompt_version), {"proxy", "both"}),
        (WorkKey(KEY.recipe_version, "another-model", KEY.prompt_version), {"analyse", "both"}),
        (WorkKey(KEY.recipe_version, KEY.model_id, "prompt-2"), {"analyse", "both"}),
        (KEY, set()),
    ],
)
def test_another_key_is_other_work(catalog: Catalog, key: WorkKey, left: set[str]) -> None:
    ids = add(catalog)
    process(catalog, "first", *ids)
    wanted = {"proxy": {PROXY}, "analyse": {ANALYSE}, "both": BOTH}
    assert {name for name, stages in wanted.items() if listed(catalog, key=key, stages=stages) == ids} == left


@pytest.mark.parametrize("stage", [PROXY, ANALYSE])
def test_a_transient_failure_waits_longer_each_time_and_then_for_force(
    catalog: Catalog, clock: Clock, stage: Any
) -> None:
    ids = add(catalog)
    if stage is ANALYSE:
        process(catalog, "before", *ids, stages=frozenset({PROXY}))
    for attempt, minutes in enumerate((10, 30, 90, 270), start=1):
        catalog.store_plan(plan(f"try-{attempt}", ids, stages={stage}))
        Worker(catalog, f"try-{attempt}", stage).fail(ids[0], THROTTLED)
        clock.forward(minutes * 60 - 1)
        assert listed(catalog, stages={stage}) == listed(catalog) == []
        clock.forward(1)
        assert listed(catalog, stages={stage}) == listed(catalog) == ids
    catalog.store_plan(plan("try-5", ids, stages={stage}))
    Worker(catalog, "try-5", stage).fail(ids[0], THROTTLED)
    clock.forward(365 * 24 * 3600)
    assert listed(catalog, stages={stage}) == listed(catalog) == []
    assert listed(catalog, stages={stage}, force=True) == ids


def test_a_permanent_failure_waits_for_force_or_other_content(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog)
    catalog.store_plan(plan("first", ids))
    Worker(catalog, "first", PROXY).fail(ids[0], BROKEN)
    clock.forward(365 * 24 * 3600)
    assert listed(catalog) == []
    assert listed(catalog, force=True) == ids
    catalog.register([image("00000", content_version="repaired")])
    assert listed(catalog) == ids


def test_what_another_run_holds_is_left_out_while_its_lease_lives(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("busy", ids[:1]))
    Worker(catalog, "busy", PROXY)
    assert listed(catalog) == ids[1:]
    assert listed(catalog, force=True) == ids[1:]
    assert listed(catalog, run_id="dag/busy") == ids  # its own holdings are no obstacle
    clock.forward(LEASE)
    assert listed(catalog) == ids


def test_force_takes_what_this_run_has_not_tried(catalog: Catalog) -> None:
    """Clearing a forced run, at any point of it, repeats nothing that was paid."""
    good, bad, refused = ids = add(catalog, 3)
    process(catalog, "before", *ids)
    again: dict[str, Any] = {"run_id": "dag/redo", "force": True}
    assert listed(catalog, **again) == ids
    catalog.store_plan(plan("redo", ids, force=True))
    proxies = Worker(catalog, "redo", PROXY)
    proxies.proxy(good)
    proxies.fail(bad)
    proxies.proxy(refused)
    assert listed(catalog, **again, stages={PROXY}) == []
    assert listed(catalog, **again) == [good, refused]  # a proxy that failed now means no analysis now
    answers = Worker(catalog, "redo", ANALYSE)
    answers.analyse(good)
    answers.fail(refused, Failure("content_filtered", "refused"))
    assert listed(catalog, **again) == []
    assert listed(catalog, run_id="dag/redo-2", force=True) == ids
    process(catalog, "redo-2", good, force=True)
    assert listed(catalog, **again) == []  # superseded by another run since, but redone by this one


def test_force_at_analysis_alone_needs_a_proxy_of_whatever_run(catalog: Catalog) -> None:
    done, bare = add(catalog, 2)
    process(catalog, "before", done)
    again: dict[str, Any] = {"run_id": "dag/redo", "force": True, "stages": frozenset({ANALYSE})}
    assert listed(catalog, **again) == [done]
    process(catalog, "redo", done, stages=frozenset({ANALYSE}), force=True)
    assert listed(catalog, **again) == []
    assert bare in listed(catalog)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("stages", [{PROXY}, {ANALYSE}, BOTH])
def test_the_query_walks_the_listing_index_and_probes_the_others(
    catalog: Catalog, engine: Engine, stages: set[Any], force: bool
) -> None:
    fill(engine, 3_000)
    steps = query_plan(engine, lambda: catalog.select_unprocessed(selection(stages=stages, limit=100, force=force)))
    assert [step for step in steps if "ix_files_listed" in step], steps
    assert_no_step(steps, f"{SORTED}|{READ_WHOLE}")


@pytest.mark.parametrize("stages", [{PROXY}, BOTH])
def test_planning_behind_a_mark_reads_no_table_whole(catalog: Catalog, engine: Engine, stages: set[Any]) -> None:
    fill(engine, 3_000, new_from=2_000)
    wanted = selection(stages=stages, limit=100)
    first = catalog.select_unprocessed(wanted)  # sets the mark
    steps = query_plan(engine, lambda: catalog.select_unprocessed(wanted))
    assert catalog.select_unprocessed(wanted) == first
    assert [step for step in steps if "image_proxies_retry" in step], steps
    assert_no_step(steps, READ_WHOLE)


@pytest.mark.parametrize("stages", [{PROXY}, BOTH])
def test_planning_behind_a_mark_walks_up_to_the_limit_however_much_is_left(
    catalog: Catalog, engine: Engine, stages: set[Any]
) -> None:
    """Where PostgreSQL expects few rows behind the mark it reads them all and sorts them, for a limit of a fifth."""
    fill(engine, 3_000, new_from=2_500, every=1)
    wanted = selection(stages=stages, limit=100)
    catalog.select_unprocessed(wanted)  # sets the mark
    steps = query_plan(engine, lambda: catalog.select_unprocessed(wanted), of="files.uri")
    assert [step for step in steps if "uploaded_at" in step and ">" in step], steps  # behind the mark
    assert_no_step(steps, f"{SORTED}|{READ_WHOLE}")


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("stages", [{PROXY}, BOTH])
def test_what_is_done_below_no_mark_or_a_forgotten_one_is_passed_by_its_keys(
    catalog: Catalog, engine: Engine, stages: set[Any], forgotten: bool
) -> None:
    """SQLite joins by the unique indexes; without them it would read a whole table for each image."""
    fill(engine, 3_000, new_from=2_500, every=1)
    wanted = selection(stages=stages, limit=100)
    first = catalog.select_unprocessed(replace(wanted, keep_mark=forgotten))
    assert [found.file_id for found in first] == list(range(2_500, 2_600))
    with engine.begin() as connection:
        low_water.forget(connection, NOON)
    assert catalog.select_unprocessed(replace(wanted, keep_mark=False)) == first
    steps = query_plan(engine, lambda: catalog.select_unprocessed(wanted), of="LEFT OUTER JOIN image_proxies")
    assert_no_step(steps, "AUTOMATIC|SCAN image_")


def test_what_somebody_holds_is_found_by_the_claims(catalog: Catalog, engine: Engine) -> None:
    fill(engine, 3_000)
    steps = query_plan(engine, lambda: catalog.select_unprocessed(selection(limit=10)), of=OF_CLAIMS)
    assert_no_step(steps, f"{READ_WHOLE}|SCAN files")


OF_CLAIMS = "(SELECT image_claims.file_id"
SORTED = r"\bSort\b|TEMP B-TREE"
READ_WHOLE = r"Seq Scan|SCAN (?!.*USING)"


def assert_no_step(steps: list[str], unwanted: str) -> None:
    """Claims and marks are few, here none, so that their tables may well be read."""
    whole = [step for step in steps if re.search(unwanted, step)]
    small = ("image_claims", "image_low_water_marks", "sqlite_autoindex_image_low_water_marks_1")
    assert [step for step in whole if not any(name in step for name in small)] == [], steps


def query_plan(engine: Engine, run: Callable[[], object], of: str = "") -> list[str]:
    """The plans of the statements that were really sent, with their parameters: of those with these words, or of all
    but some."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    run()
    event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    # Claims are as many as images in work: what begins with them may well sort them. A count of two thirds of so small
    # a table is rightly read from the table.
    allowed = (OF_CLAIMS, "count(*)", "image_table_mapping", "FROM image_runs")
    selects = [pair for pair in sent if pair[0].startswith(("SELECT", "WITH")) and of in pair[0]]
    if not of:
        selects = [pair for pair in selects if not any(word in pair[0] for word in allowed)]
    assert selects
    with engine.connect() as connection:
        return [
            str(row[-1])
            for statement, parameters in selects
            for row in connection.exec_driver_sql(explain + statement, parameters)
        ]


def fill(engine: Engine, count: int, new_from: int = 0, every: int = 10) -> None:
    """From `new_from` on, every tenth image is new; the others are done, as in a catalog that has been in use.

    Without `new_from` the oldest is new too, so that no mark can stand anywhere.
    """
    numbers = [n for n in range(1, count + 1) if (n - max(new_from, 1)) % every or n < new_from]
    common = {"content_version": "content-1", "recipe_version": KEY.recipe_version, "attempts": 1, "run_id": "dag/old"}
    with engine.begin() as connection:
        rows = [
            {
                "id": n,
                "uri": f"s3://pictures/{n}.jpg",
                "filename": f"{n}.jpg",
                "media_type": "image/jpeg",
                "size_bytes": 1,
                "is_proxy": False,
                "content_version": "content-1",
                "uploaded_at": FIRST_UPLOAD + timedelta(seconds=n),
            }
            for n in range(1, count + 1)
        ]
        connection.execute(insert(files), rows)
        proxies = [{"file_id": n, "status": "proxied", "created_at": NOON, **common} for n in numbers]
        connection.execute(insert(image_proxies), proxies)
        key = {"model_id": KEY.model_id, "prompt_version": KEY.prompt_version}
        analyses = [{"file_id": n, "status": "analysed", "created_at": NOON, **common, **key} for n in numbers]
        connection.execute(insert(image_analyses), analyses)
        connection.execute(text("ANALYZE"))
