"""What people look at: pages of images, and one image in full. Reading only.

A page is cut by key, not by offset, so the thousandth costs what the first does. The state of a page's images is asked
for its ids only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, exists, false, func, not_, or_, select

from include.catalog.browse_records import (
    AnalysisEntry,
    AttemptEntry,
    ClaimEntry,
    Cursor,
    FileCost,
    FileDetail,
    FileEntry,
    FileFilter,
    FilePage,
    FileRun,
    ImageStatus,
    ItemOutcomes,
    PreviewRecord,
    ProxyEntry,
)
from include.catalog.records import Outcome, Stage, WorkKey
from include.catalog.runs import COLUMNS_OF
from include.catalog.store import SOURCE_COLUMNS, Store, analysis_key, proxy_key
from include.catalog.tables import (
    files,
    image_analyses,
    image_attempts,
    image_claims,
    image_previews,
    image_proxies,
    image_run_items,
    image_runs,
)

HISTORY = 50  # rows of each of an image's histories

Entry = TypeVar("Entry")
_f, _p, _a, _c = files.c, image_proxies.c, image_analyses.c, image_claims.c
_GOOD = (Outcome.PROXIED.value, Outcome.KEPT.value)


def list_files(store: Store, wanted: FileFilter, *, limit: int, after: Cursor | None = None) -> FilePage:
    """A page of files, newest upload first, with their state; proxies are never in it."""
    now = store.now()
    query = matching(wanted, now).with_only_columns(*SOURCE_COLUMNS)
    if after is not None:
        query = query.where(_before(after))
    if wanted.run_id is None:
        query = query.order_by(_f.uploaded_at.desc(), _f.id.desc())
    else:  # found, then ordered: to fill a short page PostgreSQL would walk all files in order, down to the run's
        these = query.cte("these").prefix_with("MATERIALIZED")
        query = select(these).order_by(these.c.uploaded_at.desc(), these.c.file_id.desc())
    query = query.limit(limit + 1)
    with store.reading() as connection:
        rows = connection.execute(query).all()
        entries = _entries(connection, rows[:limit], now)
    last = entries[-1] if len(rows) > limit else None
    return FilePage(entries, Cursor(last.uploaded_at, last.file_id) if last else None)


def matching_ids(store: Store, wanted: FileFilter, limit: int) -> tuple[int, ...]:
    """The ids of the first `limit` files that match, newest upload first."""
    query = matching(wanted, store.now()).with_only_columns(_f.id)
    with store.reading() as connection:
        return tuple(connection.scalars(query.order_by(_f.uploaded_at.desc(), _f.id.desc()).limit(limit)))


def known_images(store: Store, file_ids: Sequence[int]) -> frozenset[int]:
    """Which of these (at most some thousand) are images of the team's."""
    found: set[int] = set()
    with store.reading() as connection:
        for start in range(0, len(file_ids), 1000):
            some = file_ids[start : start + 1000]
            found.update(connection.scalars(select(_f.id).where(_f.id.in_(some), _is_image(), _f.is_proxy == false())))
    return frozenset(found)


def file_entry(store: Store, file_id: int) -> FileEntry | None:
    """One row of a page; None when there is none, or it is a proxy."""
    with store.reading() as connection:
        return _one(connection, file_id, store.now())


def file_detail(store: Store, file_id: int) -> FileDetail | None:
    """One image in full; None when there is none, or it is a proxy."""
    with store.reading() as connection:
        entry = _one(connection, file_id, store.now())
        if entry is None:
            return None
        return FileDetail(
            file=entry,
            proxies=tuple(map(_proxy, _history(connection, image_proxies, file_id))),
            analyses=tuple(map(_analysis, _history(connection, image_analyses, file_id))),
            attempts=tuple(
                _entry(AttemptEntry, row, attempt_id="id") for row in _history(connection, image_attempts, file_id)
            ),
            runs=_runs(connection, file_id),
            cost=_cost(connection, file_id),
        )


def current_proxy(store: Store, file_id: int, key: WorkKey) -> ProxyEntry | None:
    """The current proxy (kept original, failure) of the image's present content and this recipe."""
    query = select(image_proxies).join(files, proxy_key(_f.id, _f.content_version, key))
    with store.reading() as connection:
        row = connection.execute(query.where(_f.id == file_id, _p.superseded_at.is_(None))).mappings().one_or_none()
    return None if row is None else _proxy(dict(row))


def current_analysis(store: Store, file_id: int, key: WorkKey) -> AnalysisEntry | None:
    """The current analysis (or failure) of the image's present content, by recipe, model and prompt."""
    query = select(image_analyses).join(files, analysis_key(_f.id, _f.content_version, key))
    with store.reading() as connection:
        row = connection.execute(query.where(_f.id == file_id, _a.superseded_at.is_(None))).mappings().one_or_none()
    return None if row is None else _analysis(dict(row))


