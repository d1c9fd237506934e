"""A run's figures as a report: every number comes from `RunFigures`, which is a query over catalog columns.

Definitions, also written into the report itself:

- *saving of an image*: 1 - bytes that Nova reads in its place / bytes of the original. A kept original saves 0.
- *saving of a run*: over images proxied or kept by this run; failed, skipped and returned ones are not in it. Given
  both as ratio of sums (what the archive saves) and as mean of the images' ratios (what a typical image saves).
- *over 1 MB*: originals of more than 1,000,000 bytes.
- *proxy seconds*: wall time of one image from fetching the original to the end of the upload; nearest-rank percentiles.
- *cost_usd*: reported tokens, with the image's counted as the model bills them, at the model card's prices; null on the
  stand-in, which bills nothing. *cost_usd_projected*: the same reckoning, whoever answered.
- *estimated*: what follows from measured figures by a model card or a price; never mixed with the measured ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from include.catalog.records import ImageReport, Outcome, RunFigures
from include.savings.storage import StoragePrice, bytes_added, bytes_avoided, s3_reduction_percent, storage_price
from include.savings.targets import Target, check_targets

DEFINITIONS = {
    "savings_percent": "ratio of sums: 1 - sum(bytes Nova reads) / sum(bytes of originals), over images proxied or "
    "kept by this run; kept images in, failed ones out",
    "savings_percent_mean": "mean over the same images of 1 - bytes Nova reads / bytes of the original",
    "savings_percent_over_1mb": "savings_percent over originals of more than 1,000,000 bytes",
    "savings_percent_mean_over_1mb": "savings_percent_mean over originals of more than 1,000,000 bytes",
    "bytes_uploaded": "bytes that stand in S3 because of this run: proxies, and kept originals that Nova could not "
    "reach otherwise; what a forced run finds there already, the same byte for byte, is in it and not sent again",
    "proxy_seconds": "wall seconds of one image, from fetching the original to the end of its upload; nearest rank",
    "cost_usd": "reported tokens, with the image's counted as the model bills them, at the model card's prices; null "
    "on the stand-in, which bills nothing",
    "cost_usd_projected": "the same reckoning, whoever answered",
    "cost_usd_per_image": "cost_usd of the run, answers that were of no use included, over images analysed",
    "request_bytes": "HTTP bodies sent to Nova; an image travels as the address of its proxy",
    "s3_reduction_percent": "over analysed images: 1 - bytes that stand in S3 / bytes that would with every original "
    "there; a proxy of an original that lies in S3 anyway adds to it",
    "estimated": "image tokens by the model card (processed: what context and quota are charged; billed: what is paid) "
    "for the originals' dimensions and for those of the proxies; billed_input_tokens: reported ones with the image's "
    "counted as billed; storage dollars a month by the price's date",
}


@dataclass(frozen=True, slots=True)
class FailureReport:
    """One refused image."""

    uri: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """Estimated tokens of a run's analysed images by the model card, as originals and as what Nova read."""

    model: str
    billing: str  # "flat" or "by_size"
    processed_original: int
    processed_proxy: int
    billed_original: int
    billed_proxy: int

    def says(self) -> str:
        """Return what proxies do to the bill for images, plainly."""
        if self.billing == "flat":
            return (
                f"{self.model} bills every image alike: billed image tokens do not fall with proxies "
                f"({self.billed_original} with originals, {self.billed_proxy} with proxies, by estimate)"
            )
        return (
            f"{self.model} bills images by size: billed image tokens {self.billed_original} with originals, "
            f"{self.billed_proxy} with proxies, by estimate"
        )


