"""What the scheduler and the UI rely on, without running a task."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import TriggerRule, WeightRule

from include.pipeline.params import param_schemas

ROOT = Path(__file__).resolve().parents[2]

# Modules that cost the scheduler time at every parse and that no DAG needs before its tasks run.
HEAVY = ("PIL", "boto3", "botocore", "alembic", "fastapi", "pandas", "numpy", "moto", "include.catalog.tables")

LOADED = "import sys; print(*sorted(sys.modules))"


def modules_after(code: str) -> set[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(ROOT / "dags")])}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {LOADED}"], env=env, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_dag_says_what_it_is(pipeline_dag: Any) -> None:
    assert pipeline_dag.doc_md and "### Image proxies" in pipeline_dag.doc_md
    assert set(pipeline_dag.tags) == {"images", "nova", "proxies"}
    assert not pipeline_dag.catchup


def test_the_ui_shows_what_each_task_does(pipeline_dag: Any) -> None:
    for task in pipeline_dag.tasks:
        assert task.doc_md and task.doc_md == inspect.getdoc(type(task)), task.task_id


def test_the_trigger_form_is_the_pipelines_own_list(pipeline_dag: Any) -> None:
    assert list(pipeline_dag.params) == list(param_schemas())
    for name in pipeline_dag.params:
        assert pipeline_dag.params[name] == param_schemas()[name]["default"], name


def test_the_gate_cannot_be_green_when_the_plan_failed(pipeline_dag: Any) -> None:
    gate = pipeline_dag.get_task("gate")
    assert gate.upstream_task_ids == {"plan", "summary"}
    assert gate.trigger_rule == TriggerRule.ALL_SUCCESS
    assert gate.downstream_task_ids == {"continue_backlog"}
    assert pipeline_dag.get_task("continue_backlog").trigger_rule == TriggerRule.ALL_SUCCESS
    assert pipeline_dag.get_task("summary").trigger_rule == TriggerRule.ALL_DONE


def test_the_first_batch_is_analysed_while_others_are_resized(pipeline_dag: Any) -> None:
    for task_id in ("images.proxy", "images.analyse"):
        assert pipeline_dag.get_task(task_id).weight_rule == WeightRule.UPSTREAM


def test_analyses_take_as_many_slots_as_they_keep_requests_in_flight(pipeline_dag: Any) -> None:
    analyse = pipeline_dag.get_task("images.analyse")
    assert (analyse.pool, analyse.pool_slots) == ("nova", 4)


def test_parsing_the_dag_loads_nothing_heavy() -> None:
    """Against what `airflow.sdk` loads by itself, for that is not ours to change."""
    baseline = modules_after("from airflow.sdk import dag, task_group")
    added = modules_after("import image_proxy_pipeline") - baseline
    assert {module for module in added if module in HEAVY or module.split(".")[0] in HEAVY} == set()
    assert "include.pipeline.params" in added  # the DAG really was imported


def test_a_task_that_asks_the_catalog_only_loads_nothing_of_aws_or_alembic() -> None:
    """A run has five such tasks, each in a process of its own: half a second of CPU each."""
    baseline = modules_after("from airflow.sdk import dag, task_group; import image_proxy_pipeline")
    asks = (
        "import image_proxy_pipeline, image_proxy.hooks.catalog, include.catalog.catalog, include.pipeline.gate; "
        "import include.catalog.schema_version, include.pipeline.summary; "
        "image_proxy.operators.told_to_a_person().__enter__()"
    )
    added = modules_after(asks) - baseline
    assert {module for module in added if module.split(".")[0] in ("alembic", "boto3", "botocore", "PIL")} == set()
    assert "include.catalog.schema_version" in added


def test_what_the_plugin_scan_executes_is_one_light_file() -> None:
    assert [path.name for path in (ROOT / "plugins").glob("*.py")] == ["image_proxy_plugin.py"]
    assert (ROOT / "plugins" / ".airflowignore").read_text().split() == ["image_proxy/"]


def test_it_runs_hourly_on_true_intervals_and_when_pictures_arrive(pipeline_dag: Any) -> None:
    schedule = pipeline_dag.timetable
    assert type(schedule).__name__ == "AssetOrTimeSchedule"
    assert type(schedule.timetable).__name__ == "CronDataIntervalTimetable"
    assert schedule.timetable.expression == "0 * * * *"
    assert {asset.name for asset in schedule.asset_condition.objects} == {"image_catalog", "image_backlog"}


def test_what_is_finished_is_announced(pipeline_dag: Any) -> None:
    for task_id, asset in (
        ("announce_proxies", "image_proxies"),
        ("announce_analyses", "image_analyses"),
        ("continue_backlog", "image_backlog"),
    ):
        assert [outlet.name for outlet in pipeline_dag.get_task(task_id).outlets] == [asset]


def test_nobody_is_told_unless_somebody_is_named(pipeline_dag: Any) -> None:
    assert not pipeline_dag.deadline


def test_the_trigger_form_has_sections_choices_and_examples(pipeline_dag: Any) -> None:
    """What has no section is unfolded in Airflow's form: the choices that most people make."""
    schemas = {name: pipeline_dag.params.get_param(name).schema for name in pipeline_dag.params}
    open_fields = [name for name, schema in schemas.items() if "section" not in schema]
    assert open_fields == ["stages", "limit", "force", "dry_run"]
    for name, schema in schemas.items():
        assert schema["$comment"].startswith("type "), name
        choices = schema.get("enum") or schema.get("items", {}).get("enum")
        assert set(schema.get("values_display", {})) <= set(choices or ()), name
