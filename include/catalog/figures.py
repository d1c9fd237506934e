"""Figures that people watch: savings by group, failures by reason, a run's progress. Reading only.

Every figure of savings is measured: a sum over rows of `image_proxies` that are current. Of an image with proxies of
several recipes the newest counts, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
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
    Savings,
    SavingsGroup,
    SavingsRow,
)
from include.catalog.kept import Kept
from include.catalog.records import Outcome, Stage
from include.catalog.runs import final_outcome, load_run
from include.catalog.store import Store
from include.catalog.tables import files, image_analyses, image_attempts, image_proxies, image_run_items, image_runs

UNKNOWN = "unknown"
# Upper bounds (exclusive) of the classes of originals by size; what is larger is the last class.
SIZE_CLASSES = (
    ("under 100 kB", 100_000),
    ("100 kB to 1 MB", 1_000_000),
    ("1 to 5 MB", 5_000_000),
    ("5 to 20 MB", 20_000_000),
)
LARGEST = "20 MB and over"
GROUPS = 400  # rows of one table of savings: the newest days or runs
TOTAL = "total"

_p = image_proxies.c


class SavingsFigures:
    """Savings, summed over every current proxy once and kept until a row is added; safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._kept = Kept(store, _sum_up)

    def by(self, group: SavingsGroup, limit: int = GROUPS) -> Savings:
        """Measured savings by group: days and runs newest first, formats and sizes by what they save.

        Days and runs that only asked Nova, about proxies of before, are among them: what they cost belongs to nobody
        else.
        """
        sums = self._kept.get()
        number = list(SavingsGroup).index(group)
        rows = _grouped(sums.cells, lambda cell: cell.group[number])
        if group is SavingsGroup.DAY:
            found = sorted(_with_calls(rows, sums.calls_by_day), key=lambda row: row.group, reverse=True)
        elif group is SavingsGroup.RUN:
            runs = _with_calls(rows, sums.calls_by_run)
            found = sorted(runs, key=lambda row: (sums.last_work[row.group], row.group), reverse=True)
        else:
            found = sorted(rows.values(), key=lambda row: (-row.bytes_saved, row.group))
        return Savings(group, tuple(found[:limit]), _total(sums), sums.as_of)

    def total(self) -> SavingsRow:
        """The same over everything, with the costs of all calls."""
        return _total(self._kept.get())


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


@dataclass(frozen=True, slots=True)
class _Cell:
    """Sums over the images that share day, run, format and size class (in the order of SavingsGroup)."""

    group: tuple[str, str, str, str]
    images: int
    kept: int
    bytes_original: int
    bytes_served: int
    bytes_saved: int
    bytes_uploaded: int
    bytes_avoided: int
    ratios: float  # sum of the images' saving ratios
    with_ratio: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class _Sums:
    as_of: datetime
    cells: tuple[_Cell, ...]
    last_work: Mapping[str, datetime]  # by run: its newest proxy or call
    calls_by_day: Mapping[str, Mapping[str, Any]]
    calls_by_run: Mapping[str, Mapping[str, Any]]


def _sum_up(store: Store) -> _Sums:
    as_of = store.now()
    with store.reading() as connection:
        cells = tuple(_Cell(tuple(row[:4]), *_whole(row[4:])) for row in connection.execute(_cells(connection)))
        by_day = _calls(connection, _day(image_attempts.c.recorded_at, connection))
        by_run = _calls(connection, image_attempts.c.run_id)
    last_work = {run: calls["last_at"] for run, calls in by_run.items()}
    for cell in cells:
        last_work[cell.group[1]] = max(cell.last_at, last_work.get(cell.group[1], cell.last_at))
    return _Sums(as_of, cells, last_work, by_day, by_run)


def _total(sums: _Sums) -> SavingsRow:
    rows = _grouped(sums.cells, lambda _cell: TOTAL)
    return _priced(rows.get(TOTAL, _row(TOTAL, ())), _added(sums.calls_by_run.values()))


def _with_calls(rows: Mapping[str, SavingsRow], calls: Mapping[str, Mapping[str, Any]]) -> list[SavingsRow]:
    return [_priced(rows.get(name, _row(name, ())), calls.get(name)) for name in rows.keys() | calls.keys()]


