"""deployment_check and catalog_maintenance under a real scheduler: only there does a pool hold a task back."""

from __future__ import annotations

import pytest

from include.pipeline.check_params import CHECKS
from scripts.up import unpause
from tests.end_to_end.conftest import RunningAirflow

pytestmark = pytest.mark.end_to_end


def test_every_check_is_a_green_square_with_its_name(airflow: RunningAirflow) -> None:
    dag_id = "deployment_check"
    unpause(airflow.client, (dag_id,))
    run = airflow.trigger(dag_id)
    assert airflow.wait(run, dag_id) == "success"
    tasks = airflow.tasks(run, dag_id)
    assert {task["rendered_map_index"] for task in tasks if task["task_id"] == "check"} == set(CHECKS)
    assert {task["task_id"]: task["state"] for task in tasks} == {
        "migrate": "skipped",
        "check": "success",
        "pool": "success",
    }
    [pool] = [task for task in tasks if task["task_id"] == "pool"]
    assert (pool["pool"], pool["pool_slots"]) == ("nova", 4)


def test_maintenance_reports_and_changes_nothing(airflow: RunningAirflow) -> None:
    dag_id = "catalog_maintenance"
    unpause(airflow.client, (dag_id,))
    run = airflow.trigger(dag_id)
    assert airflow.wait(run, dag_id) == "success"
    steps = {"leases", "bucket", "sources", "retention", "deletion"}
    assert {task["task_id"] for task in airflow.tasks(run, dag_id) if task["state"] == "success"} == steps
