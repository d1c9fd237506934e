"""Operators of `catalog_maintenance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from image_proxy.operators import CatalogOperator
from include.pipeline.maintenance_params import MAINTENANCE_SCHEMAS, parse_maintenance_params
from include.pipeline.params import InvalidParams

if TYPE_CHECKING:
    from airflow.sdk import Context


def maintenance_params() -> dict[str, Param]:
    """Return the trigger form of `catalog_maintenance`."""
    return {
        name: Param(schema["default"], **{key: value for key, value in schema.items() if key != "default"})
        for name, schema in MAINTENANCE_SCHEMAS.items()
    }


class MaintenanceOperator(CatalogOperator):
    """One step of the maintenance; it reports what it finds, and changes nothing unless the params say so.

    :param step: `leases`, `bucket`, `sources`, `retention` or `deletion`.
    """

    ui_color = "#fdf3d8"

    def __init__(self, *, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step

    def execute(self, context: Context) -> dict[str, int]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from include.pipeline.maintenance import Maintenance

        try:
            params = parse_maintenance_params({**dict(context["params"]), **(context["dag_run"].conf or {})})
        except InvalidParams as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        settings = self.settings()
        maintenance = Maintenance(self.catalog(settings), S3Hook(settings.aws_conn_id).conn, settings, params)
        counts: dict[str, int] = getattr(maintenance, self.step)()
        self.log.info("%s%s: %s", "dry run, nothing was changed: " if params.dry_run else "", self.step, counts)
        return counts
