"""What the proxies are held to, checked by every run. A target is met, missed, or was not measured; nothing else."""

from __future__ import annotations

from dataclasses import dataclass

MIN_REDUCTION_PERCENT = 80.0
MAX_SECONDS = 2.0
MIN_STORAGE_PERCENT = 70.0


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what it says, the figure that this run measured (None: it could not), and whether it was met."""

    name: str
    says: str
    measured: float | None
    met: bool | None

    def text(self) -> str:
        """Return one line for a person."""
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        return f"{self.says}: {verdict}" + ("" if self.measured is None else f" ({self.measured:g})")


def check_targets(
    reduction_over_1mb: float | None, proxy_seconds_p95: float | None, s3_reduction: float | None
) -> tuple[Target, ...]:
    """Hold a run's figures (percent, seconds, percent) against the targets."""
    return (
        _above(
            "size_reduction",
            "mean reduction of images above 1 MB, over 80 %",
            reduction_over_1mb,
            MIN_REDUCTION_PERCENT,
        ),
        Target(
            "proxy_seconds",
            "seconds an image, p95, under 2",
            proxy_seconds_p95,
            None if proxy_seconds_p95 is None else proxy_seconds_p95 < MAX_SECONDS,
        ),
        _above("s3_storage", "less S3 storage for analysed images, over 70 %", s3_reduction, MIN_STORAGE_PERCENT),
        Target("nova_latency", "lower Nova latency (only a comparison with originals on AWS tells)", None, None),
    )


def _above(name: str, says: str, measured: float | None, least: float) -> Target:
    return Target(name, says, measured, None if measured is None else measured > least)
