"""The Airflow connection to the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog


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
        from include.catalog.schema_version import require_migrated
        from include.pipeline.settings import load_settings

        # Asked before each use: a connection of before a failover, or one that a firewall dropped, is replaced.
        engine = BaseHook.get_hook(self.catalog_conn_id).get_sqlalchemy_engine({"pool_pre_ping": True})
        require_migrated(engine)
        require_mapping(engine, load_settings().table_mapping)
        return Catalog(engine)
