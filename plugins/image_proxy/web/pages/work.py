"""What people start from the pages: the same orders as the API's, answered with parts of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from starlette.responses import HTMLResponse

from image_proxy.web import jobs
from image_proxy.web.deployment import CatalogDep
from image_proxy.web.jobs import Job
from image_proxy.web.models import MAX_ID, MOST_FILES, BatchBody, BatchModel
from image_proxy.web.pages.filters import Filters, FormFiltersDep
from image_proxy.web.pages.templates import render
from image_proxy.web.problems import Problem
from image_proxy.web.routers.batches import DeskDep, JobId
from image_proxy.web.routers.files import FileId
from image_proxy.web.security import MAX_BODY_BYTES, CurrentUser, audited, may_change_runs
from image_proxy.web.values import Storable
from include.catalog.browse_records import FileEntry, ImageStatus
from include.catalog.records import Stage
from include.pipeline.params import PipelineParams

router = APIRouter()

FileIds = Annotated[list[Annotated[int, Field(ge=1, le=MAX_ID)]], Form(max_length=MOST_FILES)]
# The quote names up to 10,000 images, and a form has at most 1,000 fields: so they stand in one, with spaces between.
Chosen = Annotated[str, Form(max_length=MAX_BODY_BYTES)]
Everything = Annotated[bool, Form(description="Not the chosen images, but all that match the filter")]
Shown = Annotated[str, Query(max_length=20)]
Code = Annotated[Annotated[str, Storable] | None, Form(max_length=100)]
OneFile = Annotated[int | None, Form(ge=1, le=MAX_ID)]
Most = Annotated[float | None, Form(ge=0, allow_inf_nan=False)]
NO_IDS: list[int] = []
DONE = {"HX-Trigger": "dialog-done"}
CHANGED = {"HX-Trigger": "images-changed"}


@router.post("/images/{file_id}/create-proxy", dependencies=[audited("create_proxy")])
def create_proxy(request: Request, file_id: FileId, user: CurrentUser, catalog: CatalogDep) -> HTMLResponse:
    """Start a run that makes this image's proxy; the card then looks after it."""
    entry = catalog.file_entry(file_id)
    if entry is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    if entry.status is not ImageStatus.PENDING:
        return _card(request, entry, None)
    job_id = jobs.start_one(user, PipelineParams(stages=("proxy",)), file_id, catalog)
    return _card(request, entry, job_id)


@router.post("/images/{file_id}/retry", dependencies=[audited("retry")])
def retry_card(request: Request, file_id: FileId, desk: DeskDep) -> HTMLResponse:
    """Try a failed image again; its card looks after it."""
    entry = desk.catalog.file_entry(file_id)
    if entry is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    started = desk.retry(Stage.PROXY, file_ids=[file_id])
    return _card(request, entry, started.job_id)


@router.post("/batch/create-proxies", dependencies=[audited("create_proxies")])
def create_proxies(
    request: Request, desk: DeskDep, filters: FormFiltersDep, file_ids: FileIds = NO_IDS, everything: Everything = False
) -> HTMLResponse:
    """Start a run over the chosen images."""
    return _started(request, desk.create_proxies(desk.chosen(_body(filters, file_ids, everything))))


@router.post("/batch/analyse/quote", dependencies=[audited("quote")])
def quote(
    request: Request, desk: DeskDep, filters: FormFiltersDep, file_ids: FileIds = NO_IDS, everything: Everything = False
) -> HTMLResponse:
    """Say what analysing would cost; nothing is started."""
    ids = desk.chosen(_body(filters, file_ids, everything))
    found = desk.analyse(ids, confirm=False, max_cost_usd=None)
    return render(request, "quote.html", quote=found, chosen=ids, action="batch/analyse", extra={})


