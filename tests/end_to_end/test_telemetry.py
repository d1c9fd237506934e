"""What a run tells while it works: metrics through Airflow's own StatsD setting, and a log line for each image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.airflow_boot import DAG_ID, RunningAirflow, until
from tests.dags.conftest import photograph

SECRETS = ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET")

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def run_id(airflow: RunningAirflow, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run over two photographs and a broken file."""
    folder = tmp_path_factory.mktemp("secret-project")
    for name in ("one.jpg", "two.jpg"):
        photograph(folder / name, 1400, 1000)
    whole = (folder / "one.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    airflow.register(folder)
    airflow.metrics.sums.clear()
    dag_run_id = airflow.trigger(max_failure_ratio=1)
    assert airflow.wait(dag_run_id) == "success"
    return dag_run_id


def test_metrics_arrive(airflow: RunningAirflow, run_id: str) -> None:
    sums = airflow.metrics.sums
    until(lambda: sums["image_proxy.images.analyse.analysed"] == 2, f"all metrics arrived: {sums}", 30)
    assert sums["image_proxy.images.proxy.proxied"] == 2
    assert (sums["image_proxy.images.proxy.failed"], sums["image_proxy.codes.truncated"]) == (1, 1)
    assert sums["image_proxy.nova.calls"] == 2
    assert sums["image_proxy.backlog.images"] == 3
    for name in ("bytes_saved", "nova.latency", "nova.input_tokens", "nova.output_tokens", "backlog.age_seconds"):
        assert sums[f"image_proxy.{name}"] > 0, name
    for step in ("fetch", "check", "wait", "resize", "upload", "record", "image"):
        assert sums[f"image_proxy.proxy.{step}"] > 0, step


def test_each_outcome_is_one_line_with_file_and_run_and_nothing_private(airflow: RunningAirflow, run_id: str) -> None:
    logs = [path.read_text(encoding="utf-8") for path in _task_logs(airflow, run_id)]
    lines = [line for text in logs for line in text.splitlines() if "image_decided" in line]
    told = re.compile(
        rf"image_decided file_id=\d+ run_id={re.escape(f'{DAG_ID}/{run_id}')} stage=\w+ outcome=\w+ code="
    )
    assert len(lines) == 5, lines
    assert all(told.search(line) for line in lines), lines
    assert not any("secret-project" in line for line in lines)
    secret = airflow.machine.cloud.s3.credentials.secret_key
    assert not any(secret in text for text in logs)


def test_no_log_holds_a_secret_or_words_of_an_answer(airflow: RunningAirflow, run_id: str) -> None:
    """All that the tasks of the run and Airflow's components wrote, not only the lines that are ours."""
    logs = {path: path.read_text(encoding="utf-8") for path in (*_task_logs(airflow, run_id), *_other_logs(airflow))}
    assert {"scheduler.log", "api-server.log", "triggerer.log", "dag-processor.log"} <= {path.name for path in logs}
    images = [image.file_id for image in airflow.machine.catalog.run_images(f"{DAG_ID}/{run_id}")]
    words = [word for file_id in images for word in _answer(airflow, file_id)]
    assert len(words) >= 4, "two answers have two descriptions and some labels"
    secrets = {name: airflow.machine.env[f"AIRFLOW__{name}"] for name in SECRETS}
    secrets["S3"] = airflow.machine.cloud.s3.credentials.secret_key
    secrets["the administrator's password"] = airflow.machine.home.password
    private = {**secrets, **{word: word for word in words}}
    told = {what: path.name for what, value in private.items() for path, text in logs.items() if value in text}
    assert not told


def _answer(airflow: RunningAirflow, file_id: int) -> list[str]:
    """Description and labels of the current analysis of an image, if it has one."""
    with airflow.machine.engine.connect() as connection:
        query = "SELECT description, labels FROM image_analyses WHERE superseded_at IS NULL AND status = 'analysed'"
        found = connection.execute(text(f"{query} AND file_id = :id"), {"id": file_id}).one_or_none()
    return [found.description, *(label["name"] for label in json.loads(found.labels))] if found else []


def _other_logs(airflow: RunningAirflow) -> list[Path]:
    """What Airflow's components wrote: their output, and the DAG processor's own logs."""
    own = airflow.machine.home.path / "logs" / "dag_processor"
    return sorted([*(airflow.machine.var / "logs").glob("*.log"), *own.rglob("*.log")])


def _task_logs(airflow: RunningAirflow, run_id: str) -> list[Path]:
    folder = airflow.machine.home.path / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"
    return sorted(folder.rglob("*.log"))
