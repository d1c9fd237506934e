"""Which images have something left to do. The rows themselves are the cursor; nothing else remembers a position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Table,
    and_,
    case,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
)

from include.catalog import low_water
from include.catalog.records import Outcome, Selection, SourceImage, Stage
from include.catalog.runs import Run, redone, stored_run
from include.catalog.store import (
    SOURCE_COLUMNS,
    Store,
    analysis_key,
    chunks,
    is_source,
    proxy_key,
    source_image,
)
from include.catalog.tables import files, image_analyses, image_claims, image_proxies, image_run_items

T = TypeVar("T")

TODO = "todo"
BISECTIONS = 20  # of the time since the oldest upload: to a minute in two years
HAS_PROXY = (Outcome.PROXIED.value, Outcome.KEPT.value)


def select_unprocessed(store: Store, selection: Selection) -> list[SourceImage]:
    """Images with work left at the wanted stages, oldest upload first.

    Left out: what is done, what failed for good or is not yet due again, what another run holds right now, and
    everything that is not an image of the team's. Under `force`: everything in the window that this run has not tried.
    """
    return appraise_unprocessed(store, selection, lambda images: images)


def appraise_unprocessed(store: Store, selection: Selection, appraise: Callable[[list[SourceImage]], T]) -> T:
    """What `appraise` makes of the images that `select_unprocessed` returns; what it raises is raised here.

    It looks at them while the low-water mark is still being counted, which takes longer than the walk from the mark on,
    and a second time where the mark does not hold: it must not write.
    """
    now = store.now()
    # A mapped table changes under us in ways that no count tells.
    if store.mapped or not low_water.applies_to(selection):
        return appraise(_listed_afresh(store, selection, now))
    with store.reading() as connection:
        mark = low_water.load_mark(connection, selection, now)
    found = None
    if mark is not None and mark.usable:
        found = _found_behind(store, selection, now, mark, appraise)
        mark = replace(mark, usable=found is not None)
    further, appraised = found or _found(store, selection, now, mark, appraise)
    if further is not None:
        with store.writing() as connection:
            low_water.keep(connection, selection, further, now)
    return appraised.result()


def _listed_afresh(store: Store, selection: Selection, now: datetime) -> list[SourceImage]:
    """Every image of the window is looked at."""
    run = stored_run(store, selection.run_id) if selection.force else None
    with store.snapshot() as connection:
        if selection.file_ids is not None:
            return _among(connection, selection, now, selection.file_ids, run)
        return _listed(connection, unprocessed(selection, _work(selection, run, now), now))


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a walk found, and where the low-water mark may stand after it."""

    images: list[SourceImage]
    further: low_water.Advance | None


