"""Stage 4: close a run and report its figures, all of them queried from the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.catalog.errors import UnknownRun
from include.savings import RunReport, build_report

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog


def summarise(catalog: Catalog, run_id: str) -> RunReport | None:
    """Mark the run as finished and return its report; None when no such run is stored (dry run, or no plan)."""
    try:
        catalog.finish_run(run_id)
    except UnknownRun:
        return None
    return report_of(catalog, run_id)


def report_of(catalog: Catalog, run_id: str) -> RunReport:
    """Return the report of a stored run."""
    return build_report(catalog.run_figures(run_id), catalog.run_images(run_id))
