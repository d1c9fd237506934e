"""Who does the work: the name of a run in the catalog, and its window of upload times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

BACKFILL = "backfill"
AUTOMATIC = ("scheduled", "asset_triggered")  # started by nobody in person


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """An Airflow DAG run, or one operator of a foreign DAG, as the catalog knows it."""

    dag_id: str
    dag_run_id: str
    task: str | None = None  # set when an operator outside the pipeline plans its own work
    run_type: str | None = None  # scheduled, backfill, manual, asset_triggered...; None where `task` is set

    @property
    def run_id(self) -> str:
        """Airflow's run ids are unique within a DAG only, so the catalog's name the DAG too."""
        return "/".join(part for part in (self.dag_id, self.dag_run_id, self.task) if part)


@dataclass(frozen=True, slots=True)
class Window:
    """Upload times that a run takes: from inclusive, to exclusive; None is open."""

    uploaded_from: datetime | None = None
    uploaded_to: datetime | None = None


def window_of(
    run_type: str, interval_start: datetime | None, interval_end: datetime | None, started_at: datetime | None
) -> Window:
    """Tell the window from how the run was started.

    A scheduled run takes all that was uploaded before its interval's end, so that late rows are not lost; a backfill
    run takes what was uploaded inside its interval; a run by hand or by asset has no interval and takes what was
    uploaded before it started.
    """
    if run_type == BACKFILL:
        return Window(interval_start, interval_end)
    if run_type == "scheduled":
        return Window(None, interval_end)
    return Window(None, started_at)
