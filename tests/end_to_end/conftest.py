"""The end-to-end tests' names for the Airflow that `tests/conftest.py` boots once."""

from __future__ import annotations

from tests.airflow_boot import DAG_ID, RUN_SECONDS, SLOTS, RunningAirflow

__all__ = ["DAG_ID", "RUN_SECONDS", "SLOTS", "RunningAirflow"]
