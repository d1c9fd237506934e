"""The export as a DAG: by hand with params, to a folder and to S3; and its operator in somebody else's DAG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.catalog.making import add, process
from tests.dags.conftest import Deployment
from tests.dags.running import load_dag, run_dag


def export(**conf: Any) -> Any:
    return run_dag(load_dag("export_analyses"), conf)


def returned(run: Any) -> Any:
    (instance,) = run.get_task_instances()
    return instance.xcom_pull(task_ids="export")


def test_what_a_run_wrote_lands_in_s3(deployment: Deployment) -> None:
    one, two = add(deployment.catalog, 2)
    process(deployment.catalog, "first", one)
    process(deployment.catalog, "second", two)
    run = export(run_id="dag/first", format="jsonl", destination=f"s3://{deployment.bucket}/exports")
    assert run.state == "success"
    said = returned(run)
    assert (said["rows"], said["rows_by_endpoint"]) == (1, {"stand-in": 1})
    key = said["uri"].removeprefix(f"s3://{deployment.bucket}/")
    body = deployment.s3.get_object(Bucket=deployment.bucket, Key=key)["Body"].read()
    assert [json.loads(line)["file_id"] for line in body.splitlines()] == [one]


def test_the_setting_says_where_when_nobody_else_does(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_PROXY_EXPORT_URI", str(tmp_path / "out"))
    process(deployment.catalog, "first", *add(deployment.catalog, 2))
    assert export().state == "success"
    (path,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_metadata(path).num_rows == 2


def test_a_wrong_param_fails_the_run(deployment: Deployment, tmp_path: Path) -> None:
    assert export(destination=str(tmp_path / "out"), lable="cat").state == "failed"
    assert not (tmp_path / "out").exists()


def test_the_operator_in_another_dag_takes_arguments_not_that_dags_params(
    deployment: Deployment, tmp_path: Path
) -> None:
    from image_proxy.exporting import ExportAnalysesOperator

    process(deployment.catalog, "first", *add(deployment.catalog, 2))
    operator = ExportAnalysesOperator(task_id="export", destination=str(tmp_path / "out"), day="", with_label="CAT")
    said = operator.execute({"params": {"label": "unicorn", "theirs": 1}})
    assert (said["rows"], said["uri"]) == (2, next((tmp_path / "out").glob("*.parquet")).as_uri())
    for bad in ({"day": "yesterday"}, {"format": "csv"}, {"run_id": "dag/none"}, {"destination": "ftp://x"}):
        arguments = {"destination": str(tmp_path / "out"), **bad}
        with pytest.raises(AirflowFailException):
            ExportAnalysesOperator(task_id="export", **arguments).execute({"params": {}})
