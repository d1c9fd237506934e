"""The spending guard: no request to Nova is made that would pass the run's limit or the day's.

It is checked twice: the plan takes only as many images as the projection says the limits pay for, and each request sets
its projected cost aside before it is made. Spent is what stands on the rows: what was paid, or on the stand-in what it
would have cost. Since requests in flight, of every task and run, are counted with their projected cost, the limits can
only be passed by what answers cost more than projected: at most

    requests in flight (slots of the pool) x (cost of an answer of max_output_tokens - projected cost)

about $0.003 a slot for Nova 2 Lite with the packaged prompt, and one more answer where a malformed one is asked for
again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from include.catalog.records import RunFigures, SpendingLimit
from include.pipeline.params import PipelineParams
from include.pipeline.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

ROUNDING_USD = 1e-9  # sums of many small costs are not exact: less than this is no excess
COST_LIMIT = "cost_limit"
DAILY_COST_LIMIT = "daily_cost_limit"
NAMES = {COST_LIMIT: "max_cost_usd", DAILY_COST_LIMIT: f"{ENV_PREFIX}MAX_COST_USD_PER_DAY"}
# Rows older than this are summed once and not again: every transaction that could still add one has ended by then.
SETTLED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left to spend under the tightest limit, and that limit."""

    limit: SpendingLimit
    left_usd: float

    def says(self) -> str:
        """Return the limit's name and amount."""
        return f"{NAMES[self.limit.code]} (${self.limit.usd:.4f})"


def limits_of(params: PipelineParams, settings: Settings, run_id: str, now: datetime) -> tuple[SpendingLimit, ...]:
    """Return the limits that hold for a run at this moment; the day's counts from midnight UTC."""
    limits = []
    if params.max_cost_usd is not None:
        limits.append(SpendingLimit(COST_LIMIT, params.max_cost_usd, run_id=run_id))
    day = daily_limit(settings, now)
    return (*limits, day) if day else tuple(limits)


def daily_limit(settings: Settings, now: datetime) -> SpendingLimit | None:
    """Return the limit of the UTC day that it is; None where none is set."""
    if settings.max_cost_usd_per_day is None:
        return None
    midnight = datetime.combine(now.astimezone(UTC).date(), time.min, UTC)
    return SpendingLimit(DAILY_COST_LIMIT, settings.max_cost_usd_per_day, since=midnight)


def budget_left(catalog: Catalog, limits: Sequence[SpendingLimit], run_id: str) -> Budget | None:
    """Return what is left to a run under the tightest of the limits; None where there is no limit.

    What other runs have in flight is spent already, by the day's limit: a batch job is answered hours later.
    """
    left = [Budget(limit, limit.usd - _gone(catalog, limit, run_id)) for limit in limits]
    return min(left, key=lambda budget: budget.left_usd, default=None)


def _gone(catalog: Catalog, limit: SpendingLimit, run_id: str) -> float:
    # In this order: an answer that is written between the two counts twice, not never.
    reserved = 0.0 if limit.run_id else catalog.reserved_usd(but_run=run_id)
    return reserved + catalog.spent_usd(run_id=limit.run_id, since=limit.since)


def why_pending(figures: RunFigures) -> str | None:
    """Return a sentence on images that a limit put back to pending while the run went on; None where there are none."""
    parts = [
        f"{NAMES[code]} was reached: {count} image{'' if count == 1 else 's'} put back to pending"
        for code, count in figures.returned_codes.items()
        if code in NAMES
    ]
    return "; ".join(parts) or None


class SpendingGuard:
    """Sets the projected cost of each request aside before it is made. Shared by the threads of one task."""

    def __init__(self, catalog: Catalog, params: PipelineParams, settings: Settings, run_id: str) -> None:
        self._catalog, self._params, self._settings, self._run_id = catalog, params, settings, run_id
        self._settled = _Settled(catalog)

    def reserve(self, owner: str, file_id: int, usd: float) -> SpendingLimit | None:
        """Set ``usd`` aside for one image; return the limit that it would pass, None when the request may be made.

        Raises `LeaseLost` when the image is not the owner's any more.
        """
        now = self._catalog.now()
        limits = limits_of(self._params, self._settings, self._run_id, now)
        if not limits:
            self._catalog.require_held(owner, file_id)
            return None
        narrowed = {self._settled.narrowed(limit, now): limit for limit in limits}
        passed = self._catalog.reserve(owner, file_id, usd, tuple(narrowed))
        return None if passed is None else narrowed[passed]


class DayGuard:
    """Holds the day's limit against questions of those who have no claims to set money aside on: evaluations.

    What runs have in flight counts; their own questions in flight are not seen by runs.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._settled = _Settled(catalog)

    def passed_by(self, usd: float) -> SpendingLimit | None:
        """Return the day's limit when ``usd`` more would pass it."""
        now = self._catalog.now()
        limit = daily_limit(self._settings, now)
        if limit is None:
            return None
        narrowed = self._settled.narrowed(limit, now)
        reserved = self._catalog.reserved_usd()  # first: see _gone
        spent = self._catalog.spent_usd(since=narrowed.since)
        return limit if reserved + spent + usd > narrowed.usd + ROUNDING_USD else None


class _Settled:
    """Sums over a large run's rows would grow with every request, so what is settled is remembered."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._known: dict[SpendingLimit, SpendingLimit] = {}

    def narrowed(self, limit: SpendingLimit, now: datetime) -> SpendingLimit:
        """Return the same limit over unsettled rows only: less what is settled, from where that ends."""
        with self._lock:
            known = self._known.get(limit, limit)
            if known.since is None or now - known.since > 2 * SETTLED:
                until = now - SETTLED
                if known.since is None or until > known.since:
                    spent = self._catalog.spent_usd(run_id=limit.run_id, since=known.since, until=until)
                    known = dataclasses.replace(known, since=until, usd=known.usd - spent)
            self._known[limit] = known
            return known


def message_of(limit: SpendingLimit) -> str:
    """Return why an image was put back to pending."""
    return f"{NAMES[limit.code]} of ${limit.usd:.4f} is reached: this image waits for a later run"


def affordable(costs: Sequence[float], left_usd: float) -> int:
    """Return how many of the images, in their order, ``left_usd`` pays for by projection."""
    total = 0.0
    for count, cost in enumerate(costs):
        total += cost
        if total > left_usd + ROUNDING_USD:
            return count
    return len(costs)


def notes_of(figures: RunFigures) -> tuple[str, ...]:
    """Return why the run did less than it found, as sentences; empty when it did not."""
    return tuple(note for note in (figures.plan_note, why_pending(figures)) if note)
