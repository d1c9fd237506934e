"""Bytes to look at: an image's proxy, and the small preview of its original. Streamed from S3, never decoded here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from image_proxy.web.deployment import CatalogDep, S3Dep
from image_proxy.web.problems import Problem, documented
from image_proxy.web.routers.files import FileId
from include.storage.errors import SourceError, StorageError
from include.storage.streams import open_object

router = APIRouter(prefix="/api/files", tags=["pictures"])

# Only what a browser shows as a picture and nothing else; an address that leads to anything else is not served.
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
POLICY = "default-src 'none'; sandbox; frame-ancestors 'self'"
ERRORS = documented(401, 403, 404, 422, 503)
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()}}
}


@router.get(
    "/{file_id}/proxy",
    operation_id="get_proxy_picture",
    response_class=StreamingResponse,
    responses={**PICTURE, **ERRORS},
)
def get_proxy_picture(file_id: FileId, catalog: CatalogDep, s3: S3Dep) -> StreamingResponse:
    """The picture that Nova is given: the newest current proxy, or the kept original."""
    entry = catalog.file_entry(file_id)
    if entry is None:
        raise Problem(404, "unknown_file", f"there is no image {file_id}")
    proxy = entry.proxy
    if proxy is None or proxy.uri is None:
        raise Problem(404, "no_proxy", f"image {file_id} has no proxy")
    return _stream(s3, proxy.uri, proxy.format, f"image-{file_id}-proxy")


@router.get(
    "/{file_id}/preview",
    operation_id="get_preview_picture",
    response_class=StreamingResponse,
    responses={**PICTURE, **ERRORS},
)
def get_preview_picture(file_id: FileId, catalog: CatalogDep, s3: S3Dep) -> StreamingResponse:
    """A small picture of the original, which a worker made together with the proxy."""
    preview = catalog.preview(file_id)
    if preview is None:
        raise Problem(404, "no_preview", f"image {file_id} has no preview")
    return _stream(s3, preview.uri, preview.format, f"image-{file_id}-preview")


def _stream(s3: Any, uri: str, format: str | None, name: str) -> StreamingResponse:
    media_type = MEDIA_TYPES.get(format or "")
    if media_type is None:
        raise Problem(404, "not_a_picture", "its format is none that a browser shows")
    try:
        found = open_object(s3, uri)
    except SourceError as error:
        raise Problem(404, error.code, "S3 does not give the object out that the catalog names") from error
    except StorageError as error:
        raise Problem(503, error.code, "S3 does not answer as it should; see the server's log") from error
    headers = {
        "Content-Length": str(found.size_bytes),
        "Content-Disposition": f'inline; filename="{name}.{format}"',
        "Content-Security-Policy": POLICY,
    }
    return StreamingResponse(found.chunks(), media_type=media_type, headers=headers)
