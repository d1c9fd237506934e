"""How often a task is tried that infrastructure failed, and how long apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from include.pipeline.settings import Settings, SettingsError, load_settings


def task_retries() -> dict[str, Any]:
    """Return the retry arguments of every task; the setting `retry_seconds` is the first wait, doubled each time.

    A wrong setting does not keep the DAG from being parsed: the run's first task refuses it, where a person looks.
    """
    try:
        settings = load_settings()
    except SettingsError:
        settings = Settings.model_construct()
    return {
        "retries": 2,
        "retry_delay": timedelta(seconds=settings.retry_seconds),
        "retry_exponential_backoff": True,
    }
