"""A batch inference run under a real scheduler and triggerer: what waits, what is killed, and what goes on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import text

from include.local.cloud import BUCKET
from include.local.seaweedfs import REGION
from tests.end_to_end.conftest import BATCH_DAG_ID, HOLD_JOBS, RunningAirflow, until
from tests.pipeline.backlog import Backlog

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def hold(airflow: RunningAirflow) -> Iterator[Path]:
    """While this file is there, jobs wait at Bedrock."""
    path = airflow.machine.var / HOLD_JOBS
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def bedrock(airflow: RunningAirflow) -> Any:
    credentials = airflow.machine.cloud.s3.credentials
    return boto3.client(
        "bedrock",
        endpoint_url=airflow.machine.cloud.nova_url,
        region_name=REGION,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
    )


def backlog(airflow: RunningAirflow) -> Backlog:
    return Backlog(airflow.machine.catalog, airflow.machine.cloud.s3.client(), BUCKET)


def infer_state(airflow: RunningAirflow, run: str) -> str | None:
    states = {task["task_id"]: task["state"] for task in airflow.tasks(run, BATCH_DAG_ID)}
    return states.get("jobs.infer")


def jobs(bedrock: Any) -> dict[str, str]:
    return {job["jobArn"]: job["status"] for job in bedrock.list_model_invocation_jobs()["invocationJobSummaries"]}


def outcomes(airflow: RunningAirflow, run: str) -> dict[str, int]:
    by_outcome = airflow.machine.catalog.run_counts(f"{BATCH_DAG_ID}/{run}").by_outcome
    return {outcome.value: count for outcome, count in by_outcome.items()}


def deferred(airflow: RunningAirflow, bedrock: Any, before: dict[str, str]) -> tuple[str, str]:
    """Start a run; return it and its job's ARN once the task waits without a worker."""
    run = airflow.trigger(dag_id=BATCH_DAG_ID)
    until(lambda: infer_state(airflow, run) == "deferred", lambda: airflow.state_of(run, BATCH_DAG_ID))
    (arn,) = set(jobs(bedrock)) - set(before)
    return run, arn


def kill(airflow: RunningAirflow, *names: str) -> None:
    """As a machine that goes away: no signal that they could answer. What `make up` does then follows."""
    servers = [airflow.stack.servers[name] for name in names]
    for server in servers:
        os.killpg(server.pid, signal.SIGKILL)
    for server in servers:
        assert server.wait(10) == -signal.SIGKILL
    assert sorted(airflow.stack.revive()) == sorted(names)


def test_a_killed_triggerer_and_scheduler_lose_no_job_and_start_none_again(
    airflow: RunningAirflow, bedrock: Any, hold: Path
) -> None:
    before, calls = jobs(bedrock), len(airflow.machine.cloud.calls())
    backlog(airflow).add(good=95, bad=5)
    run, arn = deferred(airflow, bedrock, before)
    assert jobs(bedrock)[arn] == "Scheduled"
    kill(airflow, "triggerer", "scheduler")
    hold.unlink()
    assert airflow.wait(run, BATCH_DAG_ID) == "success"
    assert outcomes(airflow, run) == {"analysed": 95, "failed": 5}
    assert set(jobs(bedrock)) - set(before) == {arn}
    answered = Counter(call["record_id"] for call in airflow.machine.cloud.calls()[calls:])
    assert len(answered) == 100 and set(answered.values()) == {1}


def test_marking_the_waiting_task_as_failed_stops_its_job_and_frees_its_images(
    airflow: RunningAirflow, bedrock: Any, hold: Path
) -> None:
    before = jobs(bedrock)
    backlog(airflow).add(good=100)
    run, arn = deferred(airflow, bedrock, before)
    (task,) = (task for task in airflow.tasks(run, BATCH_DAG_ID) if task["task_id"] == "jobs.infer")
    path = f"/dags/{BATCH_DAG_ID}/dagRuns/{run}/taskInstances/jobs.infer/{task['map_index']}"
    answer = airflow.client.patch(path, json={"new_state": "failed"})
    assert answer.status_code == 200, answer.text
    until(lambda: jobs(bedrock)[arn] == "Stopped", "the job is stopped")
    assert airflow.wait(run, BATCH_DAG_ID) == "failed"
    assert outcomes(airflow, run) == {"returned": 100}
    with airflow.machine.engine.connect() as connection:
        held = connection.execute(text("SELECT count(*) FROM image_claims")).scalar_one()
    assert held == 0
    hold.unlink()
    again = airflow.trigger(dag_id=BATCH_DAG_ID)
    assert airflow.wait(again, BATCH_DAG_ID) == "success"
    assert outcomes(airflow, again) == {"analysed": 100}
