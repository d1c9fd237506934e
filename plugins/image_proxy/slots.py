"""The pool that bounds requests to Nova."""

from __future__ import annotations

from typing import Any

from include.pipeline.settings import Settings, SettingsError, load_settings


def nova_slots() -> dict[str, Any]:
    """Return the pool of an analysis task and the slots it takes: one for each request it keeps in flight.

    A wrong setting does not keep the DAG from being parsed: the run's first task refuses it, where a person looks.
    """
    try:
        settings = load_settings()
    except SettingsError:
        settings = Settings.model_construct()
    return {"pool": settings.nova_pool, "pool_slots": settings.nova_concurrency}