def _cells(connection: Connection) -> Select[Any]:
    in_s3 = files.c.uri.like("s3://%")
    stored = case((_p.status == Outcome.PROXIED.value, _p.proxy_bytes), else_=_p.bytes_uploaded)
    keys = [key.label(f"key_{number}") for number, key in enumerate(_keys(connection))]
    return (
        select(
            *keys,
            func.count(),
            func.count(case((_p.status == Outcome.KEPT.value, 1))),
            func.sum(_p.original_bytes),
            func.sum(_p.proxy_bytes),
            func.sum(_p.saved_bytes),
            func.sum(_p.bytes_uploaded),
            func.sum(case((in_s3, -stored), else_=_p.original_bytes - stored)),
            func.sum(_p.saving_ratio),
            func.count(_p.saving_ratio),
            func.max(_p.created_at),
        )
        .select_from(image_proxies.join(files, files.c.id == _p.file_id))
        .where(newest_good())
        .group_by(*(text(key.name) for key in keys))
    )


def _keys(connection: Connection) -> list[ColumnElement[Any]]:
    classes = [(_p.original_bytes < bound, name) for name, bound in SIZE_CLASSES]
    return [
        _day(_p.created_at, connection),
        _p.run_id,
        func.coalesce(func.lower(files.c.format), UNKNOWN),
        case(*classes, else_=LARGEST),
    ]


def newest_good() -> ColumnElement[bool]:
    """Rows of `image_proxies` that count: of each image the newest current one that is not a failure."""
    good = and_(_p.superseded_at.is_(None), _p.status != Outcome.FAILED.value)
    o = image_proxies.alias("other").c
    newer = and_(o.file_id == _p.file_id, o.id > _p.id, o.superseded_at.is_(None), o.status != Outcome.FAILED.value)
    return and_(good, not_(exists(select(o.id).where(newer))))


def _day(moment: ColumnElement[datetime], connection: Connection) -> ColumnElement[str]:
    """The UTC day as text: 2026-11-22."""
    if connection.dialect.name == "postgresql":
        return sql_cast(sql_cast(func.timezone("UTC", moment), Date), String)
    return func.substr(sql_cast(moment, String), 1, 10)


def _calls(connection: Connection, key: ColumnElement[str]) -> dict[str, Mapping[str, Any]]:
    sums = (value.label(name) for name, value in CALL_SUMS.items())
    last_at = func.max(image_attempts.c.recorded_at).label("last_at")
    query = select(key.label("group_key"), last_at, *sums).where(image_attempts.c.called).group_by(text("group_key"))
    return {row["group_key"]: dict(row) for row in connection.execute(query).mappings()}


def _whole(values: Sequence[Any]) -> list[Any]:
    """Sums as plain numbers: PostgreSQL answers decimals, and null over nothing but nulls."""
    *first, ratios, with_ratio, last_at = values
    return [*(int(value or 0) for value in first), float(ratios or 0.0), int(with_ratio), last_at]


def _grouped(cells: Sequence[_Cell], key: Callable[[_Cell], str]) -> dict[str, SavingsRow]:
    groups: dict[str, list[_Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return {name: _row(name, members) for name, members in groups.items()}


def _row(name: str, cells: Sequence[_Cell]) -> SavingsRow:
    names = ("images", "kept", "bytes_original", "bytes_served", "bytes_saved", "bytes_uploaded", "bytes_avoided")
    sums = {field: sum(getattr(cell, field) for cell in cells) for field in names}
    with_ratio = sum(cell.with_ratio for cell in cells)
    mean = sum(cell.ratios for cell in cells) / with_ratio if with_ratio else None
    return SavingsRow(group=name, mean_saving_ratio=mean, **sums)


def _added(calls: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """All calls together; a cost is null where no call carries one."""
    total: dict[str, Any] = {"calls": 0, "stand_in_calls": 0, "cost_usd": None, "cost_usd_projected": None}
    for call in calls:
        for name, before in total.items():
            if call[name] is not None:
                total[name] = (before or 0) + call[name]
    return total


def _priced(row: SavingsRow, calls: Mapping[str, Any] | None) -> SavingsRow:
    if calls is None:
        return replace(row, nova_calls=0, stand_in_calls=0)
    names = ("stand_in_calls", "cost_usd", "cost_usd_projected")
    return replace(row, nova_calls=calls["calls"], **{name: calls[name] for name in names})


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
    # Written out, not bound: an index of failures alone serves no query that might as well ask for something else.
    failed = and_(t.superseded_at.is_(None), t.status == literal(Outcome.FAILED.value, literal_execute=True))
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
