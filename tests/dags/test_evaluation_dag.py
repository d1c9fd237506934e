"""The evaluation as a DAG: by hand with params, green and red, with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.local.nova_stand_in import Forced
from include.nova import Backoff
from include.pipeline import evaluation
from tests.dags.conftest import Deployment, photograph
from tests.dags.running import load_dag, run_dag

DAG_ID = "proxy_quality_evaluation"


def evaluate(deployment: Deployment, **conf: Any) -> Any:
    deployment.register()
    return run_dag(load_dag(DAG_ID), conf)


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


@pytest.fixture
def pictures(deployment: Deployment) -> Deployment:
    for number in range(3):
        photograph(deployment.pictures / f"{number}.jpg", 1300 + 100 * number, 1000)
    return deployment


def test_three_sizes_are_compared_and_the_report_is_marked(
    pictures: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = {"sample_size": 2, "detail": ["896", "960", "original"], "report_uri": str(tmp_path / "reports")}
    run = evaluate(pictures, **conf)
    assert run.state == "success"
    (instance,) = [found for found in run.get_task_instances() if found.task_id == "report"]
    said = instance.xcom_pull(task_ids="report")
    assert said["pictures_compared"] == 2 and said["calls"] == 8 and said["complete"]
    assert said["meaningful_for_nova"] is False and said["cost_usd"] is None
    assert "MEANINGLESS FOR NOVA" in capsys.readouterr().out, "the task's log does not say it"
    assert pictures.objects() == []
    (data,) = (tmp_path / "reports").glob("*.json")
    report = json.loads(data.read_text())
    assert list(report["comparisons"]) == ["896", "960"]
    compared = report["comparisons"]["896"]
    assert list(compared)[:4] == ["pictures", "latency", "text", "labels"]
    # The stand-in says the same of the same picture, and names its size in what it says.
    assert compared["descriptions"]["description_token_f1"]["own_variation"]["value"] == 1
    assert compared["descriptions"]["description_token_f1"]["loss"]["value"] > 0
    stored = pictures.catalog.evaluation(f"proxy_quality_evaluation/{run.run_id}")
    assert stored is not None and stored.report == report
    answered = [call for call in pictures.stand_in.calls() if call.status == 200]
    rows = pictures.catalog.evaluation_calls(stored.run_id)
    assert len(answered) == len(rows) == 8


def test_questions_without_an_answer_turn_the_run_red_and_are_told(
    pictures: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BACKOFF", Backoff(attempts=2, base_seconds=0.001, cap_seconds=0.001))
    pictures.stand_in.change(forced=(Forced(error="ThrottlingException", key_contains="-896."),))
    run = evaluate(pictures, sample_size=1, repeats=1)
    assert run.state == "failed"
    assert states(run) == {"plan": "success", "evaluate": "failed", "report": "failed", "remove_copies": "success"}
    stored = pictures.catalog.evaluation(f"proxy_quality_evaluation/{run.run_id}")
    assert stored is not None and stored.report is not None
    assert (stored.report["complete"], stored.report["calls"]["open"]) == (False, 1)
    assert pictures.objects() == []


def test_a_cost_that_is_too_high_is_refused_before_anything_is_asked(pictures: Deployment) -> None:
    run = evaluate(pictures, max_cost_usd=0.0001)
    assert run.state == "failed"
    assert states(run)["plan"] == "failed"
    assert pictures.stand_in.calls() == ()


def test_its_questions_take_as_many_slots_of_the_pool_as_it_keeps_in_flight() -> None:
    task = load_dag(DAG_ID).get_task("evaluate")
    assert (task.pool, task.pool_slots) == ("nova", 4)