def item_outcomes(store: Store, run_id: str, file_id: int) -> ItemOutcomes | None:
    """What the run decided about the image so far; None where the run did not list it."""
    item = image_run_items.c
    columns = [item[field.name] for field in fields(ItemOutcomes)]
    with store.reading() as connection:
        row = connection.execute(select(*columns).where(item.run_id == run_id, item.file_id == file_id)).one_or_none()
    return None if row is None else ItemOutcomes(*row)


def undecided_in(store: Store, run_ids: Sequence[str], file_id: int, stage: Stage) -> str | None:
    """Which of these runs (at most some hundred) listed the image and has not decided about it at the stage."""
    item = image_run_items.c
    waiting = item[f"{COLUMNS_OF[stage]}_outcome"].is_(None)
    with store.reading() as connection:
        return connection.scalar(
            select(item.run_id).where(item.run_id.in_(run_ids), item.file_id == file_id, waiting).limit(1)
        )


# -- which files -------------------------------------------------------------------------------------------------------


def matching(wanted: FileFilter, now: datetime) -> Select[Any]:
    """The files that match, in no order."""
    conditions: list[ColumnElement[bool]] = [_f.is_proxy == false()]
    if wanted.images_only and wanted.status is not ImageStatus.NOT_AN_IMAGE:
        conditions.append(_is_image())
    if wanted.status is not None:
        conditions.append(_has_status(wanted.status, now))
    if wanted.format is not None:
        conditions.append(func.lower(_f.format) == wanted.format.lower())
    if wanted.min_bytes is not None:
        conditions.append(_f.size_bytes >= wanted.min_bytes)
    if wanted.max_bytes is not None:
        conditions.append(_f.size_bytes <= wanted.max_bytes)
    if wanted.uploaded_from is not None:
        conditions.append(_f.uploaded_at >= wanted.uploaded_from)
    if wanted.uploaded_to is not None:
        conditions.append(_f.uploaded_at < wanted.uploaded_to)
    if wanted.name:
        conditions.append(_f.filename.icontains(wanted.name, autoescape=True))
    if wanted.run_id is not None:
        conditions.append(_f.id.in_(_of_run(wanted.run_id, wanted.batch_id)))
    return select(files).where(*conditions)


def _is_image() -> ColumnElement[bool]:
    return _f.media_type.like("image/%")


def _before(after: Cursor) -> ColumnElement[bool]:
    """Rows that follow in the order. The first condition repeats what the second says, for the index to start at."""
    return and_(
        _f.uploaded_at <= after.at,
        or_(_f.uploaded_at < after.at, and_(_f.uploaded_at == after.at, _f.id < after.row_id)),
    )


def _of_run(run_id: str, batch_id: int | None) -> Select[Any]:
    item = image_run_items.c
    query = select(item.file_id).where(item.run_id == run_id)
    return query if batch_id is None else query.where(item.batch_id == batch_id)


def _has_status(status: ImageStatus, now: datetime) -> ColumnElement[bool]:
    has_row, good = _current(image_proxies), _current(image_proxies, _p.status.in_(_GOOD))
    analysed = _current(image_analyses, _a.status == Outcome.ANALYSED.value)
    held = _f.id.in_(select(_c.file_id).where(_c.lease_until > now))
    conditions = {
        ImageStatus.PENDING: and_(not_(has_row), not_(held)),
        ImageStatus.IN_PROGRESS: held,
        ImageStatus.PROXIED: _current(image_proxies, _p.status == Outcome.PROXIED.value),
        ImageStatus.KEPT: _rare(Outcome.KEPT),
        ImageStatus.FAILED: and_(_rare(Outcome.FAILED), not_(good)),
        ImageStatus.NOT_AN_IMAGE: or_(_f.media_type.is_(None), not_(_is_image())),
        ImageStatus.ANALYSED: analysed,
        ImageStatus.NOT_ANALYSED: and_(good, not_(analysed)),
    }
    return conditions[status]


def _rare(status: Outcome) -> ColumnElement[bool]:
    """Few images have it: they are found by the status first, or else every image would be looked up in vain."""
    these = select(_p.file_id).where(_p.superseded_at.is_(None), _p.status == status.value)
    return and_(_f.id.in_(these), _current(image_proxies, _p.status == status.value))


def _current(table: Table, *which: ColumnElement[bool]) -> ColumnElement[bool]:
    """The file's present content has a current row in `table`."""
    t = table.c
    key = and_(t.file_id == _f.id, t.content_version == _f.content_version, t.superseded_at.is_(None))
    return exists(select(t.id).where(key, *which).correlate(files))


# -- their state -------------------------------------------------------------------------------------------------------


def _one(connection: Connection, file_id: int, now: datetime) -> FileEntry | None:
    query = select(*SOURCE_COLUMNS).where(_f.id == file_id, _f.is_proxy == false())
    rows = connection.execute(query).all()
    return _entries(connection, rows, now)[0] if rows else None


