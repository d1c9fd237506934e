"""The values files of the official chart, by shape: its own schema is not at hand here, and Helm neither.

`KNOWN` are the chart's keys that were looked up in its sources (values.schema.json and templates of the chart for
Airflow 3, and its production guide); a key that is not among them fails, so that a misspelt one shows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distributed.compose import ROOT

FILES = sorted((ROOT / "deploy" / "helm").glob("values-*.yaml"))
KNOWN: dict[str, set[str]] = {
    "": {
        "executor", "airflowVersion", "images", "data", "fernetKeySecretName", "apiSecretKeySecretName",
        "jwtSecretName", "secret", "env", "config", "migrateDatabaseJob", "workers", "postgresql", "redis",
    },
    "images": {"airflow"},
    "images.airflow": {"repository", "tag"},
    "data": {"metadataSecretName", "brokerUrlSecretName"},
    "migrateDatabaseJob": {"args"},
    "workers": {"replicas", "terminationGracePeriodSeconds", "resources", "safeToEvict"},
    "workers.resources": {"requests", "limits"},
    "postgresql": {"enabled"},
    "redis": {"enabled"},
}  # fmt: skip


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_every_key_is_the_charts(values: dict[str, Any]) -> None:
    for where, known in KNOWN.items():
        found: Any = values
        for part in filter(None, where.split(".")):
            found = found.get(part, {})
        assert set(found) <= known, where


def test_every_airflow_option_exists(values: dict[str, Any]) -> None:
    """`config` becomes airflow.cfg, where a misspelt option does nothing."""
    from airflow.configuration import conf

    described = conf.configuration_description
    unknown = [
        f"{section}.{option}"
        for section, options in values["config"].items()
        if section != "kubernetes_executor"  # of a provider that is installed in that deployment only
        for option in options
        if option not in described.get(section, {}).get("options", {})
    ]
    assert unknown == []


def test_secrets_are_names_of_secrets(values: dict[str, Any]) -> None:
    names = {entry["envName"] for entry in values["secret"]}
    assert names == {"AIRFLOW_CONN_CATALOG_DEFAULT", "AIRFLOW_CONN_AWS_DEFAULT"}
    assert all(set(entry) == {"envName", "secretName", "secretKey"} for entry in values["secret"])
    assert not re.search(r"(?i)password: \S|://\w+:\w+@", yaml.safe_dump(values))


def test_settings_in_the_environment_are_ours(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from include.pipeline.settings import load_settings

    for entry in values["env"]:
        assert set(entry) == {"name", "value"}
        assert isinstance(entry["value"], str)
        monkeypatch.setenv(entry["name"], entry["value"])
    assert load_settings().required_bucket == "my-proxies"


def test_it_runs_the_version_that_is_locked(values: dict[str, Any]) -> None:
    requirements = (ROOT / "requirements.txt").read_text()
    version = re.findall(r"^apache-airflow(?:\[\w+\])?==(\S+)", requirements, re.MULTILINE)[0]
    assert values["airflowVersion"] == values["images"]["airflow"]["tag"] == version


def test_a_stopping_worker_may_end_its_batch(values: dict[str, Any]) -> None:
    assert values["workers"]["terminationGracePeriodSeconds"] >= 600
    if values["executor"] == "CeleryExecutor":
        slots = values["workers"]["replicas"] * values["config"]["celery"]["worker_concurrency"]
        assert values["config"]["core"]["parallelism"] <= slots


def test_the_job_prepares_the_catalog_and_the_pool(values: dict[str, Any]) -> None:
    command = values["migrateDatabaseJob"]["args"][-1]
    assert all(part in command for part in ("airflow db migrate", "pools set nova", "scripts.prepare_deployment"))
