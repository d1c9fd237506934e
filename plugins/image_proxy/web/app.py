"""The application: routers under one guard.

Paths beneath the mount: `/v1/api/...` for programs (`/v1/openapi.json` describes it), `/pages/` for people.
"""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import bearer_scheme
from fastapi import APIRouter, Depends, FastAPI

from image_proxy.web import pages, problems
from image_proxy.web.routers import batches, document, figures, files, pictures, single
from image_proxy.web.security import Guard

VERSION = "1.0.0"
API_PREFIX = "/v1"


def create_app() -> FastAPI:
    """Return the whole application. Documentation routes of FastAPI's own are off: they would come from other hosts."""
    app = FastAPI(
        title="Image proxies for Amazon Nova",
        version=VERSION,
        description="Small proxies of an image archive, their analyses, and what they save.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Guard)
    problems.handle(app)
    app.include_router(api_router())
    pages.attach(app)
    return app


def api_router() -> APIRouter:
    """Return the REST API. The bearer scheme stands here for the OpenAPI document; the guard does the checking."""
    router = APIRouter(prefix=API_PREFIX, dependencies=[Depends(bearer_scheme)])
    for part in (files, single, pictures, batches, figures, document):
        router.include_router(part.router)
    return router
