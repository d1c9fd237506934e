"""Wait for one image of a job without holding a thread: asynchronous, by looking at its row."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from image_proxy.web import jobs
from include.catalog.records import Outcome, Stage

if TYPE_CHECKING:
    from include.catalog.browse_records import ItemOutcomes
    from include.catalog.catalog import Catalog

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.2, 1.0, 1.25
MOST_WAITERS = 64  # requests that wait at the same time; more are answered with their job at once
ENDED_EARLY = (Outcome.FAILED.value, Outcome.RETURNED.value)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run decided about an image. `outcome` None: the run ended and did not."""

    outcome: Outcome | None
    code: str | None = None
    message: str | None = None


class _Waiters:
    """How many requests wait in this process. Changed on the event loop only."""

    count = 0


async def decision(catalog: Catalog, job_id: str, file_id: int, stage: Stage, seconds: float) -> Decision | None:
    """Return what the job decides about the image within `seconds`, None when it takes longer."""
    if _Waiters.count >= MOST_WAITERS:
        return None
    _Waiters.count += 1
    try:
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
        while True:
            decided = await run_in_threadpool(_look, catalog, job_id, file_id, stage)
            left = deadline - time.monotonic()
            if decided is not None or left <= 0:
                return decided
            await asyncio.sleep(min(pause, left))
            pause = min(pause * GROWTH, LONGEST_PAUSE)
    finally:
        _Waiters.count -= 1


def _look(catalog: Catalog, job_id: str, file_id: int, stage: Stage) -> Decision | None:
    run_id = jobs.catalog_run_id(job_id)
    decided = _decided(catalog.item_outcomes(run_id, file_id), stage)
    if decided is None and jobs.has_ended(job_id):
        # Once more: it may have been decided between the two looks.
        decided = _decided(catalog.item_outcomes(run_id, file_id), stage) or Decision(None)
    return decided


def _decided(item: ItemOutcomes | None, stage: Stage) -> Decision | None:
    if item is None:
        return None
    at_proxy = (
        Decision(Outcome(item.proxy_outcome), item.proxy_code, item.proxy_message) if item.proxy_outcome else None
    )
    if stage is Stage.PROXY or item.proxy_outcome in ENDED_EARLY:
        return at_proxy
    if item.analysis_outcome:
        return Decision(Outcome(item.analysis_outcome), item.analysis_code, item.analysis_message)
    return None
