"""What the web process works with: settings, the catalog and S3, from Airflow connections; made once a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

from airflow.exceptions import AirflowNotFoundException
from fastapi import Depends

from image_proxy.hooks.catalog import CatalogHook
from image_proxy.web.problems import Problem
from include.catalog.catalog import Catalog
from include.pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from starlette.requests import Request


@functools.cache
def settings() -> Settings:
    """Return the deployment's settings. Raises `SettingsError`, and tries again at the next request."""
    return load_settings()


@functools.cache
def catalog() -> Catalog:
    """Return the catalog. Its engine is shared by all threads; it raises until the catalog is migrated."""
    conn_id = settings().catalog_conn_id
    try:
        return CatalogHook(conn_id).get_conn()
    except AirflowNotFoundException as error:  # nothing is kept of the attempt: the next request tries again
        raise Problem(503, "connection_missing", f"Airflow has no connection {conn_id}") from error


@functools.cache
def s3() -> Any:
    """Return a boto3 S3 client (safe to share between threads)."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(settings().aws_conn_id).conn


CatalogDep = Annotated[Catalog, Depends(catalog)]
SettingsDep = Annotated[Settings, Depends(settings)]
S3Dep = Annotated[Any, Depends(s3)]


def root(request: Request) -> str:
    """Return the path under which the application is mounted, with Airflow's own base path: no slash at the end.

    `url_for` cannot know it, for the application is mounted behind a wrapper; addresses are built from this.
    """
    return str(request.scope.get("root_path", "")).rstrip("/")