def _found_behind(
    store: Store, selection: Selection, now: datetime, mark: low_water.Mark, appraise: Callable[[list[SourceImage]], T]
) -> tuple[low_water.Advance | None, Future[T]] | None:
    """What there is from the mark on; None when the mark does not hold, which is counted meanwhile.

    The two read different snapshots. A row that came or moved below the mark between them may be missed now, as if it
    had come a moment after both. It is not missed for good: a mark that is written after this walk counts what the old
    one counted and what was walked, so that the next count tells of any other row below it.

    A thread, since the count takes as long as the walk and both databases do it beside. Neither waits for the other
    while it has a connection, so that a pool of one makes them take turns.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        holds = beside.submit(low_water.holds, store, mark)
        found = _found(store, selection, now, mark, appraise)
    return found if holds.result() else None


def _found(
    store: Store,
    selection: Selection,
    now: datetime,
    mark: low_water.Mark | None,
    appraise: Callable[[list[SourceImage]], T],
) -> tuple[low_water.Advance | None, Future[T]]:
    """Where the mark may stand after a walk, and what was made of the images: a value, or what was raised."""
    walk, appraised = _walk(store, selection, now, mark), Future[T]()
    try:
        appraised.set_result(appraise(walk.images))
    except Exception as error:
        appraised.set_exception(error)
    return walk.further, appraised


def _walk(store: Store, selection: Selection, now: datetime, mark: low_water.Mark | None) -> _Walk:
    """List in upload order: from the mark on, or from where one may be; below that too, unless it is a usable mark."""
    work, below = _unmade(selection, now), list[SourceImage]()
    with store.snapshot() as connection:
        place = mark.position if mark else _last_done(connection, selection, now)
        images = _listed(connection, unprocessed(selection, work, now, beyond=place))
        if place is not None and not (mark and mark.usable):
            below = _listed(connection, unprocessed(selection, work, now, _lacking(selection, place)))
            images = _oldest([*below, *images], selection)
        first = low_water.Position(images[0].uploaded_at, images[0].file_id) if images else None
        retries = _among(connection, selection, now, _retries(connection, selection, now))
        further = None
        if selection.keep_mark:
            lower = len(below) == selection.limit  # then a walk from there on ends as soon, and looks at less
            further = low_water.advance(connection, selection, mark, first, lower=lower)
    return _Walk(_oldest([*images, *retries], selection), further)


def _last_done(connection: Connection, selection: Selection, now: datetime) -> low_water.Position | None:
    """Where a mark would stand if all images had been taken in order; None when the oldest one has work left.

    A guess by bisection, since nothing but a walk knows for sure. A wrong one makes the listing slower, not other: what
    is done below it is joined, what is done behind it is looked up image by image.
    """
    walk = select(files.c.uploaded_at, files.c.id, _unmade(selection, now).label("undone")).where(is_source())
    walk = walk.order_by(files.c.uploaded_at, files.c.id).limit(1)
    done, end = connection.execute(walk).one_or_none(), selection.uploaded_to or now
    if done is None or done.undone:
        return None
    for _ in range(BISECTIONS):
        middle = done.uploaded_at + (end - done.uploaded_at) / 2
        image = connection.execute(walk.where(files.c.uploaded_at >= middle)).one_or_none()
        if image is None or image.undone:
            end = middle
        else:
            done = image
    return low_water.Position(done.uploaded_at, done.id)


def _lacking(selection: Selection, position: low_water.Position) -> Select[tuple[int]]:
    """Images at or below the position of which a row is missing: few, as nearly all of them are done.

    A join on purpose, where the walk looks up each image: PostgreSQL reads both sides in order, in half the time.
    """
    key = proxy_key(files.c.id, files.c.content_version, selection.key)
    joined = files.outerjoin(image_proxies, and_(key, image_proxies.c.superseded_at.is_(None)))
    missing = [image_proxies.c.file_id.is_(None)]
    if Stage.ANALYSE in selection.stages:
        key = analysis_key(files.c.id, files.c.content_version, selection.key)
        joined = joined.outerjoin(image_analyses, and_(key, image_analyses.c.superseded_at.is_(None)))
        missing.append(image_analyses.c.file_id.is_(None))
    found = select(files.c.id).select_from(joined).where(is_source(), low_water.until(position), or_(*missing))
    if selection.uploaded_to is not None:
        found = found.where(files.c.uploaded_at < selection.uploaded_to)
    return found.correlate(None)


def _among(
    connection: Connection, selection: Selection, now: datetime, file_ids: Sequence[int], run: Run | None = None
) -> list[SourceImage]:
    found: list[SourceImage] = []
    for ids in chunks(sorted(set(file_ids))):
        found += _listed(connection, unprocessed(selection, _work(selection, run, now), now, ids))
    return _oldest(found, selection)


def _oldest(images: Sequence[SourceImage], selection: Selection) -> list[SourceImage]:
    by_id = {image.file_id: image for image in images}
    return sorted(by_id.values(), key=lambda image: (image.uploaded_at, image.file_id))[: selection.limit]


def _retries(connection: Connection, selection: Selection, now: datetime) -> list[int]:
    """Images whose failure is due again for this key, longest due first."""
    p, a, key = image_proxies.c, image_analyses.c, selection.key
    tables = {image_proxies: [p.recipe_version == key.recipe_version]}
    if Stage.ANALYSE in selection.stages:
        same = [a.recipe_version == key.recipe_version, a.model_id == key.model_id]
        tables[image_analyses] = [*same, a.prompt_version == key.prompt_version]
    found: list[int] = []
    for table, of_key in tables.items():
        due = [table.c.superseded_at.is_(None), table.c.next_try_at <= now, *of_key]
        query = select(table.c.file_id).where(*due).order_by(table.c.next_try_at).limit(selection.limit)
        found += connection.scalars(query)
    return found


def _listed(connection: Connection, query: Select[tuple[object, ...]]) -> list[SourceImage]:
    return [source_image(row) for row in connection.execute(query)]


def unprocessed(
    selection: Selection,
    work: ColumnElement[bool],
    now: datetime,
    file_ids: Sequence[int] | Select[tuple[int]] | None = None,
    beyond: low_water.Position | None = None,
) -> Select[tuple[object, ...]]:
    """The query: it walks `files` by (uploaded_at, id) and looks each image up in the indexes of current rows.

    `work` says of an image that it has some left. It stands first: SQLite asks in this order, and most have none.
    """
    query = select(*SOURCE_COLUMNS).where(is_source(), work, _free(selection.run_id, now))
    if beyond is not None:
        query = query.where(low_water.beyond(beyond))
    if file_ids is not None:
        query = query.where(files.c.id.in_(file_ids))
    if selection.planned_before:
        item = image_run_items.c
        query = query.where(exists().where(item.run_id == selection.run_id, item.file_id == files.c.id))
    if selection.uploaded_from is not None:
        query = query.where(files.c.uploaded_at >= selection.uploaded_from)
    if selection.uploaded_to is not None:
        query = query.where(files.c.uploaded_at < selection.uploaded_to)
    return query.order_by(files.c.uploaded_at, files.c.id).limit(selection.limit)


def _free(run_id: str, now: datetime) -> ColumnElement[bool]:
    """No other run holds the image with a live lease."""
    c = image_claims.c
    return not_(exists().where(c.file_id == files.c.id, c.run_id != run_id, c.lease_until > now))


def _work(selection: Selection, run: Run | None, now: datetime) -> ColumnElement[bool]:
    """Something left to do. `run` is the stored run of this id: what it has redone so far is left out under `force`."""
    return _forced(selection, run, now) if selection.force else _undone(selection, now)


def _unmade(selection: Selection, now: datetime) -> ColumnElement[bool]:
    """The same as `_undone` but for failures that are due again and hide nothing: those are in `_retries`.

    What is done is passed by its keys in the unique indexes, at half the cost: its rows themselves are not read. One
    CASE on purpose: PostgreSQL expects a bare IS NULL to be true of very few, and would sort what it finds instead of
    walking up to the limit.
    """
    no_proxy = _current(image_proxies, true(), proxy_key(files.c.id, files.c.content_version, selection.key)).is_(None)
    if selection.stages == {Stage.PROXY}:
        return case((no_proxy, true()), else_=false())
    same = analysis_key(files.c.id, files.c.content_version, selection.key)
    tried = _current(image_analyses, true(), same).is_not(None)
    failed = _proxy_state(selection, now) == Outcome.FAILED.value
    return case((no_proxy, true()), (or_(tried, failed), false()), else_=true())


def _undone(selection: Selection, now: datetime) -> ColumnElement[bool]:
    """An analysis needs a proxy, so an image whose proxy failed has nothing left to do until the proxy's next try."""
    proxy = _proxy_state(selection, now)
    analysis = _state(image_analyses, analysis_key(files.c.id, files.c.content_version, selection.key), now)
    if selection.stages == {Stage.PROXY}:
        return proxy == TODO
    if selection.stages == {Stage.ANALYSE}:
        return and_(proxy.in_(HAS_PROXY), analysis == TODO)
    return case({TODO: true(), Outcome.FAILED.value: false()}, value=proxy, else_=analysis == TODO)


