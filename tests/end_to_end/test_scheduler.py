"""What `dags test` hides: the scheduler's own mapping, runs at the same time, the pool, runs without a logical date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from include.local.cloud import BUCKET
from tests.dags.conftest import photograph
from tests.end_to_end.conftest import DAG_ID, SLOTS, RunningAirflow

PICTURES = 24

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def two_runs(airflow: RunningAirflow, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two runs at once over the same new pictures; both may take any of them."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        photograph(folder / f"{number:02}.jpg", 1400, 1000)
    airflow.register(folder)
    first, second = (airflow.trigger(batch_size=6) for _ in range(2))
    assert (airflow.wait(first), airflow.wait(second)) == ("success", "success")
    return first, second


def rows(airflow: RunningAirflow, query: str, **values: Any) -> Sequence[Any]:
    with airflow.machine.engine.connect() as connection:
        return connection.execute(text(query), values).all()


def test_every_image_has_one_proxy_and_one_analysis(airflow: RunningAirflow, two_runs: tuple[str, str]) -> None:
    done = rows(
        airflow,
        "SELECT count(*), count(DISTINCT p.file_id), count(a.id) FROM image_proxies p "
        "JOIN image_analyses a ON a.file_id = p.file_id WHERE p.run_id IN (:a, :b) AND a.status = 'analysed'",
        **dict(zip("ab", (f"{DAG_ID}/{run}" for run in two_runs), strict=True)),
    )
    assert tuple(done[0]) == (PICTURES, PICTURES, PICTURES)


def test_the_bucket_holds_one_object_an_image(airflow: RunningAirflow, two_runs: tuple[str, str]) -> None:
    stored = airflow.machine.cloud.s3.client().list_objects_v2(Bucket=BUCKET, Prefix="proxy_image/")["Contents"]
    recorded = {uri for (uri,) in rows(airflow, "SELECT uri FROM image_proxies WHERE status = 'proxied'")}
    assert {f"s3://{BUCKET}/{found['Key']}" for found in stored} == recorded


def test_nova_was_called_once_an_image(airflow: RunningAirflow, two_runs: tuple[str, str]) -> None:
    query = "SELECT uri FROM image_proxies WHERE run_id IN (:a, :b)"
    proxies = {uri for (uri,) in rows(airflow, query, a=f"{DAG_ID}/{two_runs[0]}", b=f"{DAG_ID}/{two_runs[1]}")}
    calls = [call for call in airflow.machine.cloud.calls() if call["status"] == 200]  # other tests ask about theirs
    asked = [call["s3_uri"] for call in calls if call["s3_uri"] in proxies]
    assert len(asked) == len(set(asked)) == PICTURES


def test_the_two_runs_never_worked_on_an_image_at_the_same_time(
    airflow: RunningAirflow, two_runs: tuple[str, str]
) -> None:
    """From the times on the rows: a stage's work on an image in one run ends before the other's begins."""
    held = rows(airflow, "SELECT count(*) FROM image_run_items WHERE proxy_started_at IS NOT NULL")
    assert held[0][0] >= PICTURES
    for stage in ("proxy", "analysis"):
        overlaps = rows(
            airflow,
            "SELECT x.file_id FROM image_run_items x JOIN image_run_items y ON x.file_id = y.file_id "  # noqa: S608
            f"AND x.run_id < y.run_id WHERE x.{stage}_started_at < y.{stage}_decided_at "
            f"AND y.{stage}_started_at < x.{stage}_decided_at",
        )
        assert overlaps == []


def test_the_pool_bounds_requests_across_runs(airflow: RunningAirflow, two_runs: tuple[str, str]) -> None:
    events = []
    for call in airflow.machine.cloud.calls():
        events += [(datetime.fromisoformat(call["started"]), 1), (datetime.fromisoformat(call["ended"]), -1)]
    flying = most = 0
    for _, change in sorted(events):
        flying += change
        most = max(most, flying)
    assert 1 < most <= SLOTS


def test_batches_were_mapped_with_labels(airflow: RunningAirflow, two_runs: tuple[str, str]) -> None:
    tasks = [task for run in two_runs for task in airflow.tasks(run)]
    labels = {task["rendered_map_index"] for task in tasks if task["task_id"] == "images.proxy"}
    assert {"batch 0: 6 images", "batch 3: 6 images"} <= labels


def test_an_unknown_param_turns_the_run_red(airflow: RunningAirflow) -> None:
    run = airflow.trigger(limt=3)
    assert airflow.wait(run) == "failed"
    states = {task["task_id"]: task["state"] for task in airflow.tasks(run)}
    assert (states["plan"], states["gate"]) == ("failed", "upstream_failed")


def test_a_value_out_of_bounds_is_refused_by_the_api(airflow: RunningAirflow) -> None:
    body = {"logical_date": None, "conf": {"quality": 5}}
    answer = airflow.client.post(f"/dags/{DAG_ID}/dagRuns", json=body)
    assert answer.status_code == 400
    assert "quality" in answer.text


def test_a_run_with_nothing_to_do_is_green(airflow: RunningAirflow, two_runs: tuple[str, str], tmp_path: Path) -> None:
    calls = len(airflow.machine.cloud.calls())
    assert airflow.wait(airflow.trigger()) == "success"
    assert len(airflow.machine.cloud.calls()) == calls


def test_what_tasks_import_is_imported_before_their_processes_are_forked(airflow: RunningAirflow) -> None:
    log = (airflow.machine.var / "logs" / "scheduler.log").read_text(encoding="utf-8")
    assert "cannot be imported ahead" not in log
    assert log.index("imported ahead of the tasks what they need") < log.index("Worker starting up")
