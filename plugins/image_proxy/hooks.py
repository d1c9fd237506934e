"""Hooks: Airflow connections to what the pipeline works with."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.bedrock import BedrockRuntimeHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from botocore.config import Config

    from include.catalog.catalog import Catalog
    from include.pipeline.settings import Settings


class CatalogHook(BaseHook):
    """The image catalog behind any SQL connection (SQLite or PostgreSQL).

    :param catalog_conn_id: Airflow connection of the database that holds the catalog.
    """

    conn_name_attr = "catalog_conn_id"
    default_conn_name = "catalog_default"
    hook_name = "Image catalog"

    def __init__(self, catalog_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.catalog_conn_id = catalog_conn_id

    def get_conn(self) -> Catalog:
        """Return the catalog, its engine prepared for several writers.

        Raises when it has not been migrated, or does not stand on the table that the deployment maps.
        """
        from include.catalog.adoption import require_mapping
        from include.catalog.catalog import Catalog
        from include.catalog.migrate import require_migrated
        from include.pipeline.settings import load_settings

        # Asked before each use: a connection of before a failover, or one that a firewall dropped, is replaced.
        engine = BaseHook.get_hook(self.catalog_conn_id).get_sqlalchemy_engine({"pool_pre_ping": True})
        require_migrated(engine)
        require_mapping(engine, load_settings().table_mapping)
        return Catalog(engine)


class NovaHook(BedrockRuntimeHook):
    """Bedrock Runtime with the retries that are safe for a model that bills each request.

    botocore repeats a read timeout by itself, and both requests may be billed; so retries are the pipeline's own, by
    error code. Everything else (region, role, endpoint, proxies) comes from the connection.

    :param aws_conn_id: Airflow connection to AWS.
    """

    @cached_property
    def _single_attempt(self) -> Config:
        from botocore.config import Config

        from include.nova import client_config

        return Config(**client_config())

    @property
    def config(self) -> Config:
        """Return the connection's botocore configuration with the single attempt laid over it."""
        return super().config.merge(self._single_attempt)

    @property
    def endpoint(self) -> str:
        """Return who answers: "aws", or "stand-in" for any other host."""
        from include.nova import endpoint_of

        client: Any = self.conn
        return endpoint_of(client)


def nova_hook(settings: Settings, model_id: str) -> NovaHook:
    """Return the hook that calls ``model_id`` in the region where the bucket of the proxies lies.

    Fails the task, without a retry, when the inference profile cannot be called from there.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from include.pipeline.region import RegionMismatch, nova_region

    hook = NovaHook(aws_conn_id=settings.aws_conn_id)
    client: Any = hook.conn
    connection_region = client.meta.region_name
    try:
        region = nova_region(S3Hook(settings.aws_conn_id).conn, settings, model_id, connection_region)
    except RegionMismatch as error:
        raise AirflowFailException(f"{error.code}: {error}") from error
    return hook if region == connection_region else NovaHook(aws_conn_id=settings.aws_conn_id, region_name=region)
