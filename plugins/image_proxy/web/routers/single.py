"""One image: make its proxy, or have it analysed, and wait for the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from image_proxy.web import jobs, waiting
from image_proxy.web.deployment import CatalogDep, SettingsDep, root
from image_proxy.web.models import AcceptedModel, ProxyModel
from image_proxy.web.problems import Problem, documented
from image_proxy.web.routers.files import FileId
from image_proxy.web.security import CurrentUser, audited
from include.catalog.browse_records import AnalysisEntry, FileEntry, ProxyEntry
from include.catalog.catalog import Catalog
from include.catalog.records import Outcome, Stage, WorkKey
from include.pipeline.params import PipelineParams
from include.pipeline.plan import work_key

router = APIRouter(prefix="/api/files", tags=["files"])

MOST_SECONDS = 60
WaitSeconds = Annotated[
    float, Query(ge=0, le=MOST_SECONDS, description="How long to wait for the result before answering 202")
]
STARTED: dict[int | str, dict[str, Any]] = {202: {"model": AcceptedModel, "description": "Still going on"}}
ERRORS = documented(401, 403, 404, 409, 422, 503)


@router.post(
    "/{file_id}/create-image-proxy",
    operation_id="create_image_proxy",
    response_model=ProxyModel,
    responses={**STARTED, **ERRORS},
    dependencies=[audited("create_proxy")],
)
async def create_image_proxy(
    request: Request,
    file_id: FileId,
    user: CurrentUser,
    catalog: CatalogDep,
    settings: SettingsDep,
    wait_seconds: WaitSeconds = 30,
) -> Any:
    """Return the image's current proxy, made by a worker if there is none. Never calls Nova.

    404 unknown id; 409 another run is making it, or the DAG is paused; 422 it cannot be proxied, with the reason.
    """
    wanted = _Wanted(catalog, PipelineParams(stages=("proxy",)), file_id, Stage.PROXY)
    key = await run_in_threadpool(work_key, wanted.params, settings)
    return await _make(request, user, wanted, key, wait_seconds, _proxy_or_none)


@router.post(
    "/{file_id}/analyze",
    operation_id="analyze_file",
    response_model=AnalysisEntry,
    responses={**STARTED, **ERRORS},
    dependencies=[audited("analyse")],
)
async def analyze_file(
    request: Request,
    file_id: FileId,
    user: CurrentUser,
    catalog: CatalogDep,
    settings: SettingsDep,
    wait_seconds: WaitSeconds = 30,
) -> Any:
    """Return the image's current analysis; if there is none, a run makes the proxy if missing and calls Nova, once."""
    wanted = _Wanted(catalog, PipelineParams(), file_id, Stage.ANALYSE)
    key = await run_in_threadpool(work_key, wanted.params, settings)
    return await _make(request, user, wanted, key, wait_seconds, _analysis_or_none)


@dataclass(frozen=True, slots=True)
class _Wanted:
    catalog: Catalog
    params: PipelineParams
    file_id: int
    stage: Stage


Finder = Callable[[Catalog, int, WorkKey], Any]


async def _make(
    request: Request, user: CurrentUser, wanted: _Wanted, key: WorkKey, wait_seconds: float, find: Finder
) -> Any:
    """Answer what is there, or start a run for it and wait for the image's row."""
    file_id, catalog = wanted.file_id, wanted.catalog
    done = await run_in_threadpool(_present, wanted, key, find)
    if done is not None:
        return done
    job_id = await run_in_threadpool(jobs.start_one, user, wanted.params, file_id, catalog)
    decided = await waiting.decision(catalog, job_id, file_id, wanted.stage, wait_seconds)
    if decided is None:
        return _accepted(request, job_id)
    if decided.outcome is Outcome.FAILED:
        raise Problem(422, decided.code or "failed", decided.message or "it failed", job_id=job_id)
    done = await run_in_threadpool(find, catalog, file_id, key)
    if done is not None:
        return done
    raise _undecided(decided, job_id)


def _present(wanted: _Wanted, key: WorkKey, find: Finder) -> Any:
    """What the image has already; a Problem when there is no such image, or a run has it, or it failed for good."""
    file = wanted.catalog.file_entry(wanted.file_id)
    if file is None:
        raise Problem(404, "unknown_file", f"there is no image {wanted.file_id}")
    if not file.is_image:
        raise Problem(422, "not_an_image", f"file {wanted.file_id} is {file.media_type or 'of no known type'}")
    done = find(wanted.catalog, wanted.file_id, key)
    if done is None:
        _refuse_busy(file)
    return done


def _refuse_busy(file: FileEntry) -> None:
    if file.claim is not None:
        job_id = file.claim.run_id.removeprefix(f"{jobs.DAG_ID}/")
        raise Problem(409, "already_being_made", f"run {job_id} is working on it", job_id=job_id)


def _proxy_or_none(catalog: Catalog, file_id: int, key: WorkKey) -> ProxyModel | None:
    proxy = catalog.current_proxy(file_id, key)
    if proxy is None:
        return None
    return None if _failed(proxy) else ProxyModel.of(proxy)


def _analysis_or_none(catalog: Catalog, file_id: int, key: WorkKey) -> AnalysisEntry | None:
    analysis = catalog.current_analysis(file_id, key)
    if analysis is not None:
        return None if _failed(analysis) else analysis
    proxy = catalog.current_proxy(file_id, key)
    if proxy is not None:
        _failed(proxy)  # what has no proxy cannot be analysed
    return None


def _failed(row: ProxyEntry | AnalysisEntry) -> bool:
    """Whether the row is a failure that a run would try again now; one that it would not is a Problem."""
    if row.status != Outcome.FAILED.value:
        return False
    if row.next_try_at is None or row.next_try_at > jobs.now():
        again = "it is not tried again by itself" if row.next_try_at is None else f"tried again from {row.next_try_at}"
        job_id = row.run_id.removeprefix(f"{jobs.DAG_ID}/")
        detail = f"{row.message}; {again}: POST /api/failures/retry tries now"
        raise Problem(422, row.code or "failed", detail, job_id=job_id)
    return True


def _undecided(decided: waiting.Decision, job_id: str) -> Problem:
    if decided.outcome is Outcome.SKIPPED and decided.code == "claimed_by_another_run":
        return Problem(409, "already_being_made", decided.message or "another run has it", job_id=job_id)
    if decided.outcome is not None:
        return Problem(409, decided.code or decided.outcome.value, decided.message or "put back", job_id=job_id)
    return Problem(503, "run_failed", "the run ended without deciding about this image: see its log", job_id=job_id)


def _accepted(request: Request, job_id: str) -> JSONResponse:
    body = AcceptedModel(
        job_id=job_id,
        status_url=f"{root(request)}/v1/api/batch/{job_id}",
        message="a worker is at it; ask status_url, or make the same request again",
    )
    return JSONResponse(body.model_dump(mode="json"), 202, headers={"Location": body.status_url})
