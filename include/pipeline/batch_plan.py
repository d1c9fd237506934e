"""First step of a batch inference run: list what waits for an analysis, project its cost, and split it into jobs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from include.catalog.records import RunPlan, Selection, SourceImage, Stage
from include.nova.batch import split_evenly
from include.pipeline.batch_params import DEFAULT_LIMIT
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import PipelineParams
from include.pipeline.plan import Plan, Projection, projected_costs, within_limits, work_key
from include.pipeline.settings import Settings

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
    """List, project and store one run; a stored batch is a job.

    It takes the images that the spending limits pay for at the price of batch inference, oldest upload first. Raises
    `CostLimitExceeded` when a limit does not pay for one, before anything is written. A run that is planned again keeps
    its plan: its jobs may be at work on it.
    """
    log.info("jobs run as %s, on s3://%s", settings.required_batch_role_arn, settings.required_bucket)
    stored = catalog.planned_batches(identity.run_id)
    if stored:
        log.info("the run was planned before: %d jobs, as they stand", len(stored))
        return Plan(stored, Projection(sum(batch.size for batch in stored), 0, 0, 0.0))
    listed = catalog.select_unprocessed(_selection(identity, params, settings, window))
    images, note = within_limits(catalog, listed, params, settings, identity.run_id, TIER)
    projection = replace(project_batch(images, params, settings), images_left_pending=len(listed) - len(images))
    sizes = split_evenly(len(images), settings.batch_max_records)
    log.info("listed %d images for %d jobs of %s; projected: %s", len(listed), len(sizes), sizes[:10], projection)
    if note:
        log.warning("%s", note)
    if params.dry_run:
        return Plan((), projection, note)
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
                note=note,
            )
        ),
        projection,
        note,
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
    costs = projected_costs(images, params, settings, TIER)
    return Projection(len(images), sum(image.size_bytes for image in images), 0, math.fsum(costs), TIER)
