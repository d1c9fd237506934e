"""The one file that Airflow's plugin scan executes: it names the plugin, the package beside it does the work.

Airflow executes every file under `plugins/` in every component and again in each task process; `.airflowignore` keeps
the package out of that scan, and everybody imports it by its bare name (`image_proxy`).
"""

from airflow.plugins_manager import AirflowPlugin
from image_proxy.deadlines import RunCreated


class ImageProxyPlugin(AirflowPlugin):
    """Image proxies for Amazon Nova: operators and hooks are imported from `image_proxy`."""

    name = "image_proxy"
    deadline_references = [RunCreated]  # noqa: RUF012 - Airflow's own class declares it so
