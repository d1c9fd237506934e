"""The pipeline on the topology of docker-compose.yaml: two Celery workers, PostgreSQL, Redis, S3, the stand-in."""

from __future__ import annotations

import contextlib
import re
import time

import psutil
import pytest

from scripts.make_env import EMPTY
from tests.distributed.compose import ROOT
from tests.distributed.ledger import Books, Shipment, photograph
from tests.distributed.topology import WORKERS, Topology

IMAGES = 300

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def shipment(books: Books) -> Shipment:
    pictures = [photograph() for _ in range(12)]
    return books.ship([pictures[number % len(pictures)] for number in range(IMAGES)])


@pytest.fixture(scope="module")
def finished(books: Books, shipment: Shipment) -> str:
    """One run over the REST API, ended."""
    started, restarts = time.monotonic(), len(books.topology.restarts)
    run = books.trigger(shipment, batch_size=25)
    assert books.ended(run) == "success"
    books.tell(f"{IMAGES} images through two Celery workers in {time.monotonic() - started:.1f} s")
    assert books.topology.restarts[restarts:] == [], "something had to be started again"
    return run


def test_every_image_has_one_outcome_and_was_paid_once(books: Books, shipment: Shipment, finished: str) -> None:
    figures = books.check(shipment, [finished])
    assert figures == {
        "image_proxies:proxied": IMAGES,
        "image_analyses:analysed": IMAGES,
        "objects": IMAGES,
        "answers": IMAGES,
        "paid_twice": 0,
    }


def test_both_workers_worked(books: Books, topology: Topology, finished: str) -> None:
    done = {
        name: len(re.findall(r"execute_workload\[[^]]*\] succeeded", topology.log(name)))
        for name in (f"worker-{number}" for number in range(1, WORKERS + 1))
    }
    books.tell(f"tasks by worker: {done}")
    assert min(done.values()) >= IMAGES // 25 // 2


def test_nobody_listens_beyond_this_machine(topology: Topology, finished: str) -> None:
    """Log servers of scheduler, triggerer and workers bind every interface by default."""
    listening: set[tuple[str, str]] = set()
    for process in topology.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a health check, or a task, that has just ended
            addresses = process.net_connections("tcp")
            listening |= {(process.name(), address.laddr.ip) for address in addresses if address.status == "LISTEN"}
    assert listening
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1"}


def test_task_logs_are_read_over_the_api_from_the_shared_volume(topology: Topology, finished: str) -> None:
    answer = topology.client.get(f"/dags/image_proxy_pipeline/dagRuns/{finished}/taskInstances/plan/logs/1")
    assert f"listed {IMAGES} images" in answer.text


def test_a_setting_of_the_settings_file_reaches_the_workers_and_not_amazon(
    books: Books, topology: Topology, shipment: Shipment, finished: str
) -> None:
    """And what docker-compose.yaml sets itself wins over it: the proxies are in the bucket of .env."""
    (uri,) = books.rows("SELECT uri FROM image_proxies WHERE file_id = :id AND uri IS NOT NULL", id=shipment.ids[0])[0]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    assert bucket == topology.variables["IMAGE_PROXY_BUCKET"]
    tags = books.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    assert tags == [{"Key": "department", "Value": "archive"}]
    stand_in = psutil.Process(topology.components["nova-stand-in"].pid).environ()
    assert "IMAGE_PROXY_OBJECT_TAGS" not in stand_in


def test_no_log_holds_a_secret(topology: Topology, finished: str) -> None:
    """Neither a task's log nor what a component printed: the secrets of .env, and what connections are made of."""
    secrets = {name: topology.variables[name] for name in EMPTY.findall((ROOT / ".env.example").read_text())}
    assert {"CATALOG_PASSWORD", "POSTGRES_PASSWORD", "S3_SECRET_KEY", "JWT_SECRET"} <= secrets.keys()
    logs = {path: path.read_text(errors="replace") for path in topology.folder.rglob("*.log")}
    names = {path.name for path in logs}
    assert {"scheduler.1.log", "worker-1.1.log", "s3.log"} <= names
    assert any(f"run_id={finished}" in str(path) for path in logs)
    told = {name: path.name for name, secret in secrets.items() for path, text in logs.items() if secret in text}
    assert not told
