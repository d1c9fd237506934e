"""The REST API on a running Airflow: workers do the work, and a client generated from our document talks to it."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from include.local.airflow import NO_KEEP_ALIVE
from tests.dags.conftest import photograph
from tests.end_to_end.conftest import DAG_ID, RUN_SECONDS, RunningAirflow

pytestmark = pytest.mark.end_to_end

MANY = 40


@pytest.fixture(scope="module")
def rest(airflow: RunningAirflow) -> httpx.Client:
    headers = {"Authorization": airflow.client.headers["Authorization"]}
    return httpx.Client(
        base_url=f"{airflow.stack.url}/image-proxy/v1/api", headers=headers, timeout=90, limits=NO_KEEP_ALIVE
    )


def register(airflow: RunningAirflow, folder: Path, count: int = 1, size: tuple[int, int] = (1400, 1000)) -> list[int]:
    """Register new pictures, which no run has taken yet, and return their file ids."""
    first = photograph(folder / "0.jpg", *size)
    for number in range(1, count):
        shutil.copy(first, folder / f"{number}.jpg")
    airflow.register(folder)
    query = text("SELECT id FROM files WHERE uri LIKE :folder ORDER BY id")
    with airflow.machine.engine.connect() as connection:
        return list(connection.scalars(query, {"folder": f"{folder.as_uri()}/%"}))


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come")


def ended(rest: httpx.Client, job_id: str) -> dict[str, Any]:
    def look() -> Any:
        seen = rest.get(f"/batch/{job_id}").raise_for_status().json()
        return seen if seen["state"] not in ("queued", "running") else None

    return dict(until(look))


def test_one_proxy_is_made_while_the_request_waits_and_nova_is_not_called(
    airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path
) -> None:
    (file_id,) = register(airflow, tmp_path)
    calls = len(airflow.machine.cloud.calls())
    answer = rest.post(f"/files/{file_id}/create-image-proxy", params={"wait_seconds": 60})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["original_dimensions"], made["proxy_dimensions"]) == ([1400, 1000], [1254, 896])
    assert made["savings_percent"] == pytest.approx(
        100 * (1 - made["proxy_size_bytes"] / made["original_size_bytes"]), abs=0.01
    )
    picture = rest.get(f"/files/{file_id}/proxy")
    assert (picture.headers["content-type"], len(picture.content)) == ("image/jpeg", made["proxy_size_bytes"])
    assert ended(rest, made["job_id"])["state"] == "success"
    assert len(airflow.machine.cloud.calls()) == calls


def test_a_batch_of_proxies_is_followed_to_its_end_without_a_call_to_nova(
    airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path
) -> None:
    ids = register(airflow, tmp_path, 5)
    calls = len(airflow.machine.cloud.calls())
    started = rest.post("/batch/image-proxy", json={"file_ids": ids})
    assert (started.status_code, started.json()["total_files"]) == (202, 5)
    seen = ended(rest, started.json()["job_id"])
    assert (seen["state"], seen["total"], seen["done"], seen["failed"]) == ("success", 5, 5, 0)
    assert seen["bytes_saved"] > 0
    assert seen["images_per_second"] > 0
    assert len(airflow.machine.cloud.calls()) == calls


def test_analysing_one_image_makes_its_proxy_and_calls_nova_once(
    airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path
) -> None:
    (file_id,) = register(airflow, tmp_path)
    calls = len(airflow.machine.cloud.calls())
    answer = rest.post(f"/files/{file_id}/analyze", params={"wait_seconds": 60})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["endpoint"], answer.json()["cost_usd"]) == ("stand-in", None)
    assert rest.post(f"/files/{file_id}/analyze").json() == answer.json()
    assert len(airflow.machine.cloud.calls()) == calls + 1


def test_a_picture_that_cannot_be_decoded_answers_its_reason(
    airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path
) -> None:
    photograph(tmp_path / "0.jpg", 1400, 1000)
    whole = (tmp_path / "0.jpg").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    airflow.register(folder)
    query = text("SELECT id FROM files WHERE filename = 'cut.jpg' ORDER BY id DESC LIMIT 1")
    with airflow.machine.engine.connect() as connection:
        file_id = connection.scalar(query)
    answer = rest.post(f"/files/{file_id}/create-image-proxy", params={"wait_seconds": 60})
    assert (answer.status_code, answer.json()["code"]) == (422, "truncated")
    retried = rest.post("/failures/retry", json={"stage": "proxy", "file_ids": [file_id]})
    assert ended(rest, retried.json()["job_id"])["failed"] == 1


def test_a_cancelled_job_stops_recording_and_its_images_are_free(
    airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path
) -> None:
    ids = register(airflow, tmp_path, MANY, (2400, 1800))
    job_id = rest.post("/batch/image-proxy", json={"file_ids": ids}).json()["job_id"]
    until(lambda: rest.get(f"/batch/{job_id}").json()["done"] >= 2)
    cancelled = rest.post(f"/batch/{job_id}/cancel").raise_for_status().json()
    moment = datetime.now(UTC)
    assert cancelled["state"] == "cancelled"
    assert 2 <= cancelled["done"] < MANY
    again = rest.post("/batch/image-proxy", json={"file_ids": ids})
    assert again.status_code == 202, again.text  # its images are free
    seen = ended(rest, again.json()["job_id"])
    assert seen["state"] == "success", seen
    with airflow.machine.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT run_id, file_id, created_at FROM image_proxies WHERE file_id BETWEEN :a AND :b"),
            {"a": ids[0], "b": ids[-1]},
        ).all()
    assert sorted(row.file_id for row in rows) == ids  # each made once, by the one or the other
    late = [row for row in rows if row.run_id == f"{DAG_ID}/{job_id}" and row.created_at > str(moment)[:26]]
    assert late == []
    assert ended(rest, job_id)["done"] == cancelled["done"]


def test_a_generated_client_works(airflow: RunningAirflow, rest: httpx.Client, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    ids = register(airflow, pictures, 2)
    document = rest.get("../openapi.json").raise_for_status().json()
    (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    package = tmp_path / "generated" / "image_proxies_client"
    as_bytes = {f"image/{name}": "application/octet-stream" for name in ("jpeg", "png", "webp", "gif")}
    (tmp_path / "config.json").write_text(json.dumps({"content_type_overrides": as_bytes, "post_hooks": []}))
    command = ["generate", "--path", str(tmp_path / "openapi.json"), "--meta", "none", "--output-path", str(package)]
    command += ["--config", str(tmp_path / "config.json")]
    package.parent.mkdir()
    made = subprocess.run(
        [str(Path(sys.executable).with_name("openapi-python-client")), *command, "--fail-on-warning"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(package.parent))
    try:
        _use(airflow, rest, ids)
    finally:
        sys.path.remove(str(package.parent))


def _use(airflow: RunningAirflow, rest: httpx.Client, ids: list[int]) -> None:
    """What a program does: list, make one proxy, make many, follow the job, read savings; and meet an error."""

    def of(name: str) -> Any:
        return importlib.import_module(f"image_proxies_client.{name}")

    token = rest.headers["Authorization"].removeprefix("Bearer ")
    address = f"{airflow.stack.url}/image-proxy"
    with of("client").AuthenticatedClient(base_url=address, token=token, timeout=httpx.Timeout(90)) as client:
        page = of("api.files.list_files").sync(client=client, limit=5)
        assert {file.file_id for file in page.files} >= set(ids)
        proxy = of("api.files.create_image_proxy").sync(ids[0], client=client, wait_seconds=60.0)
        assert (proxy.source_id, proxy.proxy_dimensions) == (ids[0], [1254, 896])
        body = of("models").BatchRequest(file_ids=ids)
        batch = of("api.jobs.create_image_proxies").sync(client=client, body=body)
        assert batch.total_files == 1
        ended(rest, batch.job_id)
        job = of("api.jobs.get_job").sync(batch.job_id, client=client)
        assert (job.state.value, job.done) == ("success", 1)
        savings = of("api.figures.get_savings").sync(client=client)
        assert savings.total.images >= len(ids)
        picture = of("api.pictures.get_proxy_picture").sync(ids[0], client=client)
        assert len(picture.payload.read()) == proxy.proxy_size_bytes
        problem = of("api.files.get_file").sync(999_999, client=client)
        assert problem.code == "unknown_file"
