"""The ingest DAGs: when they exist, when they run, and what a person is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.conftest import Deployment, photograph
from tests.dags.running import dags_of, load_dag, run_dag, states_of
from tests.dags.test_integrity import HEAVY, modules_after
from tests.dags.test_parsing import DAGS

EVENTS_QUEUE = "http://127.0.0.1:1/123456789012/uploads"


def ingest(**conf: Any) -> dict[str, str]:
    """Run catalog_ingest in this process; return the state of the run and of each task, by its mapped label."""
    return states_of(run_dag(load_dag("catalog_ingest"), conf))


def test_it_registers_what_is_new_and_skips_itself_when_nothing_is(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1300, 1000)
    deployment.s3.upload_file(str(deployment.pictures / "a.jpg"), deployment.bucket, "in/a.jpg")
    folder, prefix = deployment.pictures.as_uri(), f"s3://{deployment.bucket}/in/"
    assert ingest(sources=[folder, prefix]) == {
        "run": "success", "sources": "success", folder: "success", prefix: "success",
    }  # fmt: skip
    assert ingest(sources=[folder, prefix])[prefix] == "skipped"
    assert set(deployment.catalog.content_versions([f"{prefix}a.jpg", f"{folder}/a.jpg"])) == {
        f"{prefix}a.jpg", f"{folder}/a.jpg",
    }  # fmt: skip


def test_one_source_that_is_away_does_not_keep_another_from_being_registered(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1300, 1000)
    states = ingest(sources=["/no/such/folder", str(deployment.pictures)])
    assert (states["run"], states["file:///no/such/folder"]) == ("failed", "failed")
    assert states[deployment.pictures.as_uri()] == "success"


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({}, "no sources: set IMAGE_PROXY_INGEST_SOURCES, or type one into the param sources"),
        ({"sources": ["pictures"]}, "type s3://bucket/prefix or an absolute folder"),
        ({"sources": ["/mnt/pictures"], "ful": True}, "unknown param 'ful': did you mean full?"),
    ],
)
def test_a_person_is_told_what_to_type(
    deployment: Deployment, conf: dict[str, Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    states = ingest(**conf)
    assert states["run"] == "failed"
    shown = capfd.readouterr()
    assert said in " ".join((shown.out + shown.err).split())


def test_a_wrong_setting_is_refused_by_name(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE_PROXY_INGEST_HEADER_BYTES", "few")
    assert ingest(sources=[str(deployment.pictures)])["run"] == "failed"
    assert "IMAGE_PROXY_INGEST_HEADER_BYTES: Input should be" in "".join(capfd.readouterr())


def test_it_is_scheduled_only_where_sources_are_set(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_dag("catalog_ingest").schedule is None
    monkeypatch.setenv("IMAGE_PROXY_INGEST_SOURCES", "s3://originals/")
    monkeypatch.setenv("IMAGE_PROXY_INGEST_SCHEDULE", "*/3 * * * *")
    assert load_dag("catalog_ingest").schedule == "*/3 * * * *"


def test_the_watcher_exists_only_where_a_queue_is_set(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dags_of("catalog_ingest_events") == {}
    monkeypatch.setenv("IMAGE_PROXY_INGEST_QUEUE_URL", EVENTS_QUEUE)
    [asset] = load_dag("catalog_ingest_events").schedule
    [watcher] = asset.watchers
    classpath, arguments = watcher.trigger.serialize()
    assert classpath.endswith("SqsSensorTrigger")
    assert (arguments["sqs_queue"], arguments["delete_message_on_reception"]) == (EVENTS_QUEUE, False)


def test_a_wrong_setting_keeps_no_dag_from_being_parsed_and_no_schedule_from_running(
    airflow_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_PROXY_INGEST_SOURCES", "s3://originals/")
    monkeypatch.setenv("IMAGE_PROXY_INGEST_QUEUE_URL", EVENTS_QUEUE)
    monkeypatch.setenv("IMAGE_PROXY_INGEST_HEADER_BYTES", "few")
    found = {name: dags_of(name) for name in DAGS}
    assert {name: set(dags) for name, dags in found.items()} == {name: {name} for name in DAGS}
    assert found["catalog_ingest"]["catalog_ingest"].schedule == "*/10 * * * *"


@pytest.mark.parametrize("module", ["catalog_ingest", "catalog_ingest_events"])
def test_parsing_loads_nothing_heavy_where_no_queue_is_set(module: str) -> None:
    baseline = modules_after("from airflow.sdk import dag, task_group")
    added = modules_after(f"import {module}") - baseline
    assert {name for name in added if name in HEAVY or name.split(".")[0] in HEAVY} == set()
    assert "include.pipeline.ingest_params" in added
