"""A real Airflow API application in this process, with its own login, our plugin mounted, a catalog and S3.

Nothing schedules here: a run that is started stays queued, and tests play the worker through the catalog.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from include.catalog.catalog import Catalog
from include.catalog.records import WorkKey
from include.local.seaweedfs import SeaweedFS
from include.pipeline.params import PipelineParams
from include.pipeline.plan import work_key
from include.pipeline.settings import Settings
from tests.catalog.making import image
from tests.catalog.migrated import migrated_catalog

DAG_ID = "image_proxy_pipeline"
ROOT = "/image-proxy"
API = f"{ROOT}/v1/api"
PASSWORDS = {"admin": "admin-password", "viewer": "viewer-password"}
BUCKET = "web-proxies"


@dataclass
class Web:
    """The application and what stands behind it. `ask` is a logged-in request with a bearer token."""

    app: Any
    client: Any
    catalog: Catalog
    engine: Any
    s3: Any
    tokens: dict[str, str]
    names: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, user: str | None = "admin", **more: Any) -> Any:
        headers = {**({"Authorization": f"Bearer {self.tokens[user]}"} if user else {}), **more.pop("headers", {})}
        self.client.cookies.clear()
        return self.client.request(method, path, headers=headers, **more)

    def get(self, path: str, **more: Any) -> Any:
        return self.ask("GET", API + path, **more)

    def post(self, path: str, **more: Any) -> Any:
        return self.ask("POST", API + path, **more)

    def pause(self, paused: bool) -> None:
        answer = self.ask("PATCH", f"/api/v2/dags/{DAG_ID}", json={"is_paused": paused})
        assert answer.status_code == 200, answer.text

    def add(self, **changes: Any) -> int:
        """Register one image and return its file id."""
        name = f"web-{len(self.names):05}"
        self.names.append(name)
        new = image(name, **changes)
        self.catalog.register([new])
        from include.catalog.browse_records import FileFilter

        found = self.catalog.list_files(FileFilter(name=new.filename, images_only=False), limit=10).files
        return next(file.file_id for file in found if file.uri == new.uri)

    def runs(self) -> list[dict[str, Any]]:
        answer = self.ask("GET", f"/api/v2/dags/{DAG_ID}/dagRuns", params={"limit": 100, "order_by": "-id"})
        return list(answer.json()["dag_runs"])

    def audit(self) -> list[dict[str, Any]]:
        answer = self.ask("GET", "/api/v2/eventLogs", params={"limit": 50, "order_by": "-event_log_id"})
        return [line for line in answer.json()["event_logs"] if line["event"].startswith("image_proxy.")]

    @contextmanager
    def new_audit_lines(self) -> Iterator[list[dict[str, Any]]]:
        """The lines written inside, there when it ends: by number, as the log shows its newest lines only."""
        lines: list[dict[str, Any]] = []
        last = max((line["event_log_id"] for line in self.audit()), default=0)
        yield lines
        lines += (line for line in self.audit() if line["event_log_id"] > last)

    @property
    def inner(self) -> Any:
        """The FastAPI application behind the lazy wrapper."""
        mounted = next(route for route in self.app.routes if getattr(route, "path", "") == ROOT)
        return mounted.app._application()

    @property
    def key(self) -> WorkKey:
        """What counts as done for runs with the usual params."""
        return work_key(PipelineParams(), Settings())


@pytest.fixture(scope="module")
def web(booted_web: tuple[Web, dict[str, str]]) -> Iterator[Web]:
    """The application, in the environment it needs: taken back after each module, as other tests read settings too."""
    web, environment = booted_web
    with _in(environment):
        yield web


@pytest.fixture(scope="session")
def booted_web(
    tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS, s3: Any
) -> Iterator[tuple[Web, dict[str, str]]]:
    """One boot (20 s) for all modules, and its environment."""
    folder = tmp_path_factory.mktemp("web")
    engine = migrated_catalog(folder / "catalog.db")
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    environment = _environment(folder, seaweedfs)
    with ExitStack() as served:
        with _in(environment):
            for command in (["db", "migrate"], ["dags", "reserialize"]):
                subprocess.run([sys.executable, "-m", "airflow", *command], check=True, capture_output=True)
            web = served.enter_context(_serve(engine, s3))
        yield web, environment
        with _in(environment):
            served.close()
    engine.dispose()


@contextmanager
def _in(environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@contextmanager
def _serve(engine: Any, s3: Any) -> Iterator[Web]:
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient
    from image_proxy.web import deployment

    for cached in (deployment.settings, deployment.catalog, deployment.s3):
        cached.cache_clear()
    app = create_app(apps="core")
    with TestClient(app, raise_server_exceptions=False) as client:
        web = Web(app, client, Catalog(engine), engine, s3, {})
        for user, password in PASSWORDS.items():
            answer = client.post("/auth/token", json={"username": user, "password": password})
            web.tokens[user] = answer.json()["access_token"]
        web.pause(False)
        yield web
    for cached in (deployment.settings, deployment.catalog, deployment.s3):
        cached.cache_clear()


def _environment(folder: Path, seaweedfs: SeaweedFS) -> dict[str, str]:
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS), encoding="utf-8")
    aws = {
        "conn_type": "aws",
        "login": seaweedfs.credentials.access_key,
        "password": seaweedfs.credentials.secret_key,
        "extra": {
            "region_name": "us-east-1",
            "service_config": {"s3": {"endpoint_url": seaweedfs.endpoint_url}},
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    catalog = {"conn_type": "sqlite", "host": str(folder / "catalog.db")}
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, long enough for the algorithm that signs with it",
        "AIRFLOW_CONN_CATALOG_DEFAULT": json.dumps(catalog),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "IMAGE_PROXY_BUCKET": BUCKET,
    }
