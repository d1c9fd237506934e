"""The names of the shared boot, which is defined once for all tests: `tests/airflow_boot.py`."""

from __future__ import annotations

from tests.airflow_boot import (
    BATCH_DAG_ID,
    DAG_ID,
    HOLD_JOBS,
    LATE_SECONDS,
    MINUTE,
    RUN_SECONDS,
    SLOTS,
    RunningAirflow,
    UploadQueue,
    until,
)

__all__ = [
    "BATCH_DAG_ID",
    "DAG_ID",
    "HOLD_JOBS",
    "LATE_SECONDS",
    "MINUTE",
    "RUN_SECONDS",
    "SLOTS",
    "RunningAirflow",
    "UploadQueue",
    "until",
]
