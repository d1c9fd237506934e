"""The OpenAPI document, behind the login like everything else."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from image_proxy.web.deployment import root
from image_proxy.web.problems import MEDIA_TYPE

router = APIRouter(tags=["document"])

JSON = "application/json"


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    """Return the document, with the address under which this server is mounted."""
    return {**_described(request.app), "servers": [{"url": root(request) or "/"}]}


def _described(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, in which errors are problem+json; it knows one media type for all answers of a route."""
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST and JSON in response.get("content", {}):
                    response["content"] = {MEDIA_TYPE: response["content"][JSON]}
    return document
