"""The DAG `nova_batch_inference` through `dag.test()`: deferral, trigger and resumption in this process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from include.local.nova_stand_in import Forced, JobRules
from include.pipeline.batch_params import NAMES
from tests.dags.conftest import Deployment
from tests.dags.running import load_dag, run_dag
from tests.dags.test_integrity import HEAVY, modules_after
from tests.pipeline.backlog import ROLE, Backlog

DAG_ID = "nova_batch_inference"


@dataclass
class Site:
    """A deployment with a backlog."""

    deployment: Deployment
    backlog: Backlog

    def run(self, **conf: Any) -> tuple[str, dict[str, str]]:
        """Return the run's state, and each task's by its id."""
        run = run_dag(load_dag(DAG_ID), conf)
        states = {task.task_id: str(task.state) for task in run.get_task_instances()}
        return str(run.state), states

    @property
    def run_id(self) -> str:
        return str(self.deployment.catalog.latest_run_id(DAG_ID))

    def outcomes(self) -> dict[str, int]:
        by_outcome = self.deployment.catalog.run_counts(self.run_id).by_outcome
        return {outcome.value: count for outcome, count in by_outcome.items()}


@pytest.fixture
def site(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("IMAGE_PROXY_BATCH_ROLE_ARN", ROLE)
    monkeypatch.setenv("IMAGE_PROXY_BATCH_POLL_SECONDS", "0.2")
    return Site(deployment, Backlog(deployment.catalog, deployment.s3, deployment.bucket))


def test_a_backlog_becomes_a_job_and_the_run_is_green(site: Site) -> None:
    site.backlog.add(good=96, bad=4)
    state, tasks = site.run()
    assert (state, tasks["jobs.infer"], tasks["jobs.on_demand"]) == ("success", "success", "skipped")
    assert site.outcomes() == {"analysed": 96, "failed": 4}
    answered = Counter(call.record_id for call in site.deployment.stand_in.calls())
    assert len(answered) == 100 and set(answered.values()) == {1}


def test_too_few_for_a_job_are_described_on_demand(site: Site) -> None:
    site.backlog.add(good=5)
    state, tasks = site.run()
    assert (state, tasks["jobs.infer"], tasks["jobs.on_demand"]) == ("success", "success", "success")
    assert site.outcomes() == {"analysed": 5}
    assert [call.job for call in site.deployment.stand_in.calls()] == [None] * 5


def test_nothing_to_do_is_green(site: Site) -> None:
    state, tasks = site.run()
    assert (state, tasks["jobs.infer"]) == ("success", "skipped")


def test_a_failed_job_is_red_and_names_the_reason(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.deployment.stand_in.change(jobs=JobRules(end="Failed", message="no access to the bucket"))
    site.backlog.add(good=100)
    state, tasks = site.run()
    assert (state, tasks["jobs.infer"], tasks["gate"]) == ("failed", "failed", "upstream_failed")
    assert site.outcomes() == {"returned": 100}
    assert site.deployment.catalog.run_images(site.run_id)[0].message == "the job failed: no access to the bucket"


@pytest.mark.parametrize(
    ("conf", "setting"),
    [
        ({"limt": 5}, None),
        ({"stages": ["proxy"]}, None),
        ({"model_id": "nova"}, None),
        ({"max_cost_usd": 0.0000001}, None),
        ({}, ("IMAGE_PROXY_BATCH_ROLE_ARN", "")),
        ({}, ("IMAGE_PROXY_BATCH_ROLE_ARN", "nobody")),
        ({}, ("IMAGE_PROXY_BATCH_TIMEOUT_HOURS", "1")),
    ],
)
def test_what_is_wrong_is_refused_by_the_first_task(
    site: Site, conf: dict[str, Any], setting: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.backlog.add(good=3)
    if setting:
        monkeypatch.setenv(*setting)
    state, tasks = site.run(**conf)
    assert (state, tasks["plan"]) == ("failed", "failed")
    assert site.deployment.catalog.latest_run_id(DAG_ID) is None
    assert not [key for key in site.deployment.objects() if not key.startswith("proxy_image/")]


def test_a_dry_run_writes_nothing(site: Site) -> None:
    site.backlog.add(good=100)
    assert site.run(dry_run=True)[0] == "success"
    assert site.deployment.catalog.latest_run_id(DAG_ID) is None
    assert site.deployment.stand_in.calls() == ()


def test_a_question_that_bedrock_does_not_answer_is_asked_again(site: Site) -> None:
    rule = Forced(operation="GetModelInvocationJob", error="ThrottlingException", times=12)
    site.deployment.stand_in.change(forced=(rule,), jobs=JobRules(status_seconds=0.5))
    site.backlog.add(good=100)
    assert site.run()[0] == "success"
    assert site.outcomes() == {"analysed": 100}


def test_acting_on_the_waiting_task_stops_the_job(site: Site, tmp_path: Path) -> None:
    """What the triggerer does when somebody marks the task as failed: it calls the trigger's `on_kill`."""
    import asyncio

    from image_proxy.triggers import BatchJobTrigger

    hold = tmp_path / "hold"
    hold.touch()
    site.deployment.stand_in.change(jobs=JobRules(min_records=1, hold_file=hold))
    site.deployment.s3.put_object(Bucket=site.deployment.bucket, Key="in/a.jsonl", Body=b'{"modelInput":{}}')
    bedrock = boto3.client(
        "bedrock",
        endpoint_url=site.deployment.stand_in.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    arn = bedrock.create_model_invocation_job(
        jobName="a",
        roleArn=ROLE,
        modelId="us.amazon.nova-2-lite-v1:0",
        inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://{site.deployment.bucket}/in/"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"s3://{site.deployment.bucket}/out/"}},
    )["jobArn"]
    trigger = BatchJobTrigger(arn, "aws_default", 0.1)
    path, arguments = trigger.serialize()
    assert path == "image_proxy.triggers.BatchJobTrigger"

    async def kill_and_wait() -> Any:
        await BatchJobTrigger(**arguments).on_kill()
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(kill_and_wait())
    assert event.payload == {"job_arn": arn, "status": "Stopped"}
    asyncio.run(trigger.on_kill())  # a job that is over: nothing to stop, and no error


def test_the_trigger_form_is_the_runs_own_list() -> None:
    dag = load_dag(DAG_ID)
    assert tuple(dag.params) == NAMES
    assert all(task.doc_md for task in dag.tasks)
    gate = dag.get_task("gate")
    assert gate.upstream_task_ids == {"plan", "jobs.on_demand", "summary"}


def test_parsing_the_dag_loads_nothing_heavy() -> None:
    baseline = modules_after("from airflow.sdk import dag, task_group")
    added = modules_after("import nova_batch_inference") - baseline
    assert {module for module in added if module in HEAVY or module.split(".")[0] in HEAVY} == set()
    assert "include.pipeline.batch_params" in added
