"""Figures over the whole catalog, read once and kept until a row is added."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import func, select

from include.catalog.store import Store
from include.catalog.tables import image_attempts, image_proxies

# A row's number is drawn before it is committed: one with a lower number may come into sight after the figures were
# read. Figures read once more when every such transaction has ended hold all.
SETTLED_SECONDS = 60.0
COST_FACTOR = 10  # figures that took a second to read are kept for ten: at most a tenth of the time goes into them

T = TypeVar("T")
Stamp = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class _Reading(Generic[T]):
    figures: T
    stamp: Stamp
    ended: float
    seconds: float
    settled: bool  # the one before was read at the same stamp, long enough ago

    def age(self) -> float:
        """Return seconds since they were read."""
        return time.monotonic() - self.ended


class Kept(Generic[T]):
    """What `read` returns, kept while nothing changes; safe to share between threads.

    A new proxy, analysis or attempt is a new row with a higher id, so two highest ids tell whether anything changed;
    once these stand still, the figures are read one time more.
    While a run adds rows all the time, the figures are read anew when they are ten times as old as reading them took.
    """

    def __init__(self, store: Store, read: Callable[[Store], T]) -> None:
        self._store, self._read = store, read
        self._lock = threading.Lock()
        self._reading: _Reading[T] | None = None

    def get(self) -> T:
        """Return the figures. One thread reads them anew; meanwhile others get the old ones, and wait only at first."""
        kept = self._reading
        if kept is not None:
            if kept.age() < COST_FACTOR * kept.seconds or self._still_holds(kept):
                return kept.figures
            if not self._lock.acquire(blocking=False):
                return kept.figures
        else:
            self._lock.acquire()
        try:
            if self._reading is None or self._reading is kept:
                self._reading = self._read_anew()
            return self._reading.figures
        finally:
            self._lock.release()

    def _still_holds(self, kept: _Reading[T]) -> bool:
        return (kept.settled or kept.age() < SETTLED_SECONDS) and kept.stamp == self._stamp()

    def _read_anew(self) -> _Reading[T]:
        before, stamp, began = self._reading, self._stamp(), time.monotonic()
        figures = self._read(self._store)
        ended = time.monotonic()
        settled = before is not None and before.stamp == stamp and began - before.ended >= SETTLED_SECONDS
        return _Reading(figures, stamp, ended, ended - began, settled)

    def _stamp(self) -> Stamp:
        with self._store.reading() as connection:
            proxies, attempts = select(func.max(image_proxies.c.id)), select(func.max(image_attempts.c.id))
            return connection.scalar(proxies), connection.scalar(attempts)
