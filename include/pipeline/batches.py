"""Work on a claimed batch with several threads: one image each, stopping early when asked or when it must."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from include.catalog.records import ClaimedBatch, Outcome, Stage, WorkItem

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)


class RunCancelled(RuntimeError):
    """The task was told to stop; images without an outcome are pending again."""

    code = "cancelled"


def work_through(
    batch: ClaimedBatch, work: Callable[[WorkItem], Outcome | None], threads: int, stop: threading.Event
) -> Mapping[Outcome, int]:
    """Run ``work`` on each item and count the outcomes; one that is None is somebody else's to count.

    An exception is infrastructure's: no further image is begun, those in flight end, and it is raised; what was decided
    stays decided. Raises `RunCancelled` when ``stop`` was set before the end.
    """
    counts: Counter[Outcome | None] = Counter()
    items: SimpleQueue[WorkItem] = SimpleQueue()
    for item in batch.items:
        items.put(item)
    with ThreadPoolExecutor(threads, thread_name_prefix="image") as executor:
        try:
            for done in as_completed([executor.submit(_take_and_work, items, work, stop) for _ in range(threads)]):
                counts.update(done.result())
        except BaseException:
            stop.set()
            raise
    if stop.is_set():
        raise RunCancelled(f"stopped after {counts.total()} of {len(batch.items)} images; the rest is pending again")
    return {outcome: count for outcome, count in counts.items() if outcome is not None}


def _take_and_work(
    items: SimpleQueue[WorkItem], work: Callable[[WorkItem], Outcome | None], stop: threading.Event
) -> Counter[Outcome | None]:
    """One thread's share: an item at a time, until none is left or a stop is asked for."""
    counts: Counter[Outcome | None] = Counter()
    while not stop.is_set():
        try:
            item = items.get_nowait()
        except Empty:
            break
        try:
            counts[work(item)] += 1
        except BaseException:
            stop.set()  # at once: the other threads end before the one that waits for them hears of it
            raise
    return counts


SKIP_REASONS = {
    "proxy_exists": "has a current proxy",
    "analysis_exists": "has a current analysis",
    "no_proxy": "has no current proxy to analyse",
    "claimed_by_another_run": "another run is working on it",
}


def skip(catalog: Catalog, run_id: str, owner: str, item: WorkItem, stage: Stage, code: str) -> Outcome:
    """Record that there is nothing to do for one image that we hold."""
    catalog.record_skip(run_id, owner, item.image.file_id, stage, code=code, message=SKIP_REASONS[code])
    return Outcome.SKIPPED


def skip_busy(catalog: Catalog, run_id: str, busy: tuple[int, ...], stage: Stage) -> list[Outcome]:
    """Record the images that another run is working on: they are that run's to decide."""
    code = "claimed_by_another_run"
    for file_id in busy:
        catalog.record_skip(run_id, None, file_id, stage, code=code, message=SKIP_REASONS[code])
    return [Outcome.SKIPPED] * len(busy)
