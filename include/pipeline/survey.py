"""Before a run is started: what it would find to do, and what that would cost. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.catalog.records import Selection, Stage
from include.nova import price_for
from include.pipeline.analysis import TIER
from include.pipeline.params import PipelineParams
from include.pipeline.plan import DEFAULT_LIMIT, Projection, project, work_key
from include.pipeline.settings import Settings

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Survey:
    """The images with work left, oldest upload first, and the projection of a run over them (estimates)."""

    file_ids: tuple[int, ...]
    projection: Projection
    model_id: str | None  # None when no analysis is wanted
    price_date: str | None


def survey(catalog: Catalog, params: PipelineParams, settings: Settings) -> Survey:
    """Tell what a run with these params would take now. Raises `NovaError` for a model without a known price."""
    images = catalog.select_unprocessed(
        Selection(
            key=work_key(params, settings),
            stages=params.wanted,
            run_id="",  # nobody's: what any run holds is left out
            limit=params.limit or DEFAULT_LIMIT,
            force=params.force,
            file_ids=params.file_ids,
            uploaded_from=params.uploaded_from,
            uploaded_to=params.uploaded_to,
        )
    )
    analyses = Stage.ANALYSE in params.wanted
    return Survey(
        file_ids=tuple(image.file_id for image in images),
        projection=project(images, params, settings, catalog.proxy_bytes_per_pixel()),
        model_id=params.model_id if analyses else None,
        price_date=price_for(params.model_id, TIER, settings.price_overrides).date if analyses else None,
    )
