"""What requests to Nova cost, asked of the rows, and a hold on what may still be spent; across tasks, runs and workers.

A request's cost is what was paid; on the stand-in, which bills nothing, what it would have cost on AWS.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate, islice

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, update

from include.catalog.claims import held_by
from include.catalog.errors import LeaseLost
from include.catalog.records import SpendingLimit
from include.catalog.store import Store, chunks, tried_again
from include.catalog.tables import image_attempts, image_claims, image_evaluation_calls

_LOCK = 4_281_930_518  # any fixed number: names our advisory lock on PostgreSQL

ROUNDING_USD = 1e-9  # sums of many small costs are not exact: less than this is no excess


def spent_usd(
    store: Store, *, run_id: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> float:
    """US dollars of the requests recorded from `since` (inclusive) to `until` (exclusive), of one run or of all."""
    with store.reading() as connection:
        return _spent(connection, run_id, since, until)


@tried_again
def reserve(
    store: Store, owner: str, file_id: int, usd: float, limits: Sequence[SpendingLimit]
) -> SpendingLimit | None:
    """Set `usd` aside on the image's claim, unless that would pass a limit; return the limit that it would pass.

    What is spent and what all living claims have set aside are read and written under one lock, so that no two tasks
    can both take the last dollar. The reservation ends with the claim: when the outcome is written, or the lease ends.
    Raises LeaseLost when the image is not the owner's any more.
    """
    with store.writing() as connection:
        _take_lock(connection)
        now = store.now()
        for limit in limits:
            # In this order: an answer that is written between the two counts twice, not never.
            reserved = _reserved(connection, limit.run_id, image_claims.c.file_id != file_id, now)
            spent = _spent(connection, limit.run_id, limit.since, None)
            if spent + reserved + usd > limit.usd + ROUNDING_USD:
                return limit
        claim = held_by(connection, file_id)
        if claim is None or claim.owner != owner:
            raise LeaseLost(file_id, owner, claim.owner if claim else None)
        connection.execute(update(image_claims).where(image_claims.c.file_id == file_id).values(reserved_usd=usd))
    return None


@tried_again
def set_aside(
    store: Store, owner: str, costs: Mapping[int, float], limits: Sequence[SpendingLimit]
) -> tuple[int, SpendingLimit | None]:
    """Set each image's projected cost (US dollars by file id) aside on the owner's claims of images whose answers come
    much later (a batch job's), in their order, as many as the limits pay for; return how many, and the limit that pays
    for no more.

    Under the same lock as `reserve`. What the owner has set aside before is replaced. Each ends with its claim.
    """
    claim, count, reached = image_claims.c, len(costs), None
    with store.writing() as connection:
        _take_lock(connection)
        now = store.now()
        for limit in limits:
            gone = _reserved(connection, limit.run_id, claim.owner != owner, now)  # first, as in `reserve`
            gone += _spent(connection, limit.run_id, limit.since, None)
            sums = list(accumulate(islice(costs.values(), count), initial=gone))
            if sums[-1] > limit.usd + ROUNDING_USD:
                count, reached = max(0, bisect_right(sums, limit.usd + ROUNDING_USD) - 1), limit
        connection.execute(
            select(claim.file_id).where(claim.owner == owner).order_by(claim.file_id).with_for_update()
        ).all()
        for usd, file_ids in _by_cost(costs, count).items():  # a model has a handful of prices: few statements
            for ids in chunks(file_ids):
                mine = and_(claim.owner == owner, claim.file_id.in_(ids))
                connection.execute(update(image_claims).where(mine).values(reserved_usd=usd))
    return count, reached


def _by_cost(costs: Mapping[int, float], count: int) -> dict[float, list[int]]:
    grouped: dict[float, list[int]] = {}
    for file_id, usd in islice(costs.items(), count):
        grouped.setdefault(usd, []).append(file_id)
    return grouped


def reserved_usd(store: Store, *, but_run: str | None = None) -> float:
    """US dollars that living claims have set aside, without those of one run."""
    claim = image_claims.c
    conditions = [claim.reserved_usd.is_not(None), claim.lease_until > store.now()]
    if but_run is not None:
        conditions.append(claim.run_id != but_run)
    with store.reading() as connection:
        return float(connection.scalar(select(func.sum(claim.reserved_usd)).where(*conditions)) or 0.0)


def _spent(connection: Connection, run_id: str | None, since: datetime | None, until: datetime | None) -> float:
    """Requests of runs and of evaluations: both are billed, and both are rows."""
    total = 0.0
    for table in (image_attempts, image_evaluation_calls):
        row = table.c
        conditions: list[ColumnElement[bool]] = [row.called]
        if run_id is not None:
            conditions.append(row.run_id == run_id)
        if since is not None:
            conditions.append(row.recorded_at >= since)
        if until is not None:
            conditions.append(row.recorded_at < until)
        cost = func.sum(func.coalesce(row.cost_usd, row.cost_usd_projected, 0.0))
        total += float(connection.scalar(select(cost).where(*conditions)) or 0.0)
    return total


def _reserved(connection: Connection, run_id: str | None, others: ColumnElement[bool], now: datetime) -> float:
    claim = image_claims.c
    conditions = [claim.reserved_usd.is_not(None), claim.lease_until > now, others]
    if run_id is not None:
        conditions.append(claim.run_id == run_id)
    return float(connection.scalar(select(func.sum(claim.reserved_usd)).where(*conditions)) or 0.0)


def _take_lock(connection: Connection) -> None:
    """One at a time from here to the transaction's end; SQLite holds its write lock from BEGIN IMMEDIATE on."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