def _forced(selection: Selection, run: Run | None, now: datetime) -> ColumnElement[bool]:
    """Not yet tried by this run since it was forced. Its rows that were superseded since count too: this run did (and
    paid) them."""
    p = image_proxies.c
    proxies = and_(_own(image_proxies, run), proxy_key(files.c.id, files.c.content_version, selection.key))
    analyses = and_(_own(image_analyses, run), analysis_key(files.c.id, files.c.content_version, selection.key))
    tried, analysed = exists().where(proxies), exists().where(analyses)
    if selection.stages == {Stage.PROXY}:
        return not_(tried)
    state = _proxy_state(selection, now)
    if selection.stages == {Stage.ANALYSE}:
        return and_(state.in_(HAS_PROXY), not_(analysed))
    if not selection.force_proxies:
        return and_(or_(state != Outcome.FAILED.value, not_(tried)), not_(analysed))
    made = exists().where(proxies, p.status != Outcome.FAILED.value)
    return or_(not_(tried), and_(made, not_(analysed)))


def _own(table: Table, run: Run | None) -> ColumnElement[bool]:
    """What the run has redone: nothing, as long as it is not stored as a forced one."""
    return redone(table, run) if run is not None and run.force else table.c.run_id.is_(None)


def _proxy_state(selection: Selection, now: datetime) -> ColumnElement[str]:
    return _state(image_proxies, proxy_key(files.c.id, files.c.content_version, selection.key), now)


def _state(table: Table, key: ColumnElement[bool], now: datetime) -> ColumnElement[str]:
    """The status of the image's current row, or TODO where there is none or a failure's next try is due.

    A scalar subquery on purpose: it can only be answered by one probe of the unique index for each image walked, while
    PostgreSQL may answer an EXISTS by reading the whole table first, even for a window of ten images.
    """
    status = case((table.c.next_try_at <= now, TODO), else_=table.c.status)
    return func.coalesce(_current(table, status, key), TODO)


def _current(table: Table, value: ColumnElement[T], key: ColumnElement[bool]) -> ScalarSelect[T]:
    """A value of the image's current row; null where there is none."""
    return select(value).where(key, table.c.superseded_at.is_(None)).correlate(files).scalar_subquery()
