"""Stage 1: list what is unprocessed, project its cost, size the batches and write them to the catalog."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.catalog.records import PlannedBatch, RunPlan, Selection, SourceImage, Stage, WorkKey
from include.imaging import ProxyOptions, calculate_target_dimensions
from include.nova import projected_cost_usd
from include.pipeline.identity import AUTOMATIC, BACKFILL, RunIdentity, Window
from include.pipeline.params import PipelineParams
from include.pipeline.prompting import prompt_of
from include.pipeline.refusals import NeedsAPerson
from include.pipeline.settings import Settings
from include.pipeline.spending import NAMES, affordable, budget_left, limits_of

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

# Work for one core: 0.06 s for a 12 MP photograph (benchmarks/results/results.md), and about 0.02 s for any file.
SECONDS_PER_MEGAPIXEL = 0.0035
SECONDS_PER_FILE = 0.02
ASSUMED_MEGAPIXELS = 12  # of an image whose dimensions the catalog does not know
# Two mapped tasks a batch cost about 0.45 s of scheduling each (LocalExecutor on two cores), and its decode workers as
# much to start: a minute of work for one core, half a minute on two, keeps that far under a tenth. Below, a run is
# parted for several workers as long as each part is worth it.
BATCH_SECONDS = 60.0
MIN_BATCH_SECONDS = 30.0
PARALLEL_BATCHES = 4
# Before this catalog has a proxy to measure: a 1195 x 896 JPEG of about 200 kB, the first row of the plan's table.
ASSUMED_BYTES_PER_PIXEL = 0.19
ASSUMED_DIMENSIONS = (1195, 896)


class MadeOnRequest(ValueError):
    """The deployment makes proxies on request only (`proxy_mode` is lazy), and nobody asked."""

    code = "proxy_mode_lazy"


class CostLimitExceeded(NeedsAPerson, ValueError):
    """A spending limit does not even pay for one image, so no run could ever do anything."""

    code = "max_cost_usd"


@dataclass(frozen=True, slots=True)
class Projection:
    """What a run would do. Every figure is an estimate, of the images that it takes."""

    images: int
    bytes_original: int
    bytes_proxies_estimated: int
    cost_usd_estimated: float
    tier: str = "default"
    images_left_pending: int = 0  # found, but beyond what a spending limit pays for


@dataclass(frozen=True, slots=True)
class Plan:
    """The stored batches (none under dry run) and the projection."""

    batches: tuple[PlannedBatch, ...]
    projection: Projection
    note: str | None = None  # why it takes fewer images than it found
    oldest_seconds: float = 0.0  # since the upload of the oldest image that was found; 0 when there is none


@dataclass(frozen=True, slots=True)
class _Taken:
    """The images that a run takes of those that were listed, with what they come to."""

    images: Sequence[SourceImage]
    projection: Projection
    note: str | None
    oldest_seconds: float
    proxy_seconds: float


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
        prompt_version=prompt_of(settings).version,
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
    """List, project and store one run.

    It takes the images that the spending limits pay for by projection, oldest upload first; the rest stays pending, and
    the run says so. A run that is planned again (its task was retried or cleared) takes only images that it listed
    before, so that neither `limit` nor `max_cost_usd` is used twice. Raises `MadeOnRequest`, and `CostLimitExceeded`
    when a limit does not pay for one image, before anything is written.
    """
    if settings.proxy_mode == "lazy" and identity.run_type in AUTOMATIC:
        raise MadeOnRequest(
            "IMAGE_PROXY_PROXY_MODE is lazy: nothing is made on schedule or upload; trigger a run by hand, a backfill, "
            "or an analysis over the API"
        )
    key = work_key(params, settings)
    selection = _selection(catalog, identity, params, settings, window, key)
    taken = catalog.appraise_unprocessed(
        selection, lambda listed: _take(catalog, listed, params, settings, identity.run_id)
    )
    listed = taken.projection.images + taken.projection.images_left_pending
    log.info("listed %d images; projected: %s", listed, taken.projection)
    if taken.note:
        log.warning("%s", taken.note)
    if params.dry_run:
        return Plan((), taken.projection, taken.note, taken.oldest_seconds)
    size = params.batch_size or batch_size(len(taken.images), taken.proxy_seconds)
    size = max(size, math.ceil(len(taken.images) / max_batches))  # or the plan could not be mapped
    ids = [image.file_id for image in taken.images]
    batches = tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))
    stages = stages_of(params, settings)
    stored = catalog.store_plan(_run_plan(identity, params, stages, key, nova_endpoint, batches, taken.note))
    return Plan(stored, taken.projection, taken.note, taken.oldest_seconds)


def _take(
    catalog: Catalog, listed: Sequence[SourceImage], params: PipelineParams, settings: Settings, run_id: str
) -> _Taken:
    """Choose and project, without a trace: it may be asked again with another list."""
    images, note = within_limits(catalog, listed, params, settings, run_id)
    projection = dataclasses.replace(
        project(images, params, settings, catalog.proxy_bytes_per_pixel()),
        images_left_pending=len(listed) - len(images),
    )
    oldest = (catalog.now() - listed[0].uploaded_at).total_seconds() if listed else 0.0
    return _Taken(images, projection, note, oldest, proxy_seconds(images))


def _selection(
    catalog: Catalog,
    identity: RunIdentity,
    params: PipelineParams,
    settings: Settings,
    window: Window,
    key: WorkKey,
) -> Selection:
    return Selection(
        key=key,
        stages=stages_of(params, settings),
        run_id=identity.run_id,
        limit=limit_of(identity, params, settings),
        planned_before=catalog.is_planned(identity.run_id) and _is_repeated(catalog, identity, params),
        force=params.force,
        force_proxies=Stage.PROXY in params.wanted,
        file_ids=params.file_ids,
        uploaded_from=params.uploaded_from or window.uploaded_from,
        uploaded_to=params.uploaded_to or window.uploaded_to,
        keep_mark=not params.dry_run,
    )


def _run_plan(
    identity: RunIdentity,
    params: PipelineParams,
    stages: frozenset[Stage],
    key: WorkKey,
    nova_endpoint: str | None,
    batches: tuple[tuple[int, ...], ...],
    note: str | None,
) -> RunPlan:
    return RunPlan(
        run_id=identity.run_id,
        dag_id=identity.dag_id,
        dag_run_id=identity.dag_run_id,
        params=params.as_json(),
        key=key,
        stages=stages,
        force=params.force,
        nova_endpoint=nova_endpoint,
        run_type=identity.run_type,
        batches=batches,
        note=note,
    )


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


def within_limits(
    catalog: Catalog,
    images: Sequence[SourceImage],
    params: PipelineParams,
    settings: Settings,
    run_id: str,
    tier: str | None = None,
) -> tuple[Sequence[SourceImage], str | None]:
    """Return the images, in order, that the spending limits pay for (at `tier`, else at the params'), and why it is not
    all of them."""
    costs = projected_costs(images, params, settings, tier)
    limits = limits_of(params, settings, run_id, catalog.now()) if any(costs) else ()
    budget = budget_left(catalog, limits, run_id)
    if budget is None:
        return images, None
    for limit in limits:
        if costs[0] > limit.usd:
            raise CostLimitExceeded(
                f"one image would cost about ${costs[0]:.4f}, above {NAMES[limit.code]} ${limit.usd:.4f}: raise it"
            )
    count = affordable(costs, budget.left_usd)
    if count == len(images):
        return images, None
    left = max(0.0, budget.left_usd)
    note = (
        f"{budget.says()} has ${left:.4f} left, which pays for {count} of {len(images)} images by projection: "
        f"{len(images) - count} left pending"
    )
    return images[:count], note


def proxy_seconds(images: Sequence[SourceImage]) -> float:
    """Estimate the work of making these images' proxies, in seconds of one core."""
    return sum(SECONDS_PER_FILE + SECONDS_PER_MEGAPIXEL * _megapixels(image) for image in images)


def _megapixels(image: SourceImage) -> float:
    pixels = (image.resolution_width or 0) * (image.resolution_height or 0)
    return pixels / 1e6 if pixels > 0 else ASSUMED_MEGAPIXELS


def batch_size(images: int, seconds: float) -> int:
    """Return images per batch for that many seconds of work: long enough to pay for a task, and a few of them."""
    batches = max(math.ceil(seconds / BATCH_SECONDS), min(PARALLEL_BATCHES, int(seconds / MIN_BATCH_SECONDS)), 1)
    return max(1, math.ceil(images / batches))


def project(
    images: Sequence[SourceImage], params: PipelineParams, settings: Settings, bytes_per_pixel: Mapping[str, float]
) -> Projection:
    """Estimate a run from the catalog's dimensions, its own measured bytes per pixel and the model card's prices."""
    sizes = [proxy_dimensions(image, params) for image in images]
    proxies = (
        min(width * height * _bytes_per_pixel(image, params, bytes_per_pixel), image.size_bytes)
        for image, (width, height) in zip(images, sizes, strict=True)
    )
    return Projection(
        images=len(images),
        bytes_original=sum(image.size_bytes for image in images),
        bytes_proxies_estimated=round(sum(proxies)),
        cost_usd_estimated=sum(projected_costs(images, params, settings)),
        tier=params.tier,
    )


def projected_costs(
    images: Sequence[SourceImage], params: PipelineParams, settings: Settings, tier: str | None = None
) -> list[float]:
    """Estimate the US dollars of each image's analysis (at `tier`, else at the params'); zeros for a run that makes
    proxies only."""
    if Stage.ANALYSE not in params.wanted:
        return [0.0] * len(images)
    prompt, overrides = prompt_of(settings), settings.price_overrides
    sizes = [proxy_dimensions(image, params) for image in images]
    by_size = {
        size: projected_cost_usd(params.model_id, *size, prompt, tier or params.tier, overrides)
        for size in set(sizes) or {ASSUMED_DIMENSIONS}  # a wrong model or price is said with nothing to do, too
    }
    return [by_size[size] for size in sizes]


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
