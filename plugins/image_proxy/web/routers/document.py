"""The OpenAPI document, behind the login like everything else."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from image_proxy.web.deployment import root

router = APIRouter(tags=["document"])


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    """Return the document, with the address under which this server is mounted."""
    return {**request.app.openapi(), "servers": [{"url": root(request) or "/"}]}
