"""What the registration costs everybody else: it is executed in every component and in each task process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.web.conftest import ROOT, Web

PLUGINS = Path(__file__).parents[2] / "plugins"
LOOK = """
import sys
from airflow.plugins_manager import AirflowPlugin
before = set(sys.modules)
import image_proxy_plugin
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(added & {"fastapi", "starlette", "sqlalchemy", "boto3", "pydantic", "alembic", "jinja2"}))
"""


def test_registering_imports_nothing_heavy() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGINS), str(PLUGINS.parent)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_navigation_leads_to_the_pages_of_the_mounted_application(web: Web) -> None:
    plugins = web.ask("GET", "/api/v2/plugins").json()["plugins"]
    ours = next(plugin for plugin in plugins if plugin["name"] == "image_proxy")
    assert [app["url_prefix"] for app in ours["fastapi_apps"]] == [ROOT]
    (view,) = [view for view in ours["external_views"] if view["destination"] == "nav"]
    assert view["href"] == "image-proxy/pages/"  # no leading slash: it survives a base path


def test_airflows_requests_come_through_our_middleware(web: Web) -> None:
    plugins = web.ask("GET", "/api/v2/plugins").json()["plugins"]
    ours = next(plugin for plugin in plugins if plugin["name"] == "image_proxy")
    assert [middleware["name"] for middleware in ours["fastapi_root_middlewares"]] == ["one writer"]
