"""One boot of a real Airflow (scheduler, DAG processor, triggerer, API server) that all end-to-end tests share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from include.local.airflow import AirflowStack
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from include.local.seaweedfs import REGION
from scripts.up import make_pool, unpause
from tests.conftest import require_weed

DAG_ID = "image_proxy_pipeline"
SLOTS = 6  # not a multiple of the four slots that an analysis task takes: two tasks at once would need eight
RUN_SECONDS = 240
BATCH_DAG_ID = "nova_batch_inference"
HOLD_JOBS = "hold-jobs"  # while there is such a file in the laptop's folder, batch jobs do not begin
QUICK = {
    "IMAGE_PROXY_BATCH_POLL_SECONDS": "0.5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",  # a killed one's triggers are another's after this
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
}


@dataclass
class UploadQueue:
    """An SQS queue; `client` is a boto3 SQS client of its server."""

    client: Any
    endpoint: str
    url: str

    def join(self, env: dict[str, str]) -> None:
        """Make it the deployment's: the setting, and SQS in the AWS connection."""
        connection = json.loads(env["AIRFLOW_CONN_AWS_DEFAULT"])
        connection["extra"]["service_config"]["sqs"] = {"endpoint_url": self.endpoint}
        env["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)
        env["IMAGE_PROXY_INGEST_QUEUE_URL"] = self.url


@dataclass
class RunningAirflow:
    """A running Airflow with its embedded cloud, and a logged-in client of its REST API."""

    machine: Laptop
    stack: AirflowStack
    client: httpx.Client

    def register(self, folder: Path) -> None:
        register_folders(self.machine.catalog, [folder], datetime.now(UTC))

    def trigger(self, dag_id: str = DAG_ID, **conf: Any) -> str:
        answer = self.client.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["dag_run_id"])

    def wait(self, dag_run_id: str, dag_id: str = DAG_ID) -> str:
        """Return the state in which the run ended."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            state = self.client.get(f"/dags/{dag_id}/dagRuns/{dag_run_id}").json()["state"]
            if state in ("success", "failed"):
                return str(state)
            time.sleep(0.5)
        raise AssertionError(f"{dag_run_id} was not done after {RUN_SECONDS} s")

    def tasks(self, dag_run_id: str, dag_id: str = DAG_ID) -> list[dict[str, Any]]:
        answer = self.client.get(f"/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances", params={"limit": 200})
        return list(answer.json()["task_instances"])


@pytest.fixture(scope="session")
def upload_queue() -> Iterator[UploadQueue]:
    """The queue that catalog_ingest_events listens to: SQS by moto, for the embedded cloud has none."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    client = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION, **keys)
    yield UploadQueue(client, endpoint, client.create_queue(QueueName="uploads")["QueueUrl"])
    server.stop()


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, upload_queue: UploadQueue) -> Iterator[RunningAirflow]:
    require_weed()
    var = tmp_path_factory.mktemp("var with spaces")
    with laptop(var, stand_in_options=("--latency-ms", "150", "--job-hold-file", str(var / HOLD_JOBS))) as machine:
        upload_queue.join(machine.env)
        machine.home.migrate(machine.env)
        with AirflowStack(machine.home, {**machine.env, **QUICK}, var / "logs") as stack, stack.client() as client:
            make_pool(client, "nova", SLOTS)
            unpause(client, (DAG_ID, BATCH_DAG_ID))
            yield RunningAirflow(machine, stack, client)
