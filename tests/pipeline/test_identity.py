"""The window of a run by how it was started."""

from __future__ import annotations

from datetime import UTC, datetime

from include.pipeline.identity import RunIdentity, Window, window_of

START, END, NOW = (datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in (1, 2, 9))


def test_a_backfill_takes_its_interval_only() -> None:
    assert window_of("backfill", START, END, NOW) == Window(START, END)


def test_a_scheduled_run_takes_late_rows_too() -> None:
    assert window_of("scheduled", START, END, NOW) == Window(None, END)


def test_runs_by_hand_and_by_asset_have_no_interval() -> None:
    assert window_of("manual", None, None, NOW) == window_of("asset_triggered", None, None, NOW) == Window(None, NOW)


def test_a_manual_run_ignores_the_interval_that_a_test_run_is_given() -> None:
    assert window_of("manual", START, END, NOW) == Window(None, NOW)


def test_equal_airflow_run_ids_of_two_dags_stay_apart() -> None:
    assert RunIdentity("a", "manual__1").run_id != RunIdentity("b", "manual__1").run_id
