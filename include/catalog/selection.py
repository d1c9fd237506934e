"""Which images have something left to do. The rows themselves are the cursor; nothing else remembers a position."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
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

TODO = "todo"
HAS_PROXY = (Outcome.PROXIED.value, Outcome.KEPT.value)


def select_unprocessed(store: Store, selection: Selection) -> list[SourceImage]:
    """Images with work left at the wanted stages, oldest upload first.

    Left out: what is done, what failed for good or is not yet due again, what another run holds right now, and
    everything that is not an image of the team's. Under `force`: everything in the window that this run has not tried.
    """
    now = store.now()
    run = stored_run(store, selection.run_id) if selection.force else None
    with store.snapshot() as connection:
        if selection.file_ids is not None:
            return _among(connection, selection, now, selection.file_ids, run)
        # A mapped table changes under us in ways that no count tells.
        if store.mapped or not low_water.applies_to(selection):
            return _listed(connection, unprocessed(selection, now, run=run))
        mark = low_water.load_mark(connection, selection, now)
        start = mark.position if mark and mark.usable else None
        images = _listed(connection, unprocessed(selection, now, beyond=start))
        first = low_water.Position(images[0].uploaded_at, images[0].file_id) if images else None
        if start is not None:
            retries = _among(connection, selection, now, _retries(connection, selection, now))
            images = _oldest([*images, *retries], selection)
        further = low_water.advance(connection, selection, mark, first) if selection.keep_mark else None
    if further is not None:
        with store.writing() as connection:
            low_water.keep(connection, selection, further, now)
    return images


def _among(
    connection: Connection, selection: Selection, now: datetime, file_ids: Sequence[int], run: Run | None = None
) -> list[SourceImage]:
    found: list[SourceImage] = []
    for ids in chunks(sorted(set(file_ids))):
        found += _listed(connection, unprocessed(selection, now, ids, run=run))
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
    now: datetime,
    file_ids: Sequence[int] | None = None,
    beyond: low_water.Position | None = None,
    run: Run | None = None,
) -> Select[tuple[object, ...]]:
    """The query: it walks `files` by (uploaded_at, id) and looks each image up in the indexes of current rows.

    `run` is the stored run of this id, under `force`: what it has redone so far is left out.
    """
    work = _forced(selection, run, now) if selection.force else _undone(selection, now)
    query = select(*SOURCE_COLUMNS).where(is_source(), _free(selection.run_id, now), work)
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
    current = select(status).where(key, table.c.superseded_at.is_(None)).correlate(files)
    return func.coalesce(current.scalar_subquery(), TODO)
