"""Many images, and the jobs that work on them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from image_proxy.web import jobs
from image_proxy.web.batches import Desk
from image_proxy.web.deployment import CatalogDep, SettingsDep
from image_proxy.web.models import AnalysisBatchBody, BatchBody, BatchModel, JobModel, RetryBody
from image_proxy.web.problems import documented
from image_proxy.web.security import CurrentUser, audited, may_change_runs

router = APIRouter(prefix="/api", tags=["jobs"])

# Airflow's own pattern for run ids ([scheduler] allowed_run_id_pattern), bounded.
JobId = Annotated[
    str, Path(max_length=250, pattern=r"^[A-Za-z0-9_.~:+-]+$", description="A run of image_proxy_pipeline")
]
ERRORS = documented(401, 403, 409, 413, 422, 503)
STARTED: dict[int | str, dict[str, Any]] = {
    202: {"model": BatchModel, "description": "A job was started"},
    200: {"description": "Nothing was started: see `message`"},
}


def desk(user: CurrentUser, catalog: CatalogDep, settings: SettingsDep) -> Desk:
    """Return where orders of this request's user are taken."""
    return Desk(user, catalog, settings)


DeskDep = Annotated[Desk, Depends(desk)]


@router.post(
    "/batch/image-proxy",
    operation_id="create_image_proxies",
    responses={**STARTED, **ERRORS},
    dependencies=[audited("create_proxies")],
)
def create_image_proxies(body: BatchBody, desk: DeskDep, response: Response) -> BatchModel:
    """Start a job that makes proxies, on workers. Never calls Nova."""
    return _answered(desk.create_proxies(desk.chosen(body)), response)


@router.post(
    "/batch/analyze",
    operation_id="analyze_files",
    responses={**STARTED, **ERRORS},
    dependencies=[audited("analyse_batch")],
)
def analyze_files(body: AnalysisBatchBody, desk: DeskDep, response: Response) -> BatchModel:
    """Tell what analysing would cost; with `confirm`, start a job that makes missing proxies and calls Nova."""
    answer = desk.analyse(desk.chosen(body), confirm=body.confirm, max_cost_usd=body.max_cost_usd)
    return _answered(answer, response)


@router.post(
    "/failures/retry", operation_id="retry_failures", responses={**STARTED, **ERRORS}, dependencies=[audited("retry")]
)
def retry_failures(body: RetryBody, desk: DeskDep, response: Response) -> BatchModel:
    """Start a job that tries failed images again. Analyses need `confirm`, for they cost."""
    answer = desk.retry(
        body.stage,
        file_ids=body.file_ids,
        code=body.code,
        confirm=body.confirm,
        max_cost_usd=body.max_cost_usd,
    )
    return _answered(answer, response)


@router.get("/batch/{job_id}", operation_id="get_job", responses=documented(401, 403, 404, 422))
def get_job(job_id: JobId, catalog: CatalogDep) -> JobModel:
    """How far a job is: any run of image_proxy_pipeline, whoever started it."""
    return JobModel.of(jobs.find(job_id, catalog))


@router.post(
    "/batch/{job_id}/cancel",
    operation_id="cancel_job",
    responses=documented(401, 403, 404, 409, 422),
    dependencies=[Depends(may_change_runs), audited("cancel")],
)
def cancel_job(job_id: JobId, user: CurrentUser, catalog: CatalogDep) -> JobModel:
    """End a job and give its images back. What is decided stays decided."""
    return JobModel.of(jobs.cancel(user, job_id, catalog))


def _answered(answer: BatchModel, response: Response) -> BatchModel:
    response.status_code = 202 if answer.job_id else 200
    return answer