@dataclass(frozen=True, slots=True)
class Estimates:
    """What follows from a run's measured figures by estimate. None where there was nothing to reckon from."""

    image_tokens: ImageTokens | None
    billed_input_tokens: int
    storage_usd_month_avoided: float
    storage_usd_month_added: float
    storage_price_usd_per_gb_month: float
    storage_price_date: str
    storage_price_source: str


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
    model_id: str | None
    tiers: tuple[str, ...]
    price_dates: tuple[str, ...]
    request_bytes: int
    cost_usd_per_image: float | None
    cost_usd_projected_per_image: float | None
    s3_reduction_percent: float | None
    targets: tuple[Target, ...]
    notes: tuple[str, ...]  # why the run did less than it found
    estimated: Estimates

    def as_json(self) -> str:
        """Return the report as JSON text, with the definitions of its figures."""
        return json.dumps({**asdict(self), "definitions": DEFINITIONS}, indent=2) + "\n"

    def counts(self) -> dict[str, int]:
        """Return the counts only: what may travel through XCom."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    def text(self) -> str:
        """Return a few lines for a task's log: outcomes, cost, targets, and why it did less than it found."""
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
        lines = [
            f"{self.images_listed} listed: {outcomes}; {self.analyses_written} analysed in {self.nova_calls} calls to "
            f"{self.nova_endpoint}; {self.bytes_original} -> {self.bytes_served} bytes, saving {saving}",
            *(f"note: {note}" for note in self.notes),
            *self.cost_lines(),
            *(f"target: {target.text()}" for target in self.targets),
        ]
        return "\n".join(lines)

    def cost_lines(self) -> list[str]:
        """Return what the run and an image cost, measured or projected, and what storage costs by estimate."""
        lines = []
        if self.nova_calls:
            paid = self.nova_endpoint == "aws"
            cost, each = (
                (self.cost_usd, self.cost_usd_per_image)
                if paid
                else (self.cost_usd_projected, self.cost_usd_projected_per_image)
            )
            said = (
                f"Nova cost ${cost or 0:.4f}"
                if paid
                else f"nothing was paid; on AWS about ${cost or 0:.4f} (projected)"
            )
            lines.append(said + ("" if each is None else f", ${each:.6f} an analysed image") + f", tier {self.tier}")
        if self.estimated.image_tokens is not None:
            lines.append(self.estimated.image_tokens.says())
        avoided, added = self.estimated.storage_usd_month_avoided, self.estimated.storage_usd_month_added
        if avoided or added:
            lines.append(f"S3 storage a month by estimate: ${avoided:.6f} avoided, ${added:.6f} added")
        return lines

    @property
    def tier(self) -> str:
        """Return the tier, or the tiers, of its calls."""
        return ", ".join(self.tiers) or "-"


def build_report(
    figures: RunFigures,
    images: Sequence[ImageReport],
    tokens: ImageTokens | None = None,
    price: StoragePrice | None = None,
    notes: tuple[str, ...] = (),
) -> RunReport:
    """Turn one run's figures and images into its report; ``tokens`` are its images' by the model card."""
    reduction_over_1mb = _percent(figures.mean_saving_ratio_over_1mb)
    p95 = _rounded(percentile(figures.proxy_seconds, 0.95), 3)
    s3_reduction = s3_reduction_percent(figures.storage)
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
        savings_percent_mean_over_1mb=reduction_over_1mb,
        proxy_seconds_p50=_rounded(percentile(figures.proxy_seconds, 0.50), 3),
        proxy_seconds_p95=p95,
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        cost_usd=_rounded(figures.cost_usd, 6),
        cost_usd_projected=_rounded(figures.cost_usd_projected, 6),
        nova_endpoint=figures.nova_endpoint,
        seconds=_rounded(figures.seconds, 3),
        model_id=figures.model_id if figures.nova_calls else None,
        tiers=figures.tiers,
        price_dates=figures.price_dates,
        request_bytes=figures.request_bytes,
        cost_usd_per_image=_each(figures.cost_usd, figures.analyses_written),
        cost_usd_projected_per_image=_each(figures.cost_usd_projected, figures.analyses_written),
        s3_reduction_percent=s3_reduction,
        targets=check_targets(reduction_over_1mb, p95, s3_reduction),
        notes=notes,
        estimated=_estimates(figures, tokens, price or storage_price()),
    )


def _estimates(figures: RunFigures, tokens: ImageTokens | None, price: StoragePrice) -> Estimates:
    return Estimates(
        image_tokens=tokens,
        billed_input_tokens=figures.billed_input_tokens,
        storage_usd_month_avoided=round(price.usd_month(bytes_avoided(figures.storage)), 9),
        storage_usd_month_added=round(price.usd_month(bytes_added(figures.storage)), 9),
        storage_price_usd_per_gb_month=price.usd_per_gb_month,
        storage_price_date=price.date,
        storage_price_source=price.source,
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


def _each(total: float | None, count: int) -> float | None:
    return None if total is None or not count else round(total / count, 9)


def _rounded(figure: float | None, digits: int) -> float | None:
    return None if figure is None else round(figure, digits)


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(100 * ratio, 2)
