"""Catalog and AWS for a command: from Airflow's connections where the environment has them, else the standard ways.

`AIRFLOW_CONN_CATALOG_DEFAULT` and `AIRFLOW_CONN_AWS_DEFAULT` (or whatever ids the settings name) are read by Airflow's
own hooks, so that a command sees what a task sees; they need no database. Without the second, boto3 finds its
credentials, region and endpoints as everywhere (environment, profile, role).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.pipeline.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from include.catalog.catalog import Catalog

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"


class SetupError(RuntimeError):
    """The command cannot begin; the message says what is missing."""

    code = "setup"


@contextmanager
def reading_catalog(url: str) -> Iterator[Catalog]:
    """Give the catalog at ``url`` to a command that reads it. Raises `CatalogError`, `SetupError` if out of reach."""
    from sqlalchemy.exc import DBAPIError

    from include.catalog.catalog import Catalog
    from include.catalog.engine import create_catalog_engine
    from include.catalog.schema_version import require_migrated

    engine = create_catalog_engine(url)
    try:
        require_migrated(engine)
        yield Catalog(engine)
    except DBAPIError as error:
        shown = engine.url.render_as_string(hide_password=True)
        raise SetupError(f"the catalog at {shown} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()


class Connections:
    """What a command works with, each made when first asked for."""

    def __init__(self, settings: Settings, catalog_url: str | None, model_id: str) -> None:
        self._settings, self._catalog_url, self._model_id = settings, catalog_url, model_id

    def catalog(self) -> Catalog:
        """Return the catalog. Raises `CatalogError` or SQLAlchemy's errors."""
        from include.catalog.adoption import require_mapping
        from include.catalog.catalog import Catalog
        from include.catalog.schema_version import require_migrated

        require_migrated(self._engine)
        require_mapping(self._engine, self._settings.table_mapping)
        return Catalog(self._engine)

    @property
    def shown_catalog(self) -> str:
        """Return the catalog's address without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @cached_property
    def s3(self) -> Any:
        """A boto3 S3 client."""
        if _has_connection(self._settings.aws_conn_id):
            _find_hooks()
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook

            return S3Hook(self._settings.aws_conn_id).conn
        return _boto3_client("s3")

    @cached_property
    def source_s3(self) -> Any:
        """A boto3 S3 client that reads originals, None where the other one does."""
        if not self._settings.reads_apart:
            return None
        conn_id = str(self._settings.source_aws_conn_id)
        if not _has_connection(conn_id):
            raise SetupError(f"originals are read through the connection {conn_id}: set {_variable(conn_id)}")
        _find_hooks()
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return S3Hook(conn_id).conn

    @cached_property
    def nova(self) -> Any:
        """A boto3 bedrock-runtime client that makes single attempts."""
        if _has_connection(self._settings.aws_conn_id):
            _find_hooks()
            from airflow.sdk.exceptions import AirflowFailException
            from image_proxy.hooks.nova import nova_hook

            try:
                return nova_hook(self._settings, self._model_id).conn
            except AirflowFailException as error:
                raise SetupError(str(error)) from error
        from botocore.config import Config

        from include.nova import client_config

        return _boto3_client("bedrock-runtime", config=Config(**client_config()))

    def nova_endpoint(self) -> str:
        """Return who answers: "aws", or "stand-in"."""
        from include.nova import endpoint_of

        return endpoint_of(self.nova)

    def check_bucket(self) -> None:
        """Raise `StorageUnavailable` or `SettingsError` unless the bucket answers."""
        from include.storage.objects import require_bucket

        require_bucket(self.s3, self._settings.required_bucket)

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy.exc import SQLAlchemyError

        from include.catalog.engine import create_catalog_engine, prepare
        from include.catalog.errors import UnsuitableDatabase

        if self._catalog_url:
            try:
                return create_catalog_engine(self._catalog_url)
            except UnsuitableDatabase as error:
                raise SetupError(f"--catalog-url: {error}") from error
        name = _variable(self._settings.catalog_conn_id)
        if not _has_connection(self._settings.catalog_conn_id):
            raise SetupError(f"no catalog: give --catalog-url, or set {name} as for Airflow")
        _find_hooks()
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowException

        try:
            return prepare(BaseHook.get_hook(self._settings.catalog_conn_id).get_sqlalchemy_engine())
        except (AirflowException, AttributeError, SQLAlchemyError, ValueError) as error:  # of another kind, or no JSON
            raise SetupError(f"{name} is no connection to SQLite or PostgreSQL: {error}") from error


def _boto3_client(service: str, **how: Any) -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.client(service, **how)
    except (BotoCoreError, ValueError) as error:
        raise SetupError(
            f"AWS ({service}): {error}: set AIRFLOW_CONN_AWS_DEFAULT, or AWS_REGION and the like"
        ) from error


def _variable(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def _has_connection(conn_id: str) -> bool:
    return bool(os.environ.get(_variable(conn_id)))


def _find_hooks() -> None:
    """Let `image_proxy` be imported as in a deployment, and Airflow be silent about what it does for that."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
