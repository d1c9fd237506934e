"""Last stage: the run says the truth. Judged from the catalog, never from task states."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.catalog.errors import UnknownRun
from include.catalog.records import Outcome, RunCounts
from include.pipeline.refusals import NeedsAPerson

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

ATTEMPTED = (Outcome.PROXIED, Outcome.KEPT, Outcome.ANALYSED, Outcome.FAILED)


class RunRejected(NeedsAPerson, RuntimeError):
    """The run did not do what it planned; the message says how."""

    code = "run_rejected"


def check_run(catalog: Catalog, run_id: str, max_failure_ratio: float) -> None:
    """Raise `RunRejected` when the stored run is missing, lost an image, or failed too many of those it attempted."""
    try:
        counts = catalog.run_counts(run_id)
    except UnknownRun as error:
        raise RunRejected(f"{error}: planning did not finish") from error
    reasons = reasons_against(counts, max_failure_ratio)
    if reasons:
        raise RunRejected("; ".join(reasons))
    log.info("the run holds: %s", counts)


def reasons_against(counts: RunCounts, max_failure_ratio: float) -> list[str]:
    """Return why a run with these counts is not acceptable; empty when it is."""
    reasons = []
    if counts.undecided:
        reasons.append(
            f"{counts.undecided} of {counts.listed} images have no outcome: a task gave way; they are pending again"
        )
    attempted = sum(counts.by_outcome.get(outcome, 0) for outcome in ATTEMPTED)
    failed = counts.by_outcome.get(Outcome.FAILED, 0)
    if attempted and failed / attempted > max_failure_ratio:
        reasons.append(
            f"{failed} of {attempted} attempted images failed ({failed / attempted:.0%}), more than "
            f"max_failure_ratio allows ({max_failure_ratio:.0%})"
        )
    return reasons
