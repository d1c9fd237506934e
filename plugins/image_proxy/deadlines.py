"""From when a run's deadline counts. Every component imports this to schedule deadlines, so it is kept light."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseDeadlineReference


class RunCreated(BaseDeadlineReference):
    """The moment at which a run is created, however it was started; runs by hand have no logical date to count from.

    Airflow's own reference to the moment of queueing is not used: 3.3.2 fails with it when a run is cleared before its
    deadline (`_recalculate_dagrun_queued_at_deadlines`), and with that every repeated backfill.
    """

    def _evaluate_with(self, *, session: Any, **kwargs: Any) -> datetime:
        """Return the present moment: Airflow asks when it creates the run."""
        return datetime.now(UTC)
