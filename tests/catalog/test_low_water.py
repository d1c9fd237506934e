"""Planning begins behind what is done, and yet nothing that has work left is ever overlooked."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, insert, select, update

from include.catalog import low_water
from include.catalog.catalog import Catalog
from include.catalog.engine import prepare
from include.catalog.records import Failure, SourceImage, WorkKey
from include.catalog.tables import files, image_analyses, image_low_water_marks, image_proxies
from tests.catalog.conftest import Clock
from tests.catalog.making import (
    ANALYSE,
    BOTH,
    BROKEN,
    FIRST_UPLOAD,
    KEY,
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

NOW = FIRST_UPLOAD + timedelta(days=3)


@pytest.fixture(autouse=True)
def every_image_is_worth_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_water, "WORTH_WRITING", 1)


@pytest.fixture
def ids(catalog: Catalog) -> list[int]:
    """Six images, of which the first four are done, and a mark behind these."""
    ids = add(catalog, 6)
    process(catalog, "first", *ids[:4])
    assert listed(catalog) == ids[4:]
    return ids


def mark(engine: Engine) -> Any:
    both = image_low_water_marks.c.stages == "proxy,analyse"
    with engine.connect() as connection:
        return connection.execute(select(image_low_water_marks).where(both)).one_or_none()


def test_the_mark_stands_behind_what_is_done_and_moves_on(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    assert (mark(engine).file_id, mark(engine).listed) == (ids[3], 4)
    process(catalog, "second", *ids[4:])
    assert listed(catalog) == []
    assert (mark(engine).file_id, mark(engine).listed, mark(engine).id_sum) == (ids[5], 6, sum(ids))


def test_a_first_plan_lists_the_same_images_whatever_was_done_before(catalog: Catalog, engine: Engine) -> None:
    """Where a mark may stand is guessed then, once the oldest image is done: here however the three after it were left.

    Each way is a recipe of its own.
    """
    ids = add(catalog, 4)
    ways = {
        WorkKey(f"recipe-{number}", KEY.model_id, KEY.prompt_version): ("analysed", *states)
        for number, states in enumerate(product(("new", "proxied", "analysed"), repeat=3))
    }
    leave(engine, ids, ways)
    for key, states in ways.items():
        left = [file_id for file_id, state in zip(ids, states, strict=True) if state != "analysed"]
        assert listed(catalog, key=key, limit=2) == left[:2], states
        assert listed(catalog, key=key, limit=2) == left[:2], states  # behind the mark that this left


def leave(engine: Engine, ids: list[int], ways: dict[WorkKey, tuple[str, ...]]) -> None:
    """The images with a proxy, a proxy and an analysis, or nothing, for each key."""
    common = {"content_version": "content-1", "attempts": 1, "run_id": "dag/old", "created_at": NOW}
    left = [(key, *pair) for key, states in ways.items() for pair in zip(ids, states, strict=True)]
    proxies = [
        {"file_id": file_id, "recipe_version": key.recipe_version, "status": "proxied", **common}
        for key, file_id, state in left
        if state != "new"
    ]
    analyses = [
        {"file_id": file_id, "status": "analysed", **asdict(key), **common}
        for key, file_id, state in left
        if state == "analysed"
    ]
    with engine.begin() as connection:
        connection.execute(insert(image_proxies), proxies)
        connection.execute(insert(image_analyses), analyses)


def test_what_is_done_is_not_looked_at_again(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    """Shown on a row that no longer says what was done: only a walk past it would see that."""
    with engine.begin() as connection:
        connection.execute(update(image_proxies).where(image_proxies.c.file_id == ids[0]).values(superseded_at=NOW))
    assert listed(catalog) == ids[4:]
    with engine.begin() as connection:
        low_water.forget(connection, NOW)
    assert listed(catalog) == [ids[0], *ids[4:]]


def test_a_late_row_is_found(catalog: Catalog, ids: list[int]) -> None:
    catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
    late, *others = listed(catalog)
    assert late not in ids
    assert others == ids[4:]


def test_a_late_row_leaves_the_mark_where_it_is(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    """Lowered, it would have the next plan walk past everything between, row by row."""
    catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
    late, *_ = listed(catalog)
    assert (mark(engine).file_id, mark(engine).listed) == (ids[3], 4)
    process(catalog, "second", late)
    assert listed(catalog) == ids[4:]
    assert (mark(engine).file_id, mark(engine).listed) == (ids[3], 5)


@pytest.mark.parametrize("changed", [1, 0])
def test_a_mark_is_lowered_when_much_below_is_to_be_done_again(
    catalog: Catalog, engine: Engine, ids: list[int], changed: int
) -> None:
    """Else each plan would look at all of it for the few that one run takes."""
    again = range(changed, 4)
    uploads = [(n, FIRST_UPLOAD + timedelta(minutes=n)) for n in again]
    catalog.register([image(f"{n:05}", content_version="content-2", uploaded_at=at) for n, at in uploads])
    assert listed(catalog, limit=2) == [ids[n] for n in again[:2]]
    assert mark(engine).listed == changed
    assert listed(catalog, limit=2) == [ids[n] for n in again[:2]]
    process(catalog, "second", *(ids[n] for n in again))
    assert listed(catalog, limit=2) == ids[4:]
    assert (mark(engine).file_id, mark(engine).listed) == (ids[3], 4)


def test_a_late_row_in_place_of_a_deleted_one_is_found(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
    with engine.begin() as connection:
        connection.execute(delete(files).where(files.c.source_file_id == ids[0]))
        connection.execute(delete(files).where(files.c.id == ids[0]))
    assert len(listed(catalog)) == 3


def test_changed_content_is_found_even_under_its_old_upload_time(catalog: Catalog, ids: list[int]) -> None:
    catalog.register([image("00001", content_version="content-2", uploaded_at=FIRST_UPLOAD + timedelta(minutes=1))])
    assert listed(catalog) == [ids[1], *ids[4:]]


def test_a_row_that_comes_between_the_count_and_the_walk_is_found_by_the_next_plan(
    catalog: Catalog, engine: Engine, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when this plan moves the mark on: what that counts is what was walked, and not what came meanwhile."""
    process(catalog, "second", ids[4])
    with monkeypatch.context() as counted_before:
        counted_before.setattr(low_water, "holds", lambda _store, _mark: True)
        catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
        assert listed(catalog) == ids[5:]
    assert mark(engine).file_id == ids[4]
    late, *others = listed(catalog)
    assert late not in ids
    assert others == ids[5:]


