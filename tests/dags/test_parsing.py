"""Every DAG file: parsed every few seconds, so it loads nothing heavy; read by people, so everything is described."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.dags.test_integrity import HEAVY, ROOT, modules_after

DAGS = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
QUEUE = {"IMAGE_PROXY_INGEST_QUEUE_URL": "http://127.0.0.1/uploads"}  # without it one file has no DAG


@pytest.fixture(scope="module")
def baseline() -> set[str]:
    return modules_after("from airflow.sdk import dag, task_group")


@pytest.mark.parametrize("name", DAGS)
def test_parsing_loads_nothing_heavy(name: str, baseline: set[str]) -> None:
    added = modules_after(f"import {name}") - baseline
    assert {module for module in added if module in HEAVY or module.split(".")[0] in {*HEAVY, "pyarrow"}} == set()
    assert any(module.startswith("image_proxy.") for module in added), "the DAG was not imported"


@pytest.mark.parametrize("name", DAGS)
def test_the_ui_says_what_it_is_and_what_each_task_and_param_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for setting, value in QUEUE.items():
        monkeypatch.setenv(setting, value)
    bag = DagBag(Path(ROOT, "dags", f"{name}.py"))
    assert bag.import_errors == {}
    dag = bag.dags[name]
    assert dag.doc_md and dag.doc_md.strip().startswith("### ")
    assert dag.tags and not dag.catchup
    for task in dag.tasks:
        operator = task.operator_class if task.is_mapped else type(task)
        assert task.doc_md == inspect.getdoc(operator), task.task_id
    for name_of_param in dag.params:
        param = dag.params.get_param(name_of_param)
        assert param.schema["title"] and param.description.endswith("."), name_of_param
        assert "type" in param.schema, name_of_param
