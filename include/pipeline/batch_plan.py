"""First step of a batch inference run: list what waits for an analysis, project its cost, and split it into jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from include.catalog.records import RunPlan, Selection, SourceImage, Stage
from include.nova import load_prompt, projected_cost_usd
from include.nova.batch import split_evenly
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import PipelineParams, param_schemas, parse_params
from include.pipeline.plan import CostLimitExceeded, Plan, Projection, proxy_dimensions, work_key
from include.pipeline.settings import Settings

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

TIER = "batch"
STAGES = ("analyse",)
DEFAULT_LIMIT = 50_000
# Of the pipeline's params: what chooses images, what names their proxies, and what bounds the run.
NAMES = (
    "limit",
    "dry_run",
    "file_ids",
    "uploaded_from",
    "uploaded_to",
    "target_short_side",
    "detail",
    "quality",
    "graphics_format",
    "model_id",
    "max_failure_ratio",
    "max_cost_usd",
)
_DESCRIPTIONS = {
    "limit": "Take at most this many images, oldest upload first. Empty: 50,000, one full job.",
    "target_short_side": "Of the proxies to take: those made with this shorter side.",
    "detail": "Of the proxies to take.",
    "quality": "Of the proxies to take.",
    "graphics_format": "Of the proxies to take.",
}


def batch_param_schemas() -> dict[str, dict[str, Any]]:
    """Return name -> JSON schema of the params of a batch inference run, in the order of the form."""
    known = param_schemas()
    return {
        name: known[name] | ({"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}) for name in NAMES
    }


def parse_batch_params(conf: Mapping[str, Any]) -> PipelineParams:
    """Check ``conf`` as the pipeline does, for a run that analyses only. Raises `InvalidParams`."""
    from include.pipeline.params import InvalidParams

    unknown = sorted(set(conf) - set(NAMES))
    if unknown:
        raise InvalidParams(f"unknown param {', '.join(map(repr, unknown))}: known are {', '.join(NAMES)}")
    return parse_params({**conf, "stages": list(STAGES)})


def plan_batch_run(
    catalog: Catalog,
    identity: RunIdentity,
    params: PipelineParams,
    settings: Settings,
    window: Window,
    *,
    nova_endpoint: str,
) -> Plan:
    """List, project and store one run; a stored batch is a job. Raises `CostLimitExceeded` before anything is written.

    A run that is planned again keeps its plan: its jobs may be at work on it.
    """
    settings.required_batch_role_arn, settings.required_bucket  # noqa: B018 - named here, before anything is done
    stored = catalog.planned_batches(identity.run_id)
    if stored:
        log.info("the run was planned before: %d jobs, as they stand", len(stored))
        return Plan(stored, Projection(sum(batch.size for batch in stored), 0, 0, 0.0))
    images = catalog.select_unprocessed(_selection(identity, params, settings, window))
    projection = project_batch(images, params, settings)
    sizes = split_evenly(len(images), settings.batch_max_records)
    log.info("listed %d images for %d jobs of %s; projected: %s", len(images), len(sizes), sizes[:10], projection)
    if params.max_cost_usd is not None and projection.cost_usd_estimated > params.max_cost_usd:
        raise CostLimitExceeded(
            f"{projection.images} images would cost about ${projection.cost_usd_estimated:.4f} at the price of batch "
            f"inference, above max_cost_usd ${params.max_cost_usd:.4f}: raise it, or lower limit"
        )
    if params.dry_run:
        return Plan((), projection)
    ids = iter([image.file_id for image in images])
    return Plan(
        catalog.store_plan(
            RunPlan(
                run_id=identity.run_id,
                dag_id=identity.dag_id,
                dag_run_id=identity.dag_run_id,
                params=params.as_json(),
                key=work_key(params, settings),
                stages=params.wanted,
                force=params.force,
                nova_endpoint=nova_endpoint,
                batches=tuple(tuple(islice(ids, size)) for size in sizes),
            )
        ),
        projection,
    )


def _selection(identity: RunIdentity, params: PipelineParams, settings: Settings, window: Window) -> Selection:
    """Pending for a job: a current proxy, no current analysis for the key, and nobody at work on it."""
    return Selection(
        key=work_key(params, settings),
        stages=frozenset({Stage.ANALYSE}),
        run_id=identity.run_id,
        limit=params.limit or DEFAULT_LIMIT,
        file_ids=params.file_ids,
        uploaded_from=params.uploaded_from or window.uploaded_from,
        uploaded_to=params.uploaded_to or window.uploaded_to,
    )


def project_batch(images: Sequence[SourceImage], params: PipelineParams, settings: Settings) -> Projection:
    """Estimate what the images' analyses would cost in batch jobs."""
    prompt, prices = load_prompt(settings.prompt_file), settings.price_overrides
    projected_cost_usd(params.model_id, 1, 1, prompt, TIER, prices)  # an unknown model is named, images or not
    cost = sum(
        count * projected_cost_usd(params.model_id, width, height, prompt, TIER, prices)
        for (width, height), count in Counter(proxy_dimensions(image, params) for image in images).items()
    )
    return Projection(len(images), sum(image.size_bytes for image in images), 0, cost)
