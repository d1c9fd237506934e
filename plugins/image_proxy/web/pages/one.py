"""The page of one image: comparison, analysis, what it cost, and all that was ever done to it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from image_proxy.web.deployment import CatalogDep
from image_proxy.web.pages.templates import render
from image_proxy.web.problems import Problem
from image_proxy.web.routers.files import FileId
from image_proxy.web.security import may_trigger

router = APIRouter()


@router.get("/images/{file_id}")
async def one(request: Request, file_id: FileId, catalog: CatalogDep) -> HTMLResponse:
    """Everything about one image."""
    detail = await run_in_threadpool(catalog.file_detail, file_id)
    if detail is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    batches = {run.run_id: run.batch_id for run in detail.runs}
    values = {"detail": detail, "file": detail.file, "batches": batches, "may_write": await may_trigger(request)}
    return render(request, "one.html", current="images", **values)
