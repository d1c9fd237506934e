"""Airflow may live under a path of a shared host (`[api] base_url = https://host/team/airflow`): so do we, then."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from image_proxy.links import ImagesLink

from include.local.processes import ChildServer, free_port
from tests.web.conftest import DAG_ID, PASSWORDS, Web
from tests.web.test_single import Run

BASE = "/team/airflow"
PAGES = f"{BASE}/image-proxy/pages"
API = f"{BASE}/image-proxy/v1/api"


@pytest.fixture(scope="module")
def mounted(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A real API server under the path, on the databases of `web`, and a client with its login cookie."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    server = ChildServer(
        "Airflow's api-server",
        [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env={**os.environ, "AIRFLOW__API__BASE_URL": origin + BASE},
        log_path=tmp_path_factory.mktemp("mounted") / "api-server.log",
        ready=lambda: httpx.get(f"{origin}{BASE}/api/v2/version", timeout=5).is_success,
        ready_seconds=120,
    )
    with server, httpx.Client(base_url=origin, timeout=60) as client:
        login = {"username": "admin", "password": PASSWORDS["admin"]}
        token = client.post(f"{BASE}/auth/token", json=login).raise_for_status().json()["access_token"]
        client.cookies.set("_token", token, path=f"{BASE}/")  # as Airflow's login page keeps it
        yield client


def addresses(text: str) -> set[str]:
    """All that a page refers to, by whatever attribute."""
    found = re.findall(r'\s(?:href|src|action|hx-get|hx-post)="([^"#][^"]*)"', text)
    return {address.replace("&amp;", "&") for address in found}


def test_whatever_a_page_refers_to_is_there(mounted: httpx.Client, web: Web) -> None:
    done, failed, _pending = web.add(), web.add(), web.add()
    run = Run(web, "under-a-path", done, failed)
    run.proxy(done)
    run.fail(failed)
    asked: set[str] = set()
    for path in ("/", "/savings", "/failures", f"/images/{done}", f"/images/{failed}", f"/runs/{DAG_ID}/under-a-path"):
        answer = mounted.get(PAGES + path)
        assert answer.status_code == 200, answer.text
        asked |= addresses(answer.text)
    assert len(asked) > 20
    assert [address for address in asked if not address.startswith(f"{BASE}/")] == []
    assert any(address.startswith(f"{BASE}/dags/{DAG_ID}/runs/") for address in asked)  # Airflow's own page of a run
    for address in asked:
        status = mounted.get(address).status_code
        # 405: what a button sends. 404: the run that this test played, and pictures that it never stored.
        assert status in (200, 405) or re.search(r"/jobs/|/proxy$|/preview$", address), (status, address)


def test_a_page_for_nothing_leads_back(mounted: httpx.Client) -> None:
    person = {"Accept": "text/html"}
    assert f'href="{PAGES}/"' in mounted.get(f"{PAGES}/images/999999", headers=person).text
    stranger = httpx.get(f"{mounted.base_url}{PAGES}/", headers=person)
    assert stranger.status_code == 401
    assert f'href="{BASE}/"' in stranger.text


def test_writes_name_the_host_as_their_origin_without_the_path(mounted: httpx.Client, web: Web) -> None:
    file_id = web.add()
    write = f"{API}/files/{file_id}/create-image-proxy?wait_seconds=0"
    ours = str(mounted.base_url)
    for origin in ("http://evil.example", ours.replace("127.0.0.1", "localhost")):
        assert mounted.post(write, headers={"Origin": origin}).json()["code"] == "foreign_origin"
    answer = mounted.post(write, headers={"Origin": ours})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == answer.json()["status_url"]
    assert mounted.get(answer.headers["location"]).json()["job_id"] == answer.json()["job_id"]


def test_generated_clients_learn_the_path(mounted: httpx.Client) -> None:
    document = mounted.get(f"{BASE}/image-proxy/v1/openapi.json").json()
    assert document["servers"] == [{"url": f"{BASE}/image-proxy"}]


def test_a_task_links_to_its_images_under_the_path(mounted: httpx.Client, web: Web, monkeypatch: Any) -> None:
    file_id = web.add()
    Run(web, "linked-under-a-path", file_id).proxy(file_id)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", str(mounted.base_url) + BASE)
    key: Any = SimpleNamespace(run_id="linked-under-a-path")
    link = ImagesLink().get_link(SimpleNamespace(batch={"batch_id": 0}), ti_key=key)
    assert link.startswith(f"{PAGES}/?")
    assert f'id="card-{file_id}"' in mounted.get(link).text