def test_a_row_that_moves_between_the_walk_and_the_count_is_found_by_the_next_plan(
    catalog: Catalog, engine: Engine, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walked it lay below the mark, counted above it; where it lies then is below the new one."""
    process(catalog, "second", ids[4])
    catalog.register([image("moving", uploaded_at=FIRST_UPLOAD)])
    with monkeypatch.context() as counted_later:
        counted_later.setattr(low_water, "holds", lambda _store, _mark: True)
        assert listed(catalog) == ids[5:]
    moved = update(files).where(files.c.filename == "moving.jpg")
    with engine.begin() as connection:
        connection.execute(moved.values(uploaded_at=FIRST_UPLOAD + timedelta(minutes=3, seconds=30)))
    assert mark(engine).file_id == ids[4]
    moving, *others = listed(catalog)
    assert moving not in ids
    assert others == ids[5:]


def test_a_pool_of_one_connection_is_enough(catalog: Catalog, engine: Engine, clock: Clock, ids: list[int]) -> None:
    """The mark is counted on a connection of its own, which may have to wait for the walk's."""
    small = prepare(create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=10))
    assert listed(Catalog(small, clock=clock)) == ids[4:]
    small.dispose()


def test_a_count_that_fails_fails_the_planning_and_leaves_no_connection_behind(
    catalog: Catalog, engine: Engine, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an outage would look like a mark that holds."""

    def lost(*_: Any) -> Any:
        raise ConnectionError("the database went away")

    with monkeypatch.context() as outage:
        outage.setattr(low_water, "count", lost)
        with pytest.raises(ConnectionError, match="went away"):
            listed(catalog, keep_mark=False)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert listed(catalog) == ids[4:]


class TooDear(Exception):
    """What an appraisal may raise: these images cost too much."""


def appraised(catalog: Catalog, dear: int | None = None, limit: int | None = None) -> tuple[list[int], list[list[int]]]:
    """The images as the plan gets them, and each list that it was shown; an image that is `dear` makes it raise."""
    shown: list[list[int]] = []

    def appraise(images: list[SourceImage]) -> list[int]:
        shown.append([image.file_id for image in images])
        if dear in shown[-1]:
            raise TooDear(shown)
        return shown[-1]

    return catalog.appraise_unprocessed(selection(limit=limit), appraise), shown


def test_images_are_appraised_once_where_the_mark_holds(catalog: Catalog, ids: list[int]) -> None:
    assert appraised(catalog) == (ids[4:], [ids[4:]])


def test_images_are_appraised_anew_where_the_mark_does_not_hold(catalog: Catalog, ids: list[int]) -> None:
    """The first appraisal is done by then, and of a list without the late image."""
    catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
    found, shown = appraised(catalog)
    assert shown == [ids[4:], found]
    assert len(found) == 3


def test_a_refusal_counts_only_of_the_right_list(catalog: Catalog, ids: list[int]) -> None:
    with pytest.raises(TooDear):
        appraised(catalog, dear=ids[4], limit=1)
    catalog.register([image("late", uploaded_at=FIRST_UPLOAD)])
    (late,), shown = appraised(catalog, dear=ids[4], limit=1)
    assert shown == [[ids[4]], [late]]


def test_a_change_behind_our_back_is_found_within_a_day(
    catalog: Catalog, engine: Engine, clock: Clock, ids: list[int]
) -> None:
    with engine.begin() as connection:
        connection.execute(update(files).where(files.c.id == ids[2]).values(content_version="content-2"))
    assert listed(catalog) == ids[4:]
    clock.forward(low_water.MAX_AGE.total_seconds())
    assert listed(catalog) == [ids[2], *ids[4:]]


def test_a_mark_that_moves_on_does_not_put_off_the_daily_walk(
    catalog: Catalog, engine: Engine, clock: Clock, ids: list[int]
) -> None:
    """In a catalog in use it moves every hour; what lies below it is walked once a day all the same."""
    with engine.begin() as connection:
        connection.execute(update(files).where(files.c.id == ids[2]).values(content_version="content-2"))
    clock.forward(low_water.MAX_AGE.total_seconds() / 2)
    process(catalog, "second", ids[4])
    assert listed(catalog) == ids[5:]
    assert mark(engine).file_id == ids[4]
    clock.forward(low_water.MAX_AGE.total_seconds() / 2)
    assert listed(catalog) == [ids[2], *ids[5:]]


def test_a_lost_proxy_is_made_again(catalog: Catalog, ids: list[int]) -> None:
    catalog.store_plan(plan("analyse", ids[:1], stages={ANALYSE}, force=True))
    worker = Worker(catalog, "analyse", ANALYSE)
    catalog.record_missing_proxy(worker.run_id, worker.owner, ids[0], message="404")
    assert listed(catalog, stages={PROXY}) == [ids[0], *ids[4:]]
    assert listed(catalog) == [ids[0], *ids[4:]]


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("stage", [PROXY, ANALYSE])
def test_a_retry_is_found_when_it_is_due(
    catalog: Catalog, clock: Clock, engine: Engine, stage: Any, forgotten: bool
) -> None:
    ids = add(catalog, 3)
    catalog.store_plan(plan("first", ids))
    proxies = Worker(catalog, "first", PROXY)
    for file_id in proxies.held:
        if stage is PROXY and file_id == ids[0]:
            proxies.fail(file_id, THROTTLED)
        else:
            proxies.proxy(file_id)
    answers = Worker(catalog, "first", ANALYSE)
    for file_id in answers.held:
        if file_id == ids[0]:
            answers.fail(file_id, Failure("image_unreadable", "try later", transient=True))
        else:
            answers.analyse(file_id)
    assert listed(catalog) == []
    assert mark(engine).file_id == ids[2]
    clock.forward(600)
    if forgotten:
        with engine.begin() as connection:
            low_water.forget(connection, clock())
    assert listed(catalog) == ids[:1]


def test_a_refused_image_that_a_forced_run_brings_back_can_be_analysed(catalog: Catalog, engine: Engine) -> None:
    ids = add(catalog, 2)
    catalog.store_plan(plan("first", ids))
    proxies = Worker(catalog, "first", PROXY)
    proxies.fail(ids[0], BROKEN)
    proxies.proxy(ids[1])
    Worker(catalog, "first", ANALYSE).analyse(ids[1])
    assert listed(catalog) == []
    assert mark(engine).file_id == ids[1]
    process(catalog, "forced", ids[0], stages=frozenset({PROXY}), force=True)
    assert listed(catalog) == ids[:1]


def test_no_mark_passes_an_image_that_somebody_holds(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 3)
    catalog.store_plan(plan("held", ids[:1]))
    Worker(catalog, "held", PROXY)
    process(catalog, "others", *ids[1:])
    assert listed(catalog) == []
    clock.forward(3600)  # the holder was killed
    assert listed(catalog) == ids[:1]


def test_an_earlier_window_is_walked_without_the_mark(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    with engine.begin() as connection:
        connection.execute(update(image_proxies).where(image_proxies.c.file_id == ids[0]).values(superseded_at=NOW))
    assert listed(catalog, uploaded_to=FIRST_UPLOAD + timedelta(minutes=2)) == ids[:1]


def test_an_image_without_a_proxy_is_found_by_an_analysing_run_once_it_has_one(catalog: Catalog) -> None:
    ids = add(catalog, 2)
    assert listed(catalog, stages={ANALYSE}) == []
    process(catalog, "proxies", *ids, stages=frozenset({PROXY}))
    assert listed(catalog, stages={ANALYSE}) == ids


def test_a_dry_run_leaves_no_mark(catalog: Catalog, engine: Engine) -> None:
    process(catalog, "first", *add(catalog, 2))
    assert listed(catalog, keep_mark=False, stages=BOTH) == []
    assert mark(engine) is None


def test_a_mark_that_was_forgotten_meanwhile_is_not_written(catalog: Catalog, engine: Engine, ids: list[int]) -> None:
    """The planner read everything as done; before it wrote its mark, somebody undid some of it."""
    process(catalog, "second", *ids[4:])
    wanted = selection()
    with engine.connect() as reader:
        seen = low_water.load_mark(reader, wanted, FIRST_UPLOAD)
        further = low_water.advance(reader, wanted, seen, None, lower=False)
    assert further is not None
    with engine.begin() as connection:
        low_water.forget(connection, NOW)
        low_water.keep(connection, wanted, further, NOW + timedelta(seconds=1))
    assert mark(engine).listed == -1
