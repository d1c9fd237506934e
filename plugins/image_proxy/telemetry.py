"""The stages' metrics through Airflow's own output: StatsD or OpenTelemetry, as the deployment's `[metrics]` says.

Off unless the deployment turns it on. Every name begins with `image_proxy.`, behind the deployment's own prefix.
"""

from __future__ import annotations

from airflow.sdk.observability.stats import gauge, incr, timing

PREFIX = "image_proxy"


class AirflowMetrics:
    """Counters, timers (milliseconds, as StatsD has them) and gauges."""

    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter."""
        incr(f"{PREFIX}.{name}", count=value)

    def timing(self, name: str, seconds: float) -> None:
        """Add one duration."""
        timing(f"{PREFIX}.{name}", seconds * 1000)

    def gauge(self, name: str, value: float) -> None:
        """Set a level."""
        gauge(f"{PREFIX}.{name}", value)
