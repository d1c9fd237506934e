"""One boot of a real Airflow (scheduler, DAG processor, triggerer, API server), shared by all tests that need one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.local.airflow import AirflowStack
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from scripts.up import make_pool, unpause
from tests.programs import require_weed

DAG_ID = "image_proxy_pipeline"
SLOTS = 6  # not a multiple of the four slots that an analysis task takes: two tasks at once would need eight
RUN_SECONDS = 240


@dataclass
class RunningAirflow:
    """A running Airflow with its embedded cloud, and a logged-in client of its REST API."""

    machine: Laptop
    stack: AirflowStack
    client: httpx.Client

    def register(self, folder: Path) -> None:
        register_folders(self.machine.catalog, [folder], datetime.now(UTC))

    def trigger(self, **conf: Any) -> str:
        answer = self.client.post(f"/dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": conf})
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["dag_run_id"])

    def wait(self, dag_run_id: str) -> str:
        """Return the state in which the run ended."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            state = self.client.get(f"/dags/{DAG_ID}/dagRuns/{dag_run_id}").json()["state"]
            if state in ("success", "failed"):
                return str(state)
            time.sleep(0.5)
        raise AssertionError(f"{dag_run_id} was not done after {RUN_SECONDS} s")

    def tasks(self, dag_run_id: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/dags/{DAG_ID}/dagRuns/{dag_run_id}/taskInstances", params={"limit": 200})
        return list(answer.json()["task_instances"])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    require_weed()
    var = tmp_path_factory.mktemp("var with spaces")
    with laptop(var, stand_in_options=("--latency-ms", "150")) as machine:
        machine.home.migrate(machine.env)
        with AirflowStack(machine.home, machine.env, var / "logs") as stack, stack.client() as client:
            make_pool(client, "nova", SLOTS)
            unpause(client, (DAG_ID,))
            yield RunningAirflow(machine, stack, client)
