"""Stage 4: close a run and report its figures, all of them queried from the catalog."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from include.catalog.errors import UnknownRun
from include.catalog.records import RunFigures
from include.nova import NovaError, card_for
from include.pipeline.settings import SettingsError, load_settings
from include.pipeline.spending import notes_of
from include.savings import ImageTokens, RunReport, StoragePrice, build_report, storage_price

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog


def summarise(catalog: Catalog, run_id: str) -> RunReport | None:
    """Mark the run as finished and return its report; None when no such run is stored (dry run, or no plan).

    Why it did less than it found (a spending limit) stands on the run as its note.
    """
    try:
        notes = notes_of(catalog.run_figures(run_id))
        catalog.finish_run(run_id, "; ".join(notes) or None)
    except UnknownRun:
        return None
    return report_of(catalog, run_id)


def report_of(catalog: Catalog, run_id: str) -> RunReport:
    """Return the report of a stored run."""
    figures = catalog.run_figures(run_id)
    return build_report(figures, catalog.run_images(run_id), image_tokens(figures), _price(), notes_of(figures))


def image_tokens(figures: RunFigures) -> ImageTokens | None:
    """Estimate the tokens of the analysed images as originals and as proxies; None without images or model card."""
    if not figures.image_sizes or figures.model_id is None:
        return None
    try:
        card = card_for(figures.model_id)
    except NovaError:
        return None
    sizes = figures.image_sizes
    return ImageTokens(
        model=card.name,
        billing=card.billing,
        processed_original=sum(
            s.images * card.processed_image_tokens(s.original_width, s.original_height) for s in sizes
        ),
        processed_proxy=sum(s.images * card.processed_image_tokens(s.width, s.height) for s in sizes),
        billed_original=sum(s.images * card.billed_image_tokens(s.original_width, s.original_height) for s in sizes),
        billed_proxy=sum(s.images * card.billed_image_tokens(s.width, s.height) for s in sizes),
    )


def _price() -> StoragePrice:
    """A wrong setting does not keep a run from being closed: the run's first task refuses it."""
    with contextlib.suppress(SettingsError):
        return storage_price(load_settings().storage_usd_per_gb_month)
    return storage_price()
