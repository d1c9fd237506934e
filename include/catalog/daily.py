"""The work of each UTC day in numbers, over all runs: sums over the rows that the day wrote."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Date, FromClause, Table, and_, case, cast, exists, func, not_, select

from include.catalog.records import DayCalls, DayFigures, Outcome, StorageBytes
from include.catalog.store import Store
from include.catalog.tables import files, image_analyses, image_attempts, image_proxies

_proxy, _analysis, _attempt = image_proxies.c, image_analyses.c, image_attempts.c
MADE = _proxy.status.in_((Outcome.PROXIED.value, Outcome.KEPT.value))
_STORAGE = ("original_in_s3", "uploaded_for_s3", "original_elsewhere", "uploaded_for_elsewhere")


def daily_figures(store: Store, first: date, last: date) -> list[DayFigures]:
    """One record for each UTC day from `first` to `last`, both inclusive; a day without work has zeros.

    Raises ValueError when `last` is before `first`.
    """
    if last < first:
        raise ValueError(f"the last day, {last}, is before the first, {first}")
    with store.reading() as connection:
        proxies = _by_day(connection, _proxy.created_at, _proxy_sums(), _PROXIES_OF_FILES, first, last)
        analyses = _by_day(connection, _analysis.created_at, _analysis_sums(), image_analyses, first, last)
        calls = _calls(connection, first, last)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [_day(day, proxies.get(day, {}), analyses.get(day, {}), calls.get(day, ())) for day in days]


def storage_sums(
    original: ColumnElement[bool] = MADE, stored: ColumnElement[bool] = MADE
) -> dict[str, ColumnElement[Any]]:
    """Columns of `StorageBytes` over rows of `image_proxies` joined with their `files`: originals of the rows that are
    `original`, uploads of those that are `stored`. Refusals count for nothing."""
    in_s3, elsewhere = files.c.uri.like("s3://%"), files.c.uri.not_like("s3://%")
    return {
        "original_in_s3": func.sum(case((and_(original, in_s3), _proxy.original_bytes))),
        "uploaded_for_s3": func.sum(case((and_(stored, in_s3), _proxy.bytes_uploaded))),
        "original_elsewhere": func.sum(case((and_(original, elsewhere), _proxy.original_bytes))),
        "uploaded_for_elsewhere": func.sum(case((and_(stored, elsewhere), _proxy.bytes_uploaded))),
    }


def storage_bytes(row: Mapping[str, Any]) -> StorageBytes:
    """The record of a row of `storage_sums`."""
    return StorageBytes(**{name: int(row.get(name) or 0) for name in _STORAGE})


_PROXIES_OF_FILES = image_proxies.outerjoin(files, files.c.id == _proxy.file_id)


def _proxy_sums() -> dict[str, ColumnElement[Any]]:
    made = {name: func.sum(case((MADE, column))) for name, column in _BYTES.items()}
    counts = {name: func.count(case((_proxy.status == status, 1))) for name, status in _STATUSES.items()}
    return made | counts | storage_sums(_first("content_version"), _first("uri"))


def _first(what: str) -> ColumnElement[bool]:
    """Rows that are the first of their image with this content, or this object: made again, it takes no more room."""
    before = image_proxies.alias(f"before_{what}").c
    same = and_(before.file_id == _proxy.file_id, before[what] == _proxy[what], before.id < _proxy.id)
    return and_(MADE, not_(exists(select(before.id).where(same, before.status != Outcome.FAILED.value))))


def _analysis_sums() -> dict[str, ColumnElement[Any]]:
    statuses = {"analyses_written": Outcome.ANALYSED.value, "analyses_failed": Outcome.FAILED.value}
    return {name: func.count(case((_analysis.status == status, 1))) for name, status in statuses.items()}


_BYTES = {
    "bytes_original": _proxy.original_bytes,
    "bytes_served": _proxy.proxy_bytes,
    "bytes_uploaded": _proxy.bytes_uploaded,
}
_STATUSES = {"proxies_created": "proxied", "originals_kept": "kept", "proxies_failed": "failed"}


def _calls(connection: Connection, first: date, last: date) -> dict[date, tuple[DayCalls, ...]]:
    day = _utc_day(connection, _attempt.recorded_at)
    sums = {
        "nova_calls": func.count(),
        "input_tokens": func.sum(_attempt.input_tokens),
        "billed_input_tokens": func.sum(_attempt.billed_input_tokens),
        "output_tokens": func.sum(_attempt.output_tokens),
        "request_bytes": func.sum(_attempt.request_bytes),
    }
    dollars = {"cost_usd": func.sum(_attempt.cost_usd), "cost_usd_projected": func.sum(_attempt.cost_usd_projected)}
    who = (func.coalesce(_attempt.endpoint, "").label("endpoint"), func.coalesce(_attempt.tier, "").label("tier"))
    query = (
        select(day.label("day"), *who, *(value.label(name) for name, value in {**sums, **dollars}.items()))
        .where(_attempt.called, *_between(_attempt.recorded_at, first, last))
        .group_by(day, *who)
        .order_by(day, *who)
    )
    found: dict[date, tuple[DayCalls, ...]] = {}
    for row in connection.execute(query).mappings():
        counts = {name: int(row[name] or 0) for name in sums}
        money = {name: row[name] for name in dollars}
        one = DayCalls(endpoint=row["endpoint"], tier=row["tier"], **counts, **money)
        found[_as_date(row["day"])] = (*found.get(_as_date(row["day"]), ()), one)
    return found


def _by_day(
    connection: Connection,
    moment: ColumnElement[datetime],
    sums: Mapping[str, ColumnElement[Any]],
    source: FromClause | Table,
    first: date,
    last: date,
) -> dict[date, Mapping[str, Any]]:
    day = _utc_day(connection, moment)
    query = (
        select(day.label("day"), *(value.label(name) for name, value in sums.items()))
        .select_from(source)
        .where(*_between(moment, first, last))
        .group_by(day)
    )
    return {_as_date(row["day"]): dict(row) for row in connection.execute(query).mappings()}


def _day(day: date, proxies: Mapping[str, Any], analyses: Mapping[str, Any], calls: tuple[DayCalls, ...]) -> DayFigures:
    counts = {name: int(proxies.get(name) or 0) for name in (*_STATUSES, *_BYTES)}
    counts |= {name: int(analyses.get(name) or 0) for name in ("analyses_written", "analyses_failed")}
    return DayFigures(day=day, **counts, storage=storage_bytes(proxies), calls=calls)


def _between(moment: ColumnElement[datetime], first: date, last: date) -> list[ColumnElement[bool]]:
    if last == date.max:  # the calendar has no day after it
        return [moment >= _midnight(first)]
    return [moment >= _midnight(first), moment < _midnight(last + timedelta(days=1))]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _utc_day(connection: Connection, moment: ColumnElement[datetime]) -> ColumnElement[Any]:
    """The UTC date of a time: a date on PostgreSQL, its text on SQLite, which keeps times as UTC without a zone."""
    if connection.dialect.name == "postgresql":
        return cast(func.timezone("UTC", moment), Date)
    return func.date(moment)


def _as_date(day: date | str) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day