@router.post("/batch/analyse", dependencies=[audited("analyse_batch")])
def analyse(request: Request, desk: DeskDep, chosen: Chosen, max_cost_usd: Most = None) -> HTMLResponse:
    """Start a run that calls Nova, for no more than was shown."""
    ids = desk.chosen(_checked({"file_ids": chosen.split()}))
    return _started(request, desk.analyse(ids, confirm=True, max_cost_usd=max_cost_usd))


@router.post("/failures/retry/quote", dependencies=[audited("quote")])
def quote_retry(
    request: Request,
    desk: DeskDep,
    code: Code = None,
    file_id: OneFile = None,
) -> HTMLResponse:
    """Say what trying failed analyses again would cost."""
    ids = None if file_id is None else [file_id]
    found = desk.retry(Stage.ANALYSE, file_ids=ids, code=code or None)
    extra = {"stage": "analyse", "code": code or "", "file_id": "" if file_id is None else str(file_id)}
    return render(request, "quote.html", quote=found, chosen=(), action="failures/retry", extra=extra)


@router.post("/failures/retry", dependencies=[audited("retry")])
def retry(
    request: Request,
    desk: DeskDep,
    stage: Annotated[Stage, Form()],
    code: Code = None,
    file_id: OneFile = None,
    max_cost_usd: Most = None,
) -> HTMLResponse:
    """Try failures again: one, those with a code, or all of a stage. Analyses come here from their quote only."""
    ids = None if file_id is None else [file_id]
    confirm = max_cost_usd is not None
    return _started(
        request, desk.retry(stage, file_ids=ids, code=code or None, confirm=confirm, max_cost_usd=max_cost_usd)
    )


@router.get("/jobs/{job_id}")
def job(request: Request, job_id: JobId, catalog: CatalogDep, shown: Shown = "") -> HTMLResponse:
    """A job's progress; as long as it goes on, the part asks for itself again, and says which phase it shows."""
    found = jobs.find(job_id, catalog)
    # Lists on the page are refreshed when the last image is decided, which may be long before the run ends; and then.
    news = shown not in ("", _phase(found)) and (found.finishing or found.ended)
    return _job(request, found, CHANGED if news else None)


@router.post("/jobs/{job_id}/cancel", dependencies=[Depends(may_change_runs), audited("cancel")])
def cancel(request: Request, job_id: JobId, user: CurrentUser, catalog: CatalogDep) -> HTMLResponse:
    """End a job; what is decided stays decided."""
    return _job(request, jobs.cancel(user, job_id, catalog), CHANGED)


def _job(request: Request, found: Job, headers: Mapping[str, str] | None) -> HTMLResponse:
    return render(request, "job.html", job=found, phase=_phase(found), headers=headers)


def _phase(found: Job) -> str:
    return "finishing" if found.finishing else found.state.value


def _card(request: Request, entry: FileEntry, working: str | None) -> HTMLResponse:
    """The image's card, for the one that stands there now: the list may have been swapped while this was asked for."""
    headers = {"HX-Retarget": f"#card-{entry.file_id}", "HX-Reswap": "outerHTML"}
    return render(request, "card.html", file=entry, working=working, may_write=True, headers=headers)


def _body(filters: Filters, file_ids: list[int], everything: bool) -> BatchBody:
    if not everything:
        if not file_ids:
            raise Problem(422, "nothing_chosen", "choose at least one image")
        return _checked({"file_ids": file_ids})
    wanted = filters.as_filter()
    if wanted.run_id is not None:
        raise Problem(422, "invalid_request", "choose the images of a run on its list")
    names = ("status", "format", "min_bytes", "max_bytes", "uploaded_from", "uploaded_to", "name")
    return _checked({"filter": {name: getattr(wanted, name) for name in names}})


def _checked(body: dict[str, object]) -> BatchBody:
    """What a form asks for has the bounds of the API's own body, and is refused in the same words."""
    try:
        return BatchBody.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _started(request: Request, answer: BatchModel) -> HTMLResponse:
    return render(request, "started.html", answer=answer, headers=DONE)
