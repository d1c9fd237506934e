"""Stage 1: list what is unprocessed, project its cost, size the batches and write them to the catalog."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.catalog.records import PlannedBatch, RunPlan, Selection, SourceImage, Stage, WorkKey
from include.imaging import ProxyOptions, calculate_target_dimensions
from include.nova import load_prompt, projected_cost_usd
from include.pipeline.identity import AUTOMATIC, BACKFILL, RunIdentity, Window
from include.pipeline.params import PipelineParams
from include.pipeline.settings import Settings

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

# A mapped task costs about 0.45 s of scheduling (LocalExecutor on two cores) and an image about 0.1 s of work: from 50
# images on, overhead is under a tenth.
MIN_AUTO_BATCH = 50
# Before this catalog has a proxy to measure: a 1195 x 896 JPEG of about 200 kB, the first row of the plan's table.
ASSUMED_BYTES_PER_PIXEL = 0.19
ASSUMED_DIMENSIONS = (1195, 896)


class MadeOnRequest(ValueError):
    """The deployment makes proxies on request only (`proxy_mode` is lazy), and nobody asked."""

    code = "proxy_mode_lazy"


class CostLimitExceeded(ValueError):
    """The projected cost is above `max_cost_usd`; nothing was claimed and nothing was called."""

    code = "max_cost_usd"


@dataclass(frozen=True, slots=True)
class Projection:
    """What a run would do. Every figure is an estimate."""

    images: int
    bytes_original: int
    bytes_proxies_estimated: int
    cost_usd_estimated: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The stored batches (none under dry run) and the projection."""

    batches: tuple[PlannedBatch, ...]
    projection: Projection


def proxy_options(params: PipelineParams) -> ProxyOptions:
    """Return the recipe that a run's params ask for."""
    return ProxyOptions(
        target_short_side=params.target_short_side,
        quality=params.quality,
        graphics_format=params.graphics_format,
        detail=params.detail,
    )


def work_key(params: PipelineParams, settings: Settings) -> WorkKey:
    """Return what counts as done for these params."""
    return WorkKey(
        recipe_version=proxy_options(params).version,
        model_id=params.model_id,
        prompt_version=load_prompt(settings.prompt_file).version,
    )


def plan_run(
    catalog: Catalog,
    identity: RunIdentity,
    params: PipelineParams,
    settings: Settings,
    window: Window,
    *,
    nova_endpoint: str | None,
    max_batches: int,
) -> Plan:
    """List, project and store one run. Raises `MadeOnRequest` or `CostLimitExceeded` before anything is written.

    A run that is planned again (its task was retried or cleared) takes only images that it listed before, so that
    neither `limit` nor `max_cost_usd` is used twice.
    """
    if settings.proxy_mode == "lazy" and identity.run_type in AUTOMATIC:
        raise MadeOnRequest(
            "IMAGE_PROXY_PROXY_MODE is lazy: nothing is made on schedule or upload; trigger a run by hand, a backfill, "
            "or an analysis over the API"
        )
    key = work_key(params, settings)
    stages = stages_of(params, settings)
    before = catalog.is_planned(identity.run_id)
    images = catalog.select_unprocessed(
        Selection(
            key=key,
            stages=stages,
            run_id=identity.run_id,
            limit=limit_of(identity, params, settings),
            planned_before=before and _is_repeated(catalog, identity, params),
            force=params.force,
            force_proxies=Stage.PROXY in params.wanted,
            file_ids=params.file_ids,
            uploaded_from=params.uploaded_from or window.uploaded_from,
            uploaded_to=params.uploaded_to or window.uploaded_to,
        )
    )
    projection = project(images, params, settings, catalog.proxy_bytes_per_pixel())
    log.info("listed %d images; projected: %s", len(images), projection)
    spent = catalog.run_figures(identity.run_id).cost_usd_projected or 0.0 if before else 0.0
    if params.max_cost_usd is not None and spent + projection.cost_usd_estimated > params.max_cost_usd:
        raise CostLimitExceeded(
            f"{projection.images} images would cost about ${projection.cost_usd_estimated:.4f}"
            + (f" after ${spent:.4f} that this run has spent" if spent else "")
            + f", above max_cost_usd ${params.max_cost_usd:.4f}: raise it, or lower limit"
        )
    if params.dry_run:
        return Plan((), projection)
    size = batch_size(len(images), params.batch_size, max_batches)
    stored = catalog.store_plan(
        RunPlan(
            run_id=identity.run_id,
            dag_id=identity.dag_id,
            dag_run_id=identity.dag_run_id,
            params=params.as_json(),
            key=key,
            stages=stages,
            force=params.force,
            nova_endpoint=nova_endpoint,
            run_type=identity.run_type,
            batches=tuple(
                tuple(image.file_id for image in images[start : start + size]) for start in range(0, len(images), size)
            ),
        )
    )
    return Plan(stored, projection)


