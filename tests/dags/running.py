"""A DAG from its file, and one run of it in this process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]


def dags_of(file: str) -> dict[str, Any]:
    """Parse a file of `dags/` anew, and return its DAGs by id. Its name is that of the DAG in it."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(_path(file))
    assert bag.import_errors == {}
    return dict(bag.dags)


def load_dag(dag_id: str) -> Any:
    """Return the DAG anew, as a run in this process writes its conf into its DAG's params."""
    return dags_of(dag_id)[dag_id]


def run_dag(dag: Any, conf: dict[str, Any]) -> Any:
    """Run the DAG as a person does by hand, but retry no task; return the ended run.

    `dag.test()` parses all DAGs of the bundle before each run (2 s of ours): it is given one of this DAG's file.
    """
    for task in dag.tasks:
        task.retries = 0
    bundle = {
        "name": "dags-folder",  # the usual one's, so that Airflow's database looks as after a run in it
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(_path(dag.dag_id))},
    }
    with patch.dict(os.environ, {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle])}):
        return dag.test(run_conf=conf)


def states_of(run: Any) -> dict[str, str]:
    """Return the states of the run (`run`) and of its tasks, each by its mapped label or its id."""
    tasks = {task.rendered_map_index or task.task_id: str(task.state) for task in run.get_task_instances()}
    return {"run": str(run.state), **tasks}


def _path(file: str) -> Path:
    return ROOT / "dags" / f"{file}.py"
