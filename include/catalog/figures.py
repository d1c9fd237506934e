"""Figures that people watch: savings by group, failures by reason, a run's progress. Reading only.

Every figure of savings is measured: a sum over rows of `image_proxies` that are current. Of an image with proxies of
several recipes the newest counts, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Label,
    Select,
    String,
    Table,
    and_,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy import cast as sql_cast

from include.catalog.browse import CALL_SUMS
from include.catalog.browse_records import (
    Cursor,
    FailureEntry,
    FailurePage,
    FailureReason,
    RunProgress,
    SavingsGroup,
    SavingsRow,
)
from include.catalog.records import Outcome, Stage
from include.catalog.runs import final_outcome, load_run
from include.catalog.store import Store
from include.catalog.tables import files, image_analyses, image_attempts, image_proxies, image_run_items, image_runs

UNKNOWN = "unknown"
# Upper bounds (exclusive) of the classes of originals by size; what is larger is the last class.
SIZE_CLASSES = (("under 100 kB", 100_000), ("100 kB to 1 MB", 1_000_000), ("1 to 5 MB", 5_000_000))
SIZE_CLASSES_END = (("5 to 20 MB", 20_000_000), ("over 20 MB", None))
GROUPS = 400  # rows of one table of savings: the newest days or runs

_p = image_proxies.c


def savings(store: Store, group: SavingsGroup, limit: int = GROUPS) -> tuple[SavingsRow, ...]:
    """Measured savings by group: days and runs newest first, formats and sizes by what they save."""
    with store.reading() as connection:
        key = _group(group, connection).label("group_key")
        rows = [dict(row) for row in connection.execute(_savings(key, group, limit)).mappings()]
        calls = _calls(connection, group, limit) if group in (SavingsGroup.DAY, SavingsGroup.RUN) else {}
    return tuple(_savings_row(row, calls) for row in rows)


def savings_total(store: Store) -> SavingsRow:
    """The same over everything, with the costs of all calls."""
    with store.reading() as connection:
        row = dict(connection.execute(_sums(literal("total").label("group_key"))).mappings().one())
        calls = connection.execute(select(*(v.label(k) for k, v in CALL_SUMS.items())).where(image_attempts.c.called))
        return _savings_row(row, {"total": dict(calls.mappings().one())})


def failure_reasons(store: Store) -> tuple[FailureReason, ...]:
    """How many images have which failure now, the most frequent first."""
    failed = _failures().subquery()
    count = func.count()
    query = (
        select(
            failed.c.stage,
            func.coalesce(failed.c.code, UNKNOWN),
            count,
            func.count(case((failed.c.next_try_at.is_not(None), 1))),
            func.max(failed.c.created_at),
        )
        .group_by(failed.c.stage, failed.c.code)
        .order_by(count.desc(), failed.c.stage, failed.c.code)
    )
    with store.reading() as connection:
        return tuple(FailureReason(*row) for row in connection.execute(query))


def failures(
    store: Store, *, limit: int, after: Cursor | None = None, stage: Stage | None = None, code: str | None = None
) -> FailurePage:
    """A page of images that are failed now, newest failure first."""
    failed = _failures().subquery()
    f = failed.c
    query = select(*(f[field.name] for field in fields(FailureEntry)))
    if stage is not None:
        query = query.where(f.stage == stage.value)
    if code is not None:
        query = query.where(f.code == code)
    if after is not None:
        tied = or_(f.stage < after.stage, and_(f.stage == after.stage, f.row_id < after.row_id))
        query = query.where(or_(f.created_at < after.at, and_(f.created_at == after.at, tied)))
    query = query.order_by(f.created_at.desc(), f.stage.desc(), f.row_id.desc()).limit(limit + 1)
    with store.reading() as connection:
        found = [FailureEntry(*row) for row in connection.execute(query)]
    last = found[limit - 1] if len(found) > limit else None
    return FailurePage(tuple(found[:limit]), Cursor(last.created_at, last.row_id, last.stage) if last else None)


def failed_ids(
    store: Store, stage: Stage, *, code: str | None, file_ids: Sequence[int] | None, limit: int
) -> tuple[int, ...]:
    """The images that are failed now at this stage (with this code, among these), newest failure first."""
    failed = _failures_of(stage).subquery()
    query = select(failed.c.file_id).order_by(failed.c.created_at.desc(), failed.c.row_id.desc()).limit(limit)
    if code is not None:
        query = query.where(failed.c.code == code)
    if file_ids is not None:
        query = query.where(failed.c.file_id.in_(file_ids))
    with store.reading() as connection:
        return tuple(dict.fromkeys(connection.scalars(query)))


def progress(store: Store, run_id: str) -> RunProgress:
    """A run as it stands. Raises `UnknownRun` before its plan is stored."""
    with store.reading() as connection:
        run = load_run(connection, run_id)
        stored = connection.execute(select(image_runs).where(image_runs.c.run_id == run_id)).one()
        counts = _outcomes(connection, run_id, run.stages)
        decided = {name: count for name, count in counts.items() if name is not None}
        failed = decided.get(Outcome.FAILED.value, 0)
        returned = decided.get(Outcome.RETURNED.value, 0)
        total = sum(counts.values())
        return RunProgress(
            run_id=run_id,
            dag_id=stored.dag_id,
            dag_run_id=stored.dag_run_id,
            stages=tuple(stage.value for stage in Stage if stage in run.stages),
            started_at=stored.started_at,
            finished_at=stored.finished_at,
            note=stored.note,
            nova_endpoint=stored.nova_endpoint,
            total=total,
            done=sum(decided.values()) - failed - returned,
            failed=failed,
            returned=returned,
            undecided=counts.get(None, 0),
            as_of=store.now(),
            by_outcome=decided,
            **_run_sums(connection, run_id),
        )


# -- savings -----------------------------------------------------------------------------------------------------------


def _good() -> ColumnElement[bool]:
    return and_(_p.superseded_at.is_(None), _p.status != Outcome.FAILED.value)


def newest_good() -> ColumnElement[bool]:
    """Rows of `image_proxies` that count: of each image the newest current one that is not a failure."""
    other = image_proxies.alias("other")
    o = other.c
    newer = exists(
        select(o.id).where(
            o.file_id == _p.file_id, o.id > _p.id, o.superseded_at.is_(None), o.status != Outcome.FAILED.value
        )
    )
    return and_(_good(), not_(newer))


def _sums(key: Label[Any]) -> Select[Any]:
    in_s3 = files.c.uri.like("s3://%")
    stored = case((_p.status == Outcome.PROXIED.value, _p.proxy_bytes), else_=_p.bytes_uploaded)
    avoided = case((in_s3, -stored), else_=_p.original_bytes - stored)
    return (
        select(
            key,
            func.count().label("images"),
            func.count(case((_p.status == Outcome.KEPT.value, 1))).label("kept"),
            func.sum(_p.original_bytes).label("bytes_original"),
            func.sum(_p.proxy_bytes).label("bytes_served"),
            func.sum(_p.saved_bytes).label("bytes_saved"),
            func.sum(_p.bytes_uploaded).label("bytes_uploaded"),
            func.sum(avoided).label("bytes_avoided"),
            func.avg(_p.saving_ratio).label("mean_saving_ratio"),
        )
        .select_from(image_proxies.join(files, files.c.id == _p.file_id))
        .where(newest_good())
    )


def _savings(key: Label[Any], group: SavingsGroup, limit: int) -> Select[Any]:
    order: ColumnElement[Any] = func.sum(_p.saved_bytes).desc()
    if group is SavingsGroup.DAY:
        order = text("group_key DESC")  # type: ignore[assignment]
    elif group is SavingsGroup.RUN:
        order = func.max(_p.created_at).desc()
    return _sums(key).group_by(text("group_key")).order_by(order).limit(limit)


def _group(group: SavingsGroup, connection: Connection) -> ColumnElement[str]:
    match group:
        case SavingsGroup.DAY:
            return _day(_p.created_at, connection)
        case SavingsGroup.RUN:
            return _p.run_id
        case SavingsGroup.FORMAT:
            return func.coalesce(func.lower(files.c.format), UNKNOWN)
        case SavingsGroup.SIZE:
            classes = [(_p.original_bytes < bound, name) for name, bound in (*SIZE_CLASSES, SIZE_CLASSES_END[0])]
            return case(*classes, else_=SIZE_CLASSES_END[1][0])


def _day(moment: ColumnElement[datetime], connection: Connection) -> ColumnElement[str]:
    """The UTC day as text: 2026-11-22."""
    if connection.dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD")
    return func.substr(sql_cast(moment, String), 1, 10)


def _calls(connection: Connection, group: SavingsGroup, limit: int) -> dict[str, Mapping[str, Any]]:
    attempt = image_attempts.c
    key = _day(attempt.recorded_at, connection) if group is SavingsGroup.DAY else attempt.run_id
    sums = (value.label(name) for name, value in CALL_SUMS.items())
    query = select(key.label("group_key"), *sums).where(attempt.called).group_by(text("group_key"))
    rows = connection.execute(query.order_by(func.max(attempt.id).desc()).limit(limit)).mappings()
    return {row["group_key"]: dict(row) for row in rows}


def _savings_row(row: Mapping[str, Any], calls: Mapping[str, Mapping[str, Any]]) -> SavingsRow:
    whole = ("images", "kept", "bytes_original", "bytes_served", "bytes_saved", "bytes_uploaded", "bytes_avoided")
    ratio = row["mean_saving_ratio"]
    saved = SavingsRow(
        group=row["group_key"],
        mean_saving_ratio=None if ratio is None else float(ratio),
        **{name: int(row[name] or 0) for name in whole},
    )
    call = calls.get(saved.group)
    if call is None:
        return replace(saved, nova_calls=0, stand_in_calls=0) if calls else saved
    return replace(
        saved,
        nova_calls=call["calls"],
        stand_in_calls=call["stand_in_calls"],
        cost_usd=call["cost_usd"],
        cost_usd_projected=call["cost_usd_projected"],
    )


# -- failures ----------------------------------------------------------------------------------------------------------


def _failures() -> Any:
    return union_all(*(_failures_of(stage) for stage in Stage))


def _failures_of(stage: Stage) -> Select[Any]:
    """Images whose present content is failed at the stage, with no good row of another recipe beside it."""
    table: Table = image_proxies if stage is Stage.PROXY else image_analyses
    t, o = table.c, table.alias("good").c
    same = and_(o.file_id == t.file_id, o.content_version == t.content_version)
    good = exists(select(o.id).where(same, o.superseded_at.is_(None), o.status != Outcome.FAILED.value))
    columns = [
        literal(stage.value).label("stage"),
        t.id.label("row_id"),
        t.file_id,
        files.c.filename,
        files.c.uri,
        func.coalesce(t.code, UNKNOWN).label("code"),
        func.coalesce(t.message, "").label("message"),
        *(t[name] for name in ("transient", "attempts", "next_try_at", "run_id", "created_at")),
    ]
    present = and_(files.c.id == t.file_id, files.c.content_version == t.content_version)
    failed = and_(t.superseded_at.is_(None), t.status == Outcome.FAILED.value)
    return select(*columns).select_from(table.join(files, present)).where(failed, not_(good))


# -- progress ----------------------------------------------------------------------------------------------------------


def _outcomes(connection: Connection, run_id: str, stages: frozenset[Stage]) -> dict[str | None, int]:
    outcome = final_outcome(stages)
    rows = connection.execute(select(outcome, func.count()).where(image_run_items.c.run_id == run_id).group_by(outcome))
    return {name: int(count) for name, count in rows}


def _run_sums(connection: Connection, run_id: str) -> dict[str, Any]:
    item, attempt = image_run_items.c, image_attempts.c
    joined = image_run_items.outerjoin(image_proxies, _p.id == item.proxy_id)
    sums = {
        "bytes_original": func.sum(_p.original_bytes),
        "bytes_saved": func.sum(_p.saved_bytes),
        "proxy_started": func.min(item.proxy_started_at),
        "proxy_decided": func.max(item.proxy_decided_at),
        "analysis_started": func.min(item.analysis_started_at),
        "analysis_decided": func.max(item.analysis_decided_at),
    }
    columns = [value.label(name) for name, value in sums.items()]
    row = connection.execute(select(*columns).select_from(joined).where(item.run_id == run_id)).mappings().one()
    calls = (
        connection.execute(
            select(*(value.label(name) for name, value in CALL_SUMS.items())).where(
                attempt.run_id == run_id, attempt.called
            )
        )
        .mappings()
        .one()
    )
    return {
        "bytes_original": int(row["bytes_original"] or 0),
        "bytes_saved": int(row["bytes_saved"] or 0),
        "nova_calls": calls["calls"],
        "cost_usd": calls["cost_usd"],
        "cost_usd_projected": calls["cost_usd_projected"],
        "work_started_at": min(filter(None, (row["proxy_started"], row["analysis_started"])), default=None),
        "last_decided_at": max(filter(None, (row["proxy_decided"], row["analysis_decided"])), default=None),
    }
