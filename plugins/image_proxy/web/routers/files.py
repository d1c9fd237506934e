"""Images: pages of them, and one in full."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from image_proxy.web.deployment import CatalogDep
from image_proxy.web.jobs import catalog_run_id
from image_proxy.web.models import MAX_ID, FileDetailModel, FilePageModel
from image_proxy.web.problems import Problem, documented
from image_proxy.web.values import InUtc, Storable
from include.catalog.browse_records import Cursor, FileFilter, ImageStatus, InvalidCursor

router = APIRouter(prefix="/api/files", tags=["files"])

MAX_PAGE = 200
FileId = Annotated[int, Path(ge=1, le=MAX_ID, description="Row of the catalog's table `files`")]
Text = Annotated[str, Storable]
Moment = Annotated[datetime, InUtc]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows of a page")]
After = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]


def file_filter(
    status: ImageStatus | None = None,
    format: Annotated[Text | None, Query(max_length=20, description="Of the original: jpeg, png, ...")] = None,
    min_bytes: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    max_bytes: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    uploaded_from: Annotated[Moment | None, Query(description="Inclusive, with a UTC offset")] = None,
    uploaded_to: Annotated[Moment | None, Query(description="Exclusive, with a UTC offset")] = None,
    name: Annotated[Text | None, Query(max_length=200, description="Part of the file name")] = None,
    job_id: Annotated[Text | None, Query(max_length=250, description="Only images of this run")] = None,
    images_only: Annotated[bool, Query(description="Leave out videos and documents")] = True,
) -> FileFilter:
    """Return the filter that a request's query asks for; pages take it as well."""
    for moment in (uploaded_from, uploaded_to):
        if moment is not None and moment.tzinfo is None:
            raise Problem(422, "invalid_request", "uploaded_from and uploaded_to need a UTC offset (…Z or …+00:00)")
    return FileFilter(
        status=status,
        format=format,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        uploaded_from=uploaded_from,
        uploaded_to=uploaded_to,
        name=name,
        run_id=catalog_run_id(job_id) if job_id else None,
        images_only=images_only,
    )


FilterDep = Annotated[FileFilter, Depends(file_filter)]


def cursor(after: After = None) -> Cursor | None:
    """Return the place after which a page begins."""
    try:
        return Cursor.parse(after) if after else None
    except InvalidCursor as error:
        raise Problem(422, error.code, str(error)) from error


CursorDep = Annotated[Cursor | None, Depends(cursor)]


@router.get("", operation_id="list_files", responses=documented(401, 403, 422))
def list_files(catalog: CatalogDep, wanted: FilterDep, after: CursorDep, limit: Limit = 50) -> FilePageModel:
    """A page of images, newest upload first; follow `next_cursor` for more."""
    return FilePageModel.of(catalog.list_files(wanted, limit=limit, after=after))


@router.get("/{file_id}", operation_id="get_file", responses=documented(401, 403, 404, 422))
def get_file(file_id: FileId, catalog: CatalogDep) -> FileDetailModel:
    """One image with the history of its proxies, analyses, attempts and runs, and what it cost."""
    detail = catalog.file_detail(file_id)
    if detail is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    return FileDetailModel.of(detail)
