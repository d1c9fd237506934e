"""What a stage tells while it works: metrics by name, and one log line for each image's outcome.

The stages know no metrics system: they are given something that counts and times. In Airflow that is Airflow's own
StatsD or OpenTelemetry output (`image_proxy.telemetry`). docs/scaling.md lists the names. Neither metrics nor log
lines hold image content, file names or words of an answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from include.catalog.records import NovaCall, Outcome, Stage

log = logging.getLogger(__name__)


class Metrics(Protocol):
    """Where figures go. Names are dotted; times are seconds. Safe to call from several threads."""

    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter; ``value`` is 0 or more."""

    def timing(self, name: str, seconds: float) -> None:
        """Add one duration."""

    def gauge(self, name: str, value: float) -> None:
        """Set a level."""


class NoMetrics:
    """Goes nowhere: outside Airflow."""

    def count(self, name: str, value: int = 1) -> None:
        """Nothing."""

    def timing(self, name: str, seconds: float) -> None:
        """Nothing."""

    def gauge(self, name: str, value: float) -> None:
        """Nothing."""


NO_METRICS = NoMetrics()


@contextmanager
def timed(metrics: Metrics, name: str) -> Iterator[None]:
    """Time the block, also when it raises."""
    started = time.monotonic()
    try:
        yield
    finally:
        metrics.timing(name, time.monotonic() - started)


def tell_outcome(
    metrics: Metrics,
    run_id: str,
    file_id: int,
    stage: Stage,
    outcome: Outcome,
    *,
    code: str | None,
    seconds: float | None = None,
) -> None:
    """Count one image's outcome at a stage, and log it in a form that machines read.

    ``seconds`` is None where an image has no time of its own: in a batch job.
    """
    metrics.count(f"images.{stage.value}.{outcome.value}")
    if code is not None:
        metrics.count(f"codes.{code}")
    if seconds is not None:
        metrics.timing(f"{stage.value}.image", seconds)
    log.info(
        "image_decided file_id=%d run_id=%s stage=%s outcome=%s code=%s seconds=%s",
        *(file_id, run_id, stage.value, outcome.value, code or "-", "-" if seconds is None else f"{seconds:.3f}"),
    )


def tell_call(metrics: Metrics, call: NovaCall) -> None:
    """Count one request to Nova, or one record of a batch job, and what it used."""
    metrics.count("nova.calls")
    if call.code is not None:
        metrics.count(f"nova.errors.{call.code}")
    if call.code == "throttled":
        metrics.count("nova.throttles")
    if call.latency_ms is not None:
        metrics.timing("nova.latency", call.latency_ms / 1000)
    metrics.count("nova.input_tokens", call.input_tokens)
    metrics.count("nova.output_tokens", call.output_tokens)
