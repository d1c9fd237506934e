"""Write made proxies to the catalog, those of a moment together: a commit costs as much for one image as for many.

An image whose object is stored waits up to five seconds for its row. A task that is killed meanwhile loses rows, not
objects: its retry makes the same proxy under the same key.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from include.catalog.errors import LeaseLost, SourceRowGone
from include.catalog.records import MadeProxy, Outcome, Stage
from include.pipeline.leases import give_back
from include.pipeline.telemetry import Metrics, tell_outcome

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

GROUP_SECONDS: Final = 5.0  # how long the first of a group waits for others
GROUP_IMAGES: Final = 32  # then it waits no longer
_END: Final = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A made proxy, and when work on its image began."""

    made: MadeProxy
    began: float


class ProxyRecorder:
    """Records the proxies that a batch's threads make, in a thread of its own; a context manager.

    What the catalog cannot write is raised by the next `add`, else at the end of the block, by when everything that was
    added has its outcome: written, skipped (its row was deleted), or returned (its lease was lost).
    """

    def __init__(self, catalog: Catalog, run_id: str, owner: str, metrics: Metrics) -> None:
        self._catalog, self._run_id, self._owner, self._metrics = catalog, run_id, owner, metrics
        self.counts: Counter[Outcome] = Counter()
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(2 * GROUP_IMAGES)  # then whoever makes more has to wait
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._record_all, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(_END)
        self._thread.join()
        if self._error is None:
            return
        if error is None:
            raise self._error
        log.warning("proxies were not recorded: %s", self._error)

    def add(self, made: MadeProxy, began: float) -> None:
        """Have one image's proxy written soon; ``began``: the monotonic time at which its image was taken up."""
        if self._error is not None:
            raise self._error
        self._queue.put(_Waiting(made, began))

    def _record_all(self) -> None:
        """Until the end is in the queue. After an error the rest is taken from it, so that nobody waits for a place."""
        ended = False
        while not ended:
            group, ended = self._next_group()
            if group and self._error is None:
                try:
                    self._record(group)
                except BaseException as error:  # the batch's own thread raises it
                    self._error = error

    def _next_group(self) -> tuple[Sequence[_Waiting], bool]:
        """What came within a moment after the first, and whether nothing will follow."""
        group: list[_Waiting] = []
        until = None
        while len(group) < GROUP_IMAGES:
            try:
                one = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if one is _END:
                return group, True
            group.append(one)
            until = until or time.monotonic() + GROUP_SECONDS
        return group, False

    def _record(self, group: Sequence[_Waiting]) -> None:
        started = time.monotonic()
        done = self._catalog.record_proxies(self._run_id, self._owner, [one.made for one in group])
        share = (time.monotonic() - started) / len(group)
        for one in group:
            file_id = one.made.file_id
            if file_id in done.lost:
                self._give_back(one, done.lost[file_id])
            elif file_id in done.gone:
                self._tell(one, Outcome.SKIPPED, SourceRowGone.code)
            else:
                self._tell(one, one.made.proxy.outcome, None)
                self._tell_bytes(one)
            self._metrics.timing("proxy.record", share)

    def _give_back(self, one: _Waiting, holder: str | None) -> None:
        error = LeaseLost(one.made.file_id, self._owner, holder)
        outcome = give_back(self._catalog, self._run_id, self._owner, one.made.file_id, Stage.PROXY, error)
        self._tell(one, outcome, None)

    def _tell(self, one: _Waiting, outcome: Outcome, code: str | None) -> None:
        self.counts[outcome] += 1
        seconds, stage = time.monotonic() - one.began, Stage.PROXY
        tell_outcome(self._metrics, self._run_id, one.made.file_id, stage, outcome, code=code, seconds=seconds)

    def _tell_bytes(self, one: _Waiting) -> None:
        """Where the original may not be kept, a proxy can be the larger one. Counters only grow, so it has its own."""
        saved = one.made.proxy.original_bytes - one.made.proxy.proxy_bytes
        self._metrics.count("bytes_saved" if saved >= 0 else "bytes_added", abs(saved))
