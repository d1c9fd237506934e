"""First step of a batch inference run: list what waits for an analysis, project its cost, and split it into jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from include.catalog.records import RunPlan, Selection, SourceImage, Stage
from include.nova import projected_cost_usd
from include.nova.batch import split_evenly
from include.pipeline.batch_params import DEFAULT_LIMIT
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import PipelineParams
from include.pipeline.plan import CostLimitExceeded, Plan, Projection, proxy_dimensions, work_key
from include.pipeline.prompting import prompt_of
from include.pipeline.settings import Settings
from include.pipeline.spending import budget_left, limits_of

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

TIER = "batch"


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
    log.info("jobs run as %s, on s3://%s", settings.required_batch_role_arn, settings.required_bucket)
    stored = catalog.planned_batches(identity.run_id)
    if stored:
        log.info("the run was planned before: %d jobs, as they stand", len(stored))
        return Plan(stored, Projection(sum(batch.size for batch in stored), 0, 0, 0.0))
    images = catalog.select_unprocessed(_selection(identity, params, settings, window))
    projection = project_batch(images, params, settings)
    sizes = split_evenly(len(images), settings.batch_max_records)
    log.info("listed %d images for %d jobs of %s; projected: %s", len(images), len(sizes), sizes[:10], projection)
    limits = limits_of(params, settings, identity.run_id, catalog.now())
    budget = budget_left(catalog, limits, identity.run_id)
    if budget is not None and projection.cost_usd_estimated > budget.left_usd:
        raise CostLimitExceeded(
            f"{projection.images} images would cost about ${projection.cost_usd_estimated:.4f} at the price of batch "
            f"inference, but {budget.says()} has ${max(0.0, budget.left_usd):.4f} left: raise it, or lower limit"
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
    prompt, prices = prompt_of(settings), settings.price_overrides
    projected_cost_usd(params.model_id, 1, 1, prompt, TIER, prices)  # an unknown model is named, images or not
    cost = sum(
        count * projected_cost_usd(params.model_id, width, height, prompt, TIER, prices)
        for (width, height), count in Counter(proxy_dimensions(image, params) for image in images).items()
    )
    return Projection(len(images), sum(image.size_bytes for image in images), 0, cost)
