"""A run's figures as a report: every number comes from `RunFigures`, which is a query over catalog columns.

Definitions, also written into the report itself:

- *saving of an image*: 1 - bytes that Nova reads in its place / bytes of the original. A kept original saves 0.
- *saving of a run*: over images proxied or kept by this run; failed, skipped and returned ones are not in it. Given
  both as ratio of sums (what the archive saves) and as mean of the images' ratios (what a typical image saves).
- *over 1 MB*: originals of more than 1,000,000 bytes.
- *proxy seconds*: wall time of one image from fetching the original to the end of the upload; nearest-rank percentiles.
- *cost_usd*: reported tokens, with the image's counted as the model bills them, at the model card's prices; null on the
  stand-in, which bills nothing. *cost_usd_projected*: the same reckoning, whoever answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from include.catalog.records import ImageReport, Outcome, RunFigures

DEFINITIONS = {
    "savings_percent": "ratio of sums: 1 - sum(bytes Nova reads) / sum(bytes of originals), over images proxied or "
    "kept by this run; kept images in, failed ones out",
    "savings_percent_mean": "mean over the same images of 1 - bytes Nova reads / bytes of the original",
    "savings_percent_over_1mb": "savings_percent over originals of more than 1,000,000 bytes",
    "savings_percent_mean_over_1mb": "savings_percent_mean over originals of more than 1,000,000 bytes",
    "bytes_uploaded": "bytes sent to S3 by this run: proxies, and kept originals that Nova could not reach otherwise",
    "proxy_seconds": "wall seconds of one image, from fetching the original to the end of its upload; nearest rank",
    "cost_usd": "reported tokens, with the image's counted as the model bills them, at the model card's prices; null "
    "on the stand-in, which bills nothing",
    "cost_usd_projected": "the same reckoning, whoever answered",
}


@dataclass(frozen=True, slots=True)
class FailureReport:
    """One refused image."""

    uri: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """The content of `latest.json`. Bytes, seconds, percent (0 to 100), US dollars; None where nothing was measured."""

    run_id: str
    dag_id: str
    images_listed: int
    proxies_created: int
    originals_kept: int
    skipped: int
    returned: int
    undecided: int
    failed: int
    failures: tuple[FailureReport, ...]
    analyses_written: int
    nova_calls: int
    bytes_original: int
    bytes_served: int
    bytes_uploaded: int
    savings_percent: float | None
    savings_percent_mean: float | None
    savings_percent_over_1mb: float | None
    savings_percent_mean_over_1mb: float | None
    proxy_seconds_p50: float | None
    proxy_seconds_p95: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    cost_usd_projected: float | None
    nova_endpoint: str | None
    seconds: float | None

    def as_json(self) -> str:
        """Return the report as JSON text, with the definitions of its figures."""
        return json.dumps({**asdict(self), "definitions": DEFINITIONS}, indent=2) + "\n"

    def counts(self) -> dict[str, int]:
        """Return the counts only: what may travel through XCom."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    def text(self) -> str:
        """Return one line for a task's log."""
        saving = "-" if self.savings_percent is None else f"{self.savings_percent:.1f} %"
        outcomes = ", ".join(
            f"{count} {name}"
            for name, count in (
                ("proxied", self.proxies_created),
                ("kept", self.originals_kept),
                ("failed", self.failed),
                ("skipped", self.skipped),
                ("returned", self.returned),
                ("undecided", self.undecided),
            )
        )
        return (
            f"{self.images_listed} listed: {outcomes}; {self.analyses_written} analysed in {self.nova_calls} calls to "
            f"{self.nova_endpoint}; {self.bytes_original} -> {self.bytes_served} bytes, saving {saving}"
        )


def build_report(figures: RunFigures, images: Sequence[ImageReport]) -> RunReport:
    """Turn one run's figures and images into its report."""
    return RunReport(
        run_id=figures.dag_run_id,
        dag_id=figures.dag_id,
        images_listed=figures.images_listed,
        proxies_created=figures.proxies_created,
        originals_kept=figures.originals_kept,
        skipped=figures.skipped,
        returned=figures.returned,
        undecided=figures.undecided,
        failed=figures.failed,
        failures=tuple(
            FailureReport(image.uri, image.code or "", image.message or "")
            for image in images
            if image.outcome is Outcome.FAILED
        ),
        analyses_written=figures.analyses_written,
        nova_calls=figures.nova_calls,
        bytes_original=figures.bytes_original,
        bytes_served=figures.bytes_served,
        bytes_uploaded=figures.bytes_uploaded,
        savings_percent=_saving(figures.bytes_served, figures.bytes_original),
        savings_percent_mean=_percent(figures.mean_saving_ratio),
        savings_percent_over_1mb=_saving(figures.bytes_served_over_1mb, figures.bytes_original_over_1mb),
        savings_percent_mean_over_1mb=_percent(figures.mean_saving_ratio_over_1mb),
        proxy_seconds_p50=_rounded(percentile(figures.proxy_seconds, 0.50), 3),
        proxy_seconds_p95=_rounded(percentile(figures.proxy_seconds, 0.95), 3),
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        cost_usd=_rounded(figures.cost_usd, 6),
        cost_usd_projected=_rounded(figures.cost_usd_projected, 6),
        nova_endpoint=figures.nova_endpoint,
        seconds=_rounded(figures.seconds, 3),
    )


def write_report(report: RunReport, path: Path) -> None:
    """Write the report to ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(report.as_json(), encoding="utf-8")
    draft.replace(path)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of ascending values: the smallest that at least ``share`` of them reach."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _saving(served: int, original: int) -> float | None:
    return _percent(1 - served / original) if original else None


def _rounded(figure: float | None, digits: int) -> float | None:
    return None if figure is None else round(figure, digits)


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(100 * ratio, 2)
