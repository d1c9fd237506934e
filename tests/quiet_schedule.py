"""An hourly schedule, as a deployment's, of which no hour ends while tests or benchmarks run.

A scheduled run would take their pictures, and a worker's slot.
"""

from __future__ import annotations

from datetime import UTC, datetime

QUIET_MINUTES = 55


def quiet_minute() -> int:
    """Return the minute of the hour that comes `QUIET_MINUTES` from now."""
    return (datetime.now(UTC).minute + QUIET_MINUTES) % 60


def quiet_schedule() -> str:
    """Return the schedule whose next run starts at that minute."""
    return f"{quiet_minute()} * * * *"
