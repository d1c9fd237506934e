"""deployment_check and catalog_maintenance, run as DAGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.catalog.engine import create_catalog_engine
from include.catalog.mapping import InvalidMapping
from include.catalog.schema_version import is_migrated
from include.pipeline.check_params import CHECKS
from tests.dags.conftest import Deployment, photograph
from tests.dags.running import load_dag, run_dag, states_of
from tests.dags.test_integrity import HEAVY, modules_after


def run(dag_id: str, **conf: Any) -> dict[str, str]:
    """Return the state of the run and of each task, by its mapped label."""
    return states_of(run_dag(load_dag(dag_id), conf))


def test_a_ready_deployment_is_all_green(deployment: Deployment) -> None:
    states = run("deployment_check")
    assert states.pop("migrate") == "skipped"
    assert states == dict.fromkeys(("run", "pool", *CHECKS), "success")


def test_one_red_square_says_what_is_wrong_and_the_others_stay_green(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE_PROXY_BUCKET", "no-such-bucket-here")
    states = run("deployment_check")
    assert {name for name, state in states.items() if state == "failed"} == {"run", "bucket", "nova"}
    assert states["catalog"] == states["versions"] == "success"
    printed = capfd.readouterr()
    assert "no-such-bucket-here" in printed.out + printed.err


def test_it_migrates_the_catalog_where_there_is_no_shell(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.db"
    monkeypatch.setenv("AIRFLOW_CONN_CATALOG_DEFAULT", f'{{"conn_type": "sqlite", "host": "{path}"}}')
    states = run("deployment_check", migrate_catalog=True)
    assert (states["migrate"], states["catalog"]) == ("success", "success")
    engine = create_catalog_engine(f"sqlite:///{path}")
    assert is_migrated(engine)
    engine.dispose()


def test_a_mapped_column_that_is_missing_is_named_before_any_work(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every task begins with this hook."""
    from image_proxy.hooks.catalog import CatalogHook

    mapping = tmp_path / "mapping.toml"
    names = ("id", "uri", "media_type", "size_bytes", "uploaded_at")
    columns = "\n".join(f'{name} = "{name}"' for name in names)
    mapping.write_text(f'table = "image_own"\n[columns]\n{columns}\ncontent_version = "etagg"\n')
    with create_catalog_engine(f"sqlite:///{tmp_path / 'catalog.db'}").begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE image_own ({', '.join(names)}, etag)")
    CatalogHook().get_conn()
    monkeypatch.setenv("IMAGE_PROXY_TABLE_MAPPING", str(mapping))
    with pytest.raises(InvalidMapping, match=r"has no column 'etagg'; did you mean etag\?"):
        CatalogHook().get_conn()


def test_maintenance_is_a_dry_run_until_told_otherwise(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1300, 1000)
    assert deployment.run(stages=["proxy"]) == "success"
    [key] = deployment.objects()
    deployment.s3.delete_object(Bucket=deployment.bucket, Key=key)
    image = deployment.images()["a.jpg"]
    steps = ("run", "leases", "bucket", "sources", "retention", "deletion")
    assert run("catalog_maintenance") == dict.fromkeys(steps, "success")
    assert deployment.catalog.current(image.file_id)["proxy_uri"] is not None  # type: ignore[index]
    assert run("catalog_maintenance", dry_run=False)["run"] == "success"
    assert deployment.catalog.current(image.file_id)["proxy_uri"] is None  # type: ignore[index]
    assert deployment.run(stages=["proxy"]) == "success"
    assert deployment.objects() == [key]


def test_maintenance_is_weekly_and_both_explain_themselves(airflow_database: None) -> None:
    assert load_dag("catalog_maintenance").schedule == "0 4 * * 0"
    assert load_dag("deployment_check").schedule is None
    for dag_id in ("catalog_maintenance", "deployment_check", "catalog_ingest"):
        dag = load_dag(dag_id)
        assert dag.doc_md and all(task.doc_md for task in dag.tasks), dag_id
        assert not dag.catchup


@pytest.mark.parametrize("module", ["deployment_check", "catalog_maintenance"])
def test_parsing_loads_nothing_heavy(module: str) -> None:
    added = modules_after(f"import {module}") - modules_after("from airflow.sdk import dag, task_group")
    assert {name for name in added if name in HEAVY or name.split(".")[0] in HEAVY} == set()
    assert "include.pipeline.params" in added