def _entries(connection: Connection, rows: Sequence[Any], now: datetime) -> tuple[FileEntry, ...]:
    ids = [row.file_id for row in rows]
    proxies = _newest(connection, image_proxies, ids)
    analyses = _newest(connection, image_analyses, ids)
    held = select(image_claims).where(_c.file_id.in_(ids), _c.lease_until > now)
    claims = {row["file_id"]: _entry(ClaimEntry, dict(row)) for row in connection.execute(held).mappings()}
    shown = select(image_previews).where(image_previews.c.file_id.in_(ids))
    previews = {
        (row["file_id"], row["content_version"]): _entry(PreviewRecord, dict(row))
        for row in connection.execute(shown).mappings()
    }
    return tuple(_file(row._mapping, proxies, analyses, claims, previews) for row in rows)


def _file(
    row: Mapping[str, Any],
    proxies: Mapping[tuple[int, str], Any],
    analyses: Mapping[tuple[int, str], Any],
    claims: Mapping[int, ClaimEntry],
    previews: Mapping[tuple[int, str], PreviewRecord],
) -> FileEntry:
    key = row["file_id"], row["content_version"]
    proxy = _proxy(proxies[key]) if key in proxies else None
    media_type = row["media_type"] or ""  # a table of the team's may have none
    claim, is_image = claims.get(row["file_id"]), media_type.startswith("image/")
    return FileEntry(
        **{**row, "media_type": media_type},
        is_image=is_image,
        status=_status(is_image, claim, proxy),
        proxy=proxy,
        analysis=_analysis(analyses[key]) if key in analyses else None,
        claim=claim,
        preview=previews.get(key),
    )


def _status(is_image: bool, claim: ClaimEntry | None, proxy: ProxyEntry | None) -> ImageStatus:
    if not is_image:
        return ImageStatus.NOT_AN_IMAGE
    if claim is not None:
        return ImageStatus.IN_PROGRESS
    return ImageStatus.PENDING if proxy is None else ImageStatus(proxy.status)


def _newest(connection: Connection, table: Table, ids: Sequence[int]) -> dict[tuple[int, str], Any]:
    """Of each content the newest current row, a good one before a failed one."""
    t = table.c
    good_last = case((t.status == Outcome.FAILED.value, 0), else_=1)
    rows = connection.execute(
        select(table).where(t.file_id.in_(ids), t.superseded_at.is_(None)).order_by(good_last, t.id)
    )
    return {(row["file_id"], row["content_version"]): row for row in rows.mappings()}


def _history(connection: Connection, table: Table, file_id: int) -> Sequence[Any]:
    query = select(table).where(table.c.file_id == file_id).order_by(table.c.id.desc()).limit(HISTORY)
    return connection.execute(query).mappings().all()


def _runs(connection: Connection, file_id: int) -> tuple[FileRun, ...]:
    names = [field.name for field in fields(FileRun)]
    item, run = image_run_items.c, image_runs.c
    rows = connection.execute(
        select(*(item[name] if name in item else run[name] for name in names))
        .select_from(image_run_items.join(image_runs, run.run_id == item.run_id))
        .where(item.file_id == file_id)
        .order_by(run.started_at.desc(), run.run_id.desc())
        .limit(HISTORY)
    )
    return tuple(FileRun(*row) for row in rows)


def _cost(connection: Connection, file_id: int) -> FileCost:
    attempt = image_attempts.c
    row = connection.execute(
        select(*CALL_SUMS.values()).where(attempt.file_id == file_id, attempt.called)  # each sum is labelled
    ).one()
    values = dict(zip(CALL_SUMS, row, strict=True))
    whole = {name: int(values[name] or 0) for name in ("calls", "stand_in_calls", "input_tokens", "output_tokens")}
    return FileCost(**values | whole)


CALL_SUMS: dict[str, ColumnElement[Any]] = {
    "calls": func.count(),
    "stand_in_calls": func.count(case((image_attempts.c.endpoint == "stand-in", 1))),
    "input_tokens": func.sum(image_attempts.c.input_tokens),
    "output_tokens": func.sum(image_attempts.c.output_tokens),
    "cost_usd": func.sum(image_attempts.c.cost_usd),
    "cost_usd_projected": func.sum(image_attempts.c.cost_usd_projected),
}


def _proxy(row: Mapping[str, Any]) -> ProxyEntry:
    return _entry(ProxyEntry, row, proxy_id="id")


def _analysis(row: Mapping[str, Any]) -> AnalysisEntry:
    lists = {name: tuple(row[name] or ()) for name in ("labels", "objects")}
    return _entry(AnalysisEntry, {**row, **lists}, analysis_id="id")


def _entry(kind: type[Entry], row: Mapping[str, Any], **renamed: str) -> Entry:
    """The record of a row whose columns are named as its fields, but for those `renamed`."""
    return kind(**{field.name: row[renamed.get(field.name, field.name)] for field in fields(kind)})  # type: ignore[arg-type]
