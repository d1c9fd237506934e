"""Keep a task's claims alive while it works, and put back the images whose claim was lost."""

from __future__ import annotations

import contextlib
import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from include.catalog.errors import LeaseLost
from include.catalog.records import Outcome, Stage

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


class LeaseKeeper:
    """Renews every claim of ``owner`` three times per lease, in a thread of its own, until the block ends.

    What is still held when the block ends is released: a task that was cancelled or failed leaves its undecided images
    free at once, not after a lease. A renewal that fails (the database is away) is tried again at the next beat;
    Nova is not asked about an image whose lease was lost, and its results are refused by the catalog itself.
    """

    def __init__(self, catalog: Catalog, owner: str, lease_seconds: float) -> None:
        self._catalog, self._owner, self._lease_seconds = catalog, owner, lease_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._catalog.release(self._owner)

    def _renew(self) -> None:
        while not self._done.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            try:
                self._catalog.renew(self._owner, self._lease_seconds)
            except Exception:
                log.warning("could not renew the lease, trying again at the next beat", exc_info=True)


def give_back(catalog: Catalog, run_id: str, owner: str, file_id: int, stage: Stage, error: LeaseLost) -> Outcome:
    """Put an image back to pending whose lease was lost; whoever has it now decides it."""
    log.warning("image %s: %s", file_id, error)
    with contextlib.suppress(LeaseLost):  # a later try of this very task has it: its outcome counts
        catalog.record_return(run_id, owner, file_id, stage, code=error.code, message=str(error))
    return Outcome.RETURNED
