"""Whether a run that nobody started in person leaves work for which the next one need not wait for its hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.catalog.errors import UnknownRun
from include.catalog.records import Outcome, RunCounts, Selection, Stage
from include.pipeline.identity import AUTOMATIC, RunIdentity
from include.pipeline.params import PipelineParams
from include.pipeline.plan import limit_of, stages_of, work_key
from include.pipeline.settings import Settings

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog


def why_not_continue(catalog: Catalog, identity: RunIdentity, params: PipelineParams, settings: Settings) -> str | None:
    """Return why no further run should follow at once, or None when one should.

    One follows when a scheduled or asset run was full, got somewhere, and left images that a run could take now. Where
    another such run is still at work, that one asks again at its end; so there is one chain of runs and not several.
    """
    if identity.run_type not in AUTOMATIC:
        return "only runs that nobody started in person are followed by another"
    counts = _counts(catalog, identity.run_id)
    if counts.listed < (limit_of(identity, params, settings) or 0):
        return f"the run was not full: it took all {counts.listed} images that there were"
    if not _got_somewhere(counts):
        return "no image got an outcome: a run that follows at once would do no better"
    if catalog.others_at_work(identity.run_id, AUTOMATIC):
        return "another run is at work, and looks again at its end"
    if not _left(catalog, identity, params, settings):
        return "nothing is left that could be done now"
    return None


def _counts(catalog: Catalog, run_id: str) -> RunCounts:
    try:
        return catalog.run_counts(run_id)
    except UnknownRun:  # planning was skipped
        return RunCounts(listed=0)


def _got_somewhere(counts: RunCounts) -> bool:
    return counts.listed > counts.undecided + counts.by_outcome.get(Outcome.RETURNED, 0)


def _left(catalog: Catalog, identity: RunIdentity, params: PipelineParams, settings: Settings) -> bool:
    wanted = Selection(
        key=work_key(params, settings),
        stages=stages_of(params, settings),
        run_id=identity.run_id,
        limit=1,
        force_proxies=Stage.PROXY in params.wanted,
    )
    return bool(catalog.select_unprocessed(wanted))
