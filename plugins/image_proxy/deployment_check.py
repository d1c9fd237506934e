"""Operators of `deployment_check`: one green or red square a check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from image_proxy.operators import CatalogOperator
from include.pipeline.check_params import CHECK_SCHEMAS
from include.pipeline.forms import checked_conf
from include.pipeline.params import InvalidParams

if TYPE_CHECKING:
    from airflow.sdk import Context
    from sqlalchemy import Engine

PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "boto3", "sqlalchemy", "pillow")


def check_params() -> dict[str, Param]:
    """Return the trigger form of `deployment_check`."""
    return {
        name: Param(schema["default"], **{key: value for key, value in schema.items() if key != "default"})
        for name, schema in CHECK_SCHEMAS.items()
    }


class _CheckOperator(CatalogOperator):
    def values(self, context: Context) -> dict[str, Any]:
        try:
            return checked_conf({**dict(context["params"]), **(context["dag_run"].conf or {})}, CHECK_SCHEMAS)
        except InvalidParams as error:
            raise AirflowFailException(f"{error.code}: {error}") from error

    def engine(self, conn_id: str) -> Engine:
        return BaseHook.get_hook(conn_id).get_sqlalchemy_engine()


class MigrateCatalogOperator(_CheckOperator):
    """Create or upgrade the catalog's tables when the param `migrate_catalog` says so; otherwise skipped.

    For platforms without a shell; elsewhere `python -m include.catalog.migrate URL` does the same.
    """

    ui_color = "#fdf3d8"

    def execute(self, context: Context) -> None:
        from include.catalog.errors import CatalogError
        from include.catalog.mapping import read_mapping
        from include.catalog.migrate import migrate

        if not self.values(context)["migrate_catalog"]:
            raise AirflowSkipException("the param migrate_catalog is not set")
        settings = self.settings()
        try:
            mapping = read_mapping(settings.table_mapping) if settings.table_mapping else None
            migrate(self.engine(settings.catalog_conn_id), mapping=mapping)
        except CatalogError as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        self.log.info("the catalog is migrated")


class CheckOperator(_CheckOperator):
    """One check; green with what it found, or red with what to do (in the log's last line).

    :param check: One of `include.pipeline.check_params.CHECKS`. (templated)
    """

    template_fields: Sequence[str] = ("check",)
    ui_color = "#dff3e4"

    def __init__(self, *, check: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check

    def execute(self, context: Context) -> str:
        from importlib.metadata import version

        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from image_proxy.hooks.nova import nova_hook
        from include.pipeline.deployment_check import CheckFailed, DeploymentCheck

        settings, model_id = self.settings(), self.values(context)["model_id"]
        deployment = DeploymentCheck(
            settings=settings,
            connections=lambda: _connections(settings.catalog_conn_id, settings.aws_conn_id),
            engine=lambda: self.engine(settings.catalog_conn_id),
            s3=lambda: S3Hook(settings.aws_conn_id).conn,
            nova=lambda: nova_hook(settings, model_id).conn,
            model_id=model_id,
            versions={package: version(package) for package in PACKAGES},
        )
        try:
            line = deployment.run(self.check)
        except CheckFailed as error:
            raise AirflowFailException(str(error)) from error
        self.log.info("%s: %s", self.check, line)
        return line


class PoolCheckOperator(CatalogOperator):
    """Green when the pool of the Nova requests exists and has the slots that one analysis task takes.

    It takes these slots itself. A task that stays *scheduled* until the run times out says: create the pool (Admin,
    Pools), or give it at least `IMAGE_PROXY_NOVA_CONCURRENCY` slots. Airflow says so in its scheduler's log only.
    """

    ui_color = "#dff3e4"

    def execute(self, context: Context) -> str:
        line = f"the pool {self.pool} has {self.pool_slots} slots for an analysis task"
        self.log.info("%s", line)
        return line


def _connections(*conn_ids: str) -> str:
    found = [BaseHook.get_connection(conn_id) for conn_id in conn_ids]
    return ", ".join(f"{connection.conn_id} ({connection.conn_type})" for connection in found)
