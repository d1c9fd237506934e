"""The values files of the official chart, held against what its own schema says of every value that they set.

`CHART` was read by hand from chart/values.schema.json of apache/airflow at commit 002e5532 (the chart for Airflow 3.0);
what moved below `workers.celery` and `workers.kubernetes` since, from the release notes of the charts 1.20.0 to 1.22.0
and the pull requests 59730, 61890, 61892 and 61915; `createUserJob.enabled` from 56057. The schema
refuses unknown keys nearly everywhere, so this does; what the templates make of the values it does not tell. Nor does
it find what is wrong in `CHART` and in a file alike: that takes the chart itself (docs/deployment.md, `helm template`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.airflow_options import unknown_options
from tests.distributed.compose import ROOT

FILES = sorted((ROOT / "deploy" / "helm").glob("values-*.yaml"))
CHART_VERSION = "1.22.0"
QUANTITY = (int, str)
CHART: dict[str, Any] = {
    "executor": re.compile(r"([A-Za-z_][A-Za-z0-9_.]*\.)?[A-Z][A-Za-z0-9]+Executor"),
    "airflowVersion": str,
    "images": {"airflow": {"repository": str, "tag": str}},
    "data": {"metadataSecretName": str, "brokerUrlSecretName": str},
    "fernetKeySecretName": str,
    "apiSecretKeySecretName": str,
    "jwtSecretName": str,
    "secret": [{"envName": str, "secretName": str, "secretKey": str}],
    "env": [{"name": str, "value": str}],  # nothing else, so no valueFrom
    "config": {"*": {"*": (bool, int, float, str)}},
    "migrateDatabaseJob": {"args": [str]},
    "createUserJob": {"enabled": bool},
    "workers": {
        "celery": {"replicas": int, "terminationGracePeriodSeconds": int, "resources": {"*": {"*": QUANTITY}}},
        "kubernetes": {
            "terminationGracePeriodSeconds": int,
            "safeToEvict": bool,
            "resources": {"*": {"*": QUANTITY}},
        },
    },
    "postgresql": {"enabled": bool},
    "redis": {"enabled": bool},
}
# Each worker has a section of its own since the chart 1.21; above them the same keys are deprecated.
WORKERS = {"CeleryExecutor": "celery", "KubernetesExecutor": "kubernetes"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_every_value_is_one_that_the_chart_takes(values: dict[str, Any]) -> None:
    assert list(_refused(values, CHART, "")) == []


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"worker": {}}, ".worker"),
        ({"workers": {"replicas": 4}}, ".workers.replicas"),
        ({"env": [{"name": "A", "value": 2}]}, ".env.0.value"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, ".env.0.valueFrom"),
        ({"redis": {"enabled": "false"}}, ".redis.enabled"),
        ({"workers": {"celery": {"replicas": True}}}, ".workers.celery.replicas"),
        ({"executor": "Celery"}, ".executor"),
    ],
)
def test_a_misspelt_key_or_a_wrong_type_shows(wrong: dict[str, Any], where: str) -> None:
    assert list(_refused(wrong, CHART, "")) == [where]


def _refused(value: Any, wanted: Any, where: str) -> Iterator[str]:
    """The places where the chart's schema would refuse a value."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        for key, inner in value.items():
            if key in wanted or "*" in wanted:
                yield from _refused(inner, wanted.get(key, wanted.get("*")), f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif isinstance(wanted, list) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _refused(inner, wanted[0], f"{where}.{number}")
    elif not _fits(value, wanted):
        yield where


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.fullmatch(value) is not None
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    return type(value) in kinds  # exactly: a bool is an int to Python, not to a schema


def test_only_the_executors_own_workers_are_set(values: dict[str, Any]) -> None:
    assert set(values["workers"]) == {WORKERS[values["executor"]]}


def test_every_airflow_option_exists(values: dict[str, Any]) -> None:
    """`config` becomes airflow.cfg, where a misspelt option does nothing."""
    known_elsewhere = "kubernetes_executor"  # of a provider that is installed in that deployment only
    options = [(section, option) for section, given in values["config"].items() for option in given]
    assert unknown_options(pair for pair in options if pair[0] != known_elsewhere) == []


def test_secrets_are_names_of_secrets(values: dict[str, Any]) -> None:
    names = {entry["envName"] for entry in values["secret"]}
    assert names == {"AIRFLOW_CONN_CATALOG_DEFAULT", "AIRFLOW_CONN_AWS_DEFAULT"}
    assert all(set(entry) == {"envName", "secretName", "secretKey"} for entry in values["secret"])
    assert not re.search(r"(?i)password: \S|://\w+:\w+@", yaml.safe_dump(values))


def test_no_user_is_made_whose_password_everybody_knows(values: dict[str, Any]) -> None:
    """Left alone, the chart makes an administrator "admin" with the password "admin"."""
    assert values["createUserJob"] == {"enabled": False}


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


@pytest.mark.parametrize("path", [*FILES, ROOT / "docs" / "deployment.md"], ids=lambda path: path.name)
def test_the_chart_that_is_named_is_the_one_that_was_read(path: Path) -> None:
    assert set(re.findall(r"--version (\S+)", path.read_text())) == {CHART_VERSION}


def test_a_stopping_worker_may_end_its_batch(values: dict[str, Any]) -> None:
    workers = values["workers"][WORKERS[values["executor"]]]
    assert workers["terminationGracePeriodSeconds"] >= 600
    if values["executor"] == "CeleryExecutor":
        slots = workers["replicas"] * values["config"]["celery"]["worker_concurrency"]
        assert values["config"]["core"]["parallelism"] <= slots


def test_the_job_prepares_the_catalog_and_the_pool(values: dict[str, Any]) -> None:
    command = values["migrateDatabaseJob"]["args"][-1]
    assert all(part in command for part in ("airflow db migrate", "pools set nova", "scripts.prepare_deployment"))


def test_the_pools_size_is_the_operators(values: dict[str, Any]) -> None:
    """Each upgrade runs the job again: a number in its command would undo what an operator set."""
    command = values["migrateDatabaseJob"]["args"][-1]
    (slots,) = re.findall(r"airflow pools set nova (\S+)", command)
    assert slots == '"${NOVA_POOL_SLOTS:?}"'
    assert int(environment(values)["NOVA_POOL_SLOTS"]) >= int(environment(values)["IMAGE_PROXY_NOVA_CONCURRENCY"])


def test_a_worker_asks_for_the_cores_that_its_decode_processes_use(values: dict[str, Any]) -> None:
    """Asking for fewer, the cluster puts so many workers on a node that they take turns."""
    tasks = values["config"]["celery"]["worker_concurrency"] if values["executor"] == "CeleryExecutor" else 1
    processes = tasks * int(environment(values)["IMAGE_PROXY_WORKERS"])
    resources = values["workers"][WORKERS[values["executor"]]]["resources"]
    assert int(resources["requests"]["cpu"]) == processes
    assert int(resources["limits"]["memory"].removesuffix("Gi")) > 2 * processes


def environment(values: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in values["env"]}