def stages_of(params: PipelineParams, settings: Settings) -> frozenset[Stage]:
    """Return the stages of a run: those asked for; in lazy mode an analysis makes the proxies that it lacks."""
    if settings.proxy_mode == "lazy" and Stage.ANALYSE in params.wanted:
        return frozenset(Stage)
    return params.wanted


def limit_of(identity: RunIdentity, params: PipelineParams, settings: Settings) -> int | None:
    """Return the most images that a run takes. A backfill is bounded by its interval: it takes all that lies there."""
    if params.limit is None and identity.run_type == BACKFILL:
        return None
    return params.limit or settings.run_limit


def _is_repeated(catalog: Catalog, identity: RunIdentity, params: PipelineParams) -> bool:
    """Whether a bound of a run planned before would be used twice if its images were listed afresh.

    A backfill has no such bound unless its params set one, and one that reprocesses an interval (Airflow does it under
    the earlier run's id) is to take what came in late.
    """
    if identity.run_type == BACKFILL and params.limit is None and params.max_cost_usd is None:
        return False
    return catalog.is_same_request(identity.run_id, identity.run_type, params.as_json())


def batch_size(images: int, wanted: int | None, max_batches: int) -> int:
    """Return images per batch: as asked or long enough to pay for a task, and never more batches than can be mapped."""
    return max(1, wanted or MIN_AUTO_BATCH, math.ceil(images / max_batches))


def project(
    images: Sequence[SourceImage], params: PipelineParams, settings: Settings, bytes_per_pixel: Mapping[str, float]
) -> Projection:
    """Estimate a run from the catalog's dimensions, its own measured bytes per pixel and the model card's prices."""
    sizes = [proxy_dimensions(image, params) for image in images]
    proxies = (
        min(width * height * _bytes_per_pixel(image, params, bytes_per_pixel), image.size_bytes)
        for image, (width, height) in zip(images, sizes, strict=True)
    )
    cost = 0.0
    if Stage.ANALYSE in params.wanted:
        prompt, prices = load_prompt(settings.prompt_file), settings.price_overrides
        cost = sum(
            count * projected_cost_usd(params.model_id, width, height, prompt, overrides=prices)
            for (width, height), count in Counter(sizes).items()
        )
    return Projection(len(images), sum(image.size_bytes for image in images), round(sum(proxies)), cost)


def _bytes_per_pixel(image: SourceImage, params: PipelineParams, measured: Mapping[str, float]) -> float:
    return measured.get(_likely_format(image, params), ASSUMED_BYTES_PER_PIXEL)


def _likely_format(image: SourceImage, params: PipelineParams) -> str:
    """A proxy's format is known after decoding only; until then a PNG is taken for a graphic, the rest for photos."""
    return params.graphics_format if (image.format or image.media_type).lower().endswith("png") else "jpeg"


def proxy_dimensions(image: SourceImage, params: PipelineParams) -> tuple[int, int]:
    """Return the proxy's dimensions from the catalog's, or those of a 4:3 photograph where the catalog has none.

    How much small text there is, only decoding tells: under ``detail="auto"`` a likely graphic is projected with all of
    its pixels, so that a cost limit errs on the safe side.
    """
    width, height = image.resolution_width or 0, image.resolution_height or 0
    if width < 1 or height < 1:  # unknown, or a row that nobody checked
        return ASSUMED_DIMENSIONS
    whole = params.detail == "auto" and _likely_format(image, params) != "jpeg"
    short_side = max(min(width, height), params.target_short_side) if whole else params.target_short_side
    return calculate_target_dimensions(width, height, short_side)
