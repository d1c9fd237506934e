"""A pool that can never give its slots is an error in the run's first task; Airflow alone would wait for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from scripts.up import make_pool
from tests.end_to_end.conftest import DAG_ID, SLOTS, RunningAirflow

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def pool(airflow: RunningAirflow) -> Iterator[RunningAirflow]:
    """Put the pool back as all other tests have it."""
    yield airflow
    make_pool(airflow.client, "nova", SLOTS)


def log_of_the_plan(airflow: RunningAirflow, run: str) -> str:
    answer = airflow.client.get(
        f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/plan/logs/1", params={"full_content": True}
    )
    assert answer.status_code == httpx.codes.OK
    return json.dumps(answer.json())


@pytest.mark.parametrize(
    ("slots", "said"), [(None, "pool 'nova' does not exist"), (2, "pool 'nova' has 2 slots")], ids=["missing", "small"]
)
def test_an_unfit_pool_fails_the_plan_at_once_with_what_to_type(
    pool: RunningAirflow, slots: int | None, said: str
) -> None:
    if slots is None:
        assert pool.client.delete("/pools/nova").status_code == httpx.codes.NO_CONTENT
    else:
        make_pool(pool.client, "nova", slots)
    run = pool.trigger()
    assert pool.wait(run) == "failed"
    (plan,) = [task for task in pool.tasks(run) if task["task_id"] == "plan"]
    assert (plan["state"], plan["try_number"]) == ("failed", 1)
    log = log_of_the_plan(pool, run)
    assert said in log
    assert "airflow pools set nova 4" in log


def test_proxies_alone_need_no_pool(pool: RunningAirflow) -> None:
    assert pool.client.delete("/pools/nova").status_code == httpx.codes.NO_CONTENT
    assert pool.wait(pool.trigger(stages=["proxy"])) == "success"


def test_a_run_that_was_refused_is_right_once_the_pool_is_there(pool: RunningAirflow) -> None:
    assert pool.client.delete("/pools/nova").status_code == httpx.codes.NO_CONTENT
    run = pool.trigger()
    assert pool.wait(run) == "failed"
    make_pool(pool.client, "nova", SLOTS)
    cleared = pool.client.post(f"/dags/{DAG_ID}/dagRuns/{run}/clear", json={"dry_run": False})
    assert cleared.status_code == httpx.codes.OK
    assert pool.wait(run) == "success"
