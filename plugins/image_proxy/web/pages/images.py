"""The page of images, and its parts: the list, one card, and what a run of Airflow's worked on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from image_proxy.web import jobs
from image_proxy.web.deployment import CatalogDep
from image_proxy.web.pages import filters
from image_proxy.web.pages.filters import Filters, FiltersDep
from image_proxy.web.pages.running import running_jobs
from image_proxy.web.pages.templates import is_part, render
from image_proxy.web.problems import Problem
from image_proxy.web.routers.batches import JobId
from image_proxy.web.routers.files import CursorDep, FileId
from image_proxy.web.security import DAG_ID, may_trigger
from image_proxy.web.values import Storable
from include.catalog.browse_records import Cursor
from include.catalog.catalog import Catalog

router = APIRouter()

PAGE = 24  # cards: full rows at two, three, four and six columns
FOLLOWED = 3  # runs whose progress the page shows by itself


@router.get("/")
async def images(request: Request, catalog: CatalogDep, wanted: FiltersDep, after: CursorDep) -> HTMLResponse:
    """The page of images; only its list when htmx asks."""
    return await _images(request, catalog, wanted, after)


@router.get("/runs/{dag_id}/{run_id:path}")
async def run(
    request: Request,
    catalog: CatalogDep,
    dag_id: Annotated[str, Path(max_length=250), Storable],
    run_id: Annotated[str, Path(max_length=250), Storable],
    after: CursorDep,
) -> HTMLResponse:
    """The images of one DAG run: a tab on that run's page in Airflow."""
    if dag_id != DAG_ID:
        return render(request, "other_dag.html", current="", dag_id=dag_id)
    return await _images(request, catalog, Filters(job_id=run_id), after)


@router.get("/images/{file_id}/card")
async def card(
    request: Request, file_id: FileId, catalog: CatalogDep, job_id: Annotated[JobId | None, Query()] = None
) -> HTMLResponse:
    """One card; with a job, as something that goes on until the job has decided about the image."""
    entry = await run_in_threadpool(catalog.file_entry, file_id)
    if entry is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    working = job_id if job_id and not await run_in_threadpool(_is_decided, catalog, job_id, file_id) else None
    return render(request, "card.html", file=entry, working=working, may_write=await may_trigger(request))


def _is_decided(catalog: Catalog, job_id: str, file_id: int) -> bool:
    item = catalog.item_outcomes(jobs.catalog_run_id(job_id), file_id)
    if item is not None and item.proxy_outcome is not None:
        return True
    return jobs.has_ended(job_id)


async def _images(request: Request, catalog: Catalog, wanted: Filters, after: Cursor | None) -> HTMLResponse:
    page = await run_in_threadpool(catalog.list_files, wanted.as_filter(), limit=PAGE, after=after)
    values = {
        "page": page,
        "filters": wanted,
        "working": None,
        "next_query": wanted.query(after=page.next_cursor.text()) if page.next_cursor else None,
        "after": after.text() if after else "",
        "may_write": await may_trigger(request),
    }
    if is_part(request):
        return render(request, "images_list.html", **values)
    followed = [wanted.job_id] if wanted.job_id else await run_in_threadpool(running_jobs, FOLLOWED)
    return render(request, "images.html", current="images", choices=filters, followed=followed, **values)
