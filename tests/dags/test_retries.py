"""Retries: none for what needs a person, as Airflow itself decides it; and what the scheduler tells of pools."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowSkipException

from include.pipeline.analysis import NovaRefused
from include.pipeline.gate import RunRejected
from include.pipeline.params import InvalidParams
from include.pipeline.plan import CostLimitExceeded
from include.pipeline.settings import SettingsError
from include.pipeline.slots import PoolUnfit


@pytest.mark.parametrize("kind", [SettingsError, InvalidParams, CostLimitExceeded, NovaRefused, PoolUnfit, RunRejected])
def test_every_operator_of_the_dag_fails_at_once_where_a_person_is_needed(
    pipeline_dag: Any, kind: type[Exception]
) -> None:
    for task in pipeline_dag.tasks:
        assert task.retry_policy.evaluate(kind("x"), try_number=1, max_tries=3).action is RetryAction.FAIL, task.task_id


@pytest.mark.parametrize("raised", [ConnectionError("x"), OSError("disk"), AirflowSkipException("x")])
def test_everything_else_follows_the_tasks_own_retries(pipeline_dag: Any, raised: Exception) -> None:
    for task in pipeline_dag.tasks:
        decision = task.retry_policy.evaluate(raised, try_number=1, max_tries=3)
        assert decision.action is RetryAction.DEFAULT, task.task_id


def test_the_facts_are_of_the_task_that_takes_most_of_each_pool(airflow_database: None, pipeline_dag: Any) -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from image_proxy.pools import pool_facts

    Pool.create_or_update_pool("nova", 3, "", include_deferred=False)
    try:
        with create_session() as session:
            facts = {fact["pool"]: fact for fact in pool_facts(pipeline_dag.tasks, session)}
    finally:
        Pool.delete_pool("nova")
    assert facts["nova"] == {"pool": "nova", "needed": 4, "slots": 3, "task_id": "images.analyse"}
    assert facts["default_pool"]["needed"] == 1
