"""An upload arrives by itself: bucket event, asset watcher, registered row, asset event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

import pytest
from sqlalchemy import text

from scripts.up import unpause
from tests.dags.conftest import photograph
from tests.end_to_end.conftest import RUN_SECONDS, RunningAirflow, UploadQueue

pytestmark = pytest.mark.end_to_end

T = TypeVar("T")
ORIGINALS = "originals"


def until(answer: Callable[[], T], wanted: str) -> T:
    """Return the first answer that is not empty."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        if found := answer():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{wanted}: not within {RUN_SECONDS} s")


def upload(airflow: RunningAirflow, key: str, folder: Path) -> str:
    s3 = airflow.machine.cloud.s3.client()
    if ORIGINALS not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=ORIGINALS)
    s3.upload_file(str(photograph(folder / "picture.jpg", 1300, 1000)), ORIGINALS, key)
    record = {"s3": {"bucket": {"name": ORIGINALS}, "object": {"key": quote_plus(key, safe="/")}}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", **record}]})


def registered(airflow: RunningAirflow, key: str) -> int:
    with airflow.machine.engine.connect() as connection:
        query = text("SELECT count(*) FROM files WHERE uri = :uri")
        return int(connection.execute(query, {"uri": f"s3://{ORIGINALS}/{key}"}).scalar_one())


def analysed(airflow: RunningAirflow, key: str) -> int:
    with airflow.machine.engine.connect() as connection:
        query = text("SELECT count(*) FROM current_image_analyses WHERE uri = :uri AND description IS NOT NULL")
        return int(connection.execute(query, {"uri": f"s3://{ORIGINALS}/{key}"}).scalar_one())


def events_of(airflow: RunningAirflow, source_dag: str) -> list[dict[str, Any]]:
    """The events of the asset `image_catalog` that a DAG's runs made."""
    answer = airflow.got("/assets/events", source_dag_id=source_dag, limit=100)
    return [event for event in answer["asset_events"] if event["name"] == "image_catalog"]


def runs(airflow: RunningAirflow, dag_id: str) -> list[dict[str, Any]]:
    found = airflow.got(f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    return [run for run in found if run["state"] in ("success", "failed")]


def in_queue(queue: UploadQueue) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = queue.client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def test_an_upload_is_registered_at_once_and_its_message_deleted(
    airflow: RunningAirflow, upload_queue: UploadQueue, tmp_path: Path
) -> None:
    key = "2026/ünï + %2F.jpg"
    dag_id = "catalog_ingest_events"
    message = upload(airflow, key, tmp_path)
    unpause(airflow.client, (dag_id,))
    upload_queue.client.send_message(QueueUrl=upload_queue.url, MessageBody=message)
    [event] = until(lambda: events_of(airflow, dag_id), "an event of the asset image_catalog")
    assert (event["extra"]["new"], event["extra"]["deleted"]) == (1, 1)
    assert (registered(airflow, key), in_queue(upload_queue)) == (1, 0)
    until(lambda: analysed(airflow, key), "the asset starts the pipeline, which makes a proxy and has it analysed")

    before = len(until(lambda: runs(airflow, dag_id), "the run's end"))
    upload_queue.client.send_message(QueueUrl=upload_queue.url, MessageBody=message)  # SQS may deliver twice
    until(lambda: len(runs(airflow, dag_id)) > before, "a second run")
    assert {run["state"] for run in runs(airflow, dag_id)} == {"success"}
    assert (len(events_of(airflow, dag_id)), registered(airflow, key), in_queue(upload_queue)) == (1, 1, 0)


def test_a_run_by_hand_registers_each_source_and_a_second_one_announces_nothing(
    airflow: RunningAirflow, tmp_path: Path
) -> None:
    dag_id = "catalog_ingest"
    upload(airflow, "listed/a.jpg", tmp_path)
    unpause(airflow.client, (dag_id,))
    sources = [f"s3://{ORIGINALS}/listed/", str(tmp_path)]
    first = airflow.trigger(dag_id, sources=sources)
    assert airflow.wait(first, dag_id) == "success"
    counts = {event["extra"]["source"]: event["extra"]["new"] for event in events_of(airflow, dag_id)}
    assert counts == {f"s3://{ORIGINALS}/listed/": 1, tmp_path.as_uri(): 1}
    second = airflow.trigger(dag_id, sources=sources)
    assert airflow.wait(second, dag_id) == "success"
    states = {task["state"] for task in airflow.tasks(second, dag_id) if task["task_id"] == "register"}
    assert (states, len(events_of(airflow, dag_id))) == ({"skipped"}, 2)
