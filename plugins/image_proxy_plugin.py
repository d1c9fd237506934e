"""The one file that Airflow's plugin scan executes: it names the plugin, the package beside it does the work.

Airflow executes every file under `plugins/` in every component and again in each task process; `.airflowignore` keeps
the package out of that scan, and everybody imports it by its bare name (`image_proxy`).
"""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin
from image_proxy.deadlines import RunCreated
from image_proxy.links import ImagesLink
from image_proxy.pools import PoolListener
from image_proxy.preload import PreloadListener
from image_proxy.web.lazy import LazyApp, load
from image_proxy.web.one_writer import OneWriter


class ImageProxyPlugin(AirflowPlugin):
    """Image proxies for Amazon Nova: operators, hooks (imported from `image_proxy`), REST API and pages."""

    name = "image_proxy"
    listeners: ClassVar = [PoolListener(), PreloadListener()]
    fastapi_apps: ClassVar = [{"name": "image_proxy", "url_prefix": "/image-proxy", "app": LazyApp(load)}]
    fastapi_root_middlewares: ClassVar = [{"name": "one writer", "middleware": OneWriter}]
    external_views: ClassVar = [
        # Without a leading slash: it is resolved against Airflow's own base path.
        {"name": "Images", "href": "image-proxy/pages/", "url_route": "image-proxies", "destination": "nav"},
        {
            "name": "Images",
            "href": "image-proxy/pages/runs/{DAG_ID}/{RUN_ID}",
            "url_route": "image-proxies-run",
            "destination": "dag_run",
        },
    ]
    deadline_references: ClassVar = [RunCreated]

    operator_extra_links: ClassVar = [ImagesLink()]
