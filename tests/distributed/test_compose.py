"""docker-compose.yaml against the compose specification, and against rules of our own. No Docker, no server."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_pydantic import ComposeSpecification
from pydantic import ValidationError

from include.pipeline.settings import load_settings
from scripts.make_env import filled
from scripts.make_env import main as make_env
from tests.airflow_options import unknown_variables
from tests.distributed.compose import (
    ROOT,
    MissingVariable,
    image_content,
    interpolate,
    read_env_file,
    read_services,
)

TEXT = (ROOT / "docker-compose.yaml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
AIRFLOW = ("init", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "nova-stand-in")
PINNED = re.compile(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?$")


SETTINGS_FILE = {"path": "./settings.env", "required": False}


def specified(text: str) -> ComposeSpecification:
    """Validate; the model does not know extension fields, which the specification allows at the top.

    Nor does it know the long form of an env_file, which the specification has since 2024: `SETTINGS_FILE` is all that
    is used of it, and is given to the model as a path.
    """
    content = {name: value for name, value in yaml.safe_load(text).items() if not name.startswith("x-")}
    for service in content["services"].values():
        if service.get("env_file") == [SETTINGS_FILE]:
            service["env_file"] = [SETTINGS_FILE["path"]]
    return ComposeSpecification.model_validate(content)


def test_it_is_a_compose_file() -> None:
    assert set(specified(TEXT).services or {}) == set(SERVICES)


def test_the_check_would_find_a_mistake() -> None:
    with pytest.raises(ValidationError, match="heathcheck"):
        specified(TEXT.replace("    healthcheck:", "    heathcheck:", 1))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_without_root_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    user, _, group = str(service["user"]).partition(":")
    assert int(user) > 0
    assert group.isdigit()
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"init"}))
def test_a_service_is_watched_and_started_again(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    assert PINNED.match(SERVICES[name]["image"])


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/seaweedfs/Dockerfile"])
def test_a_base_image_is_pinned(path: str) -> None:
    (base,) = re.findall(r"^FROM (\S+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert re.match(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-python3\.11)?$", base)
    assert re.findall(r"^USER (\d+):\d+$", (ROOT / path).read_text(), re.MULTILINE)[-1] != "0"


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/seaweedfs/Dockerfile"])
def test_a_dockerfile_has_no_lint(path: str) -> None:
    program = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([program, ROOT / path], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_an_image_of_our_own_is_built_by_one_service() -> None:
    """Compose builds all at once: the second of two that write the same new tag fails with "already exists"."""
    own = {service["image"] for service in SERVICES.values() if service["image"].startswith("image-proxy-")}
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(built) == sorted(own)
    assert "build" in SERVICES["init"]  # which every profile has, and which all others of Airflow wait for


def test_a_folder_for_the_objects_is_made_by_root() -> None:
    """The base image may end with any user; what follows the RUN is who runs."""
    words = re.findall(r"^(FROM|USER|RUN) (\S+)", (ROOT / "deploy/seaweedfs/Dockerfile").read_text(), re.MULTILINE)
    assert [word for word, _ in words] == ["FROM", "USER", "RUN", "USER"]
    assert words[1] == ("USER", "0:0")


def test_the_api_server_may_open_its_passwords_for_writing() -> None:
    """The simple auth manager opens the file with "a+" at each start and "r+" at each login, though it only reads."""
    path = Path(SERVICES["api-server"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    mounts = [volume.split(":") for volume in SERVICES["api-server"]["volumes"]]
    (holding,) = [mount for mount in mounts if Path(mount[1]) == path.parent]
    assert "ro" not in holding[2:]


def test_the_database_is_healthy_only_when_others_reach_it() -> None:
    """On its socket it answers while it still makes the databases, and is stopped once more after that."""
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert check[check.index("--host") + 1] == "127.0.0.1"


def test_airflows_version_is_the_same_everywhere() -> None:
    requirements = (ROOT / "requirements.txt").read_text()
    (version,) = re.findall(r"^apache-airflow(?:\[\w+\])?==(\S+)", requirements, re.MULTILINE)
    assert f"apache/airflow:{version}-python3.11" in (ROOT / "Dockerfile").read_text()
    assert {SERVICES[name]["image"].rpartition(":")[2] for name in AIRFLOW} == {version}


def test_only_the_ui_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api-server"}
    assert all(port.startswith("127.0.0.1:") for port in published["api-server"])


def test_workers_scale() -> None:
    """A name or a port of its own could be had by one container only."""
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])
    assert SERVICES["worker"]["stop_grace_period"] == "10m"


@pytest.mark.parametrize("name", ["scheduler", "triggerer", "worker"])
def test_no_component_serves_its_logs(name: str) -> None:
    assert "--skip-serve-logs" in SERVICES[name]["command"]


def test_no_secret_is_written_down() -> None:
    """Every value that is one comes from .env, has no default, and says how to make it."""
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD$|SECRET|_KEY(_ID)?$|CONN|BROKER_URL|RESULT_BACKEND", name):
                variables = re.findall(r"\$\{(\w+)(:?[-?])?([^}]*)\}", str(value))
                assert variables, f"{name} is a literal"
                for variable, rule, word in variables:
                    optional = variable in ("S3_ACCESS_KEY", "S3_SECRET_KEY") and (rule, word) == (":-", "")
                    assert optional or (rule == ":?" and word), f"{name}: {variable} has a default"


def test_the_example_holds_no_secret_and_starts_nothing() -> None:
    with pytest.raises(MissingVariable, match="make_env"):
        read_services(TEXT, read_env_file(EXAMPLE))


def test_a_made_env_file_fills_in_everything_and_differs_each_time() -> None:
    first, second = read_env_file(filled(EXAMPLE)), read_env_file(filled(EXAMPLE))
    services = read_services(TEXT, first)
    assert not [value for service in services.values() for value in service.environment.values() if "${" in value]
    secrets = {name for name in first if name.endswith(("PASSWORD", "KEY", "SECRET"))}
    assert len(secrets) == 9
    assert not [name for name in secrets if first[name] == second[name] or len(first[name]) < 32]


def test_make_env_writes_a_private_file_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.make_env", str(tmp_path / ".env")]
    codes = [subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode for _ in range(2)]
    assert codes == [0, 1]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_make_env_says_where_it_cannot_write_and_takes_no_option_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_env([str(tmp_path / "no folder" / ".env")]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    for options in (["--help"], ["--force"], [".env", "another"]):
        with pytest.raises(SystemExit):
            make_env(options)
    assert list(tmp_path.iterdir()) == []


def test_every_variable_of_the_file_is_explained_in_the_example() -> None:
    used = {found[1] for found in re.finditer(r"(?<!\$)\$\{(\w+)", TEXT)}
    assert used <= set(re.findall(r"^(?:# )?(\w+)=", EXAMPLE, re.MULTILINE)) | {"STAND_IN_LATENCY_MS"}


def test_every_setting_is_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = read_services(TEXT, read_env_file(filled(EXAMPLE)))["worker"]
    for name, value in worker.environment.items():
        if name.startswith("IMAGE_PROXY_"):
            monkeypatch.setenv(name, value)
    assert load_settings().required_bucket == "image-proxies"


def test_the_operators_settings_reach_airflow_and_nothing_else() -> None:
    with_them = {name for name, service in SERVICES.items() if service.get("env_file")}
    assert with_them == set(AIRFLOW) - {"nova-stand-in"}
    assert all(SERVICES[name]["env_file"] == [SETTINGS_FILE] for name in with_them)


@pytest.mark.parametrize("name", [".env", "settings.env"])
def test_what_a_person_writes_there_is_neither_committed_nor_built_into_an_image(name: str) -> None:
    assert name in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert f"!{name}" not in ignored


def test_the_settings_in_the_example_are_ones_and_reach_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docker-compose.yaml sets itself would win over them."""
    shown = dict(re.findall(r"^#   (\w+)=(.+)$", EXAMPLE, re.MULTILINE))
    assert {"AIRFLOW__METRICS__STATSD_ON", "AIRFLOW__CORE__AUTH_MANAGER"} <= set(shown)
    assert unknown_variables(shown) == []
    assert not set(shown) & set(SERVICES["worker"]["environment"])
    for name, value in shown.items():
        if name.startswith("IMAGE_PROXY_"):
            monkeypatch.setenv(name, value)
    assert load_settings().max_cost_usd_per_day == 50


def test_every_airflow_option_exists() -> None:
    """A misspelt one does nothing, and no component says so."""
    names = {name for service in SERVICES.values() for name in service["environment"]}
    assert len([name for name in names if name.startswith("AIRFLOW__")]) > 20
    assert unknown_variables(names) == []
    assert unknown_variables(["AIRFLOW__CORE__EXECUTORS", "AIRFLOW__CORE__EXECUTOR"]) == ["core.executors"]


def test_the_image_holds_what_the_repository_needs_to_run() -> None:
    copies, environment = image_content((ROOT / "Dockerfile").read_text())
    assert {source for source, _ in copies} == {"dags", "plugins", "include", "scripts"}
    assert environment == {"PYTHONPATH": "/opt/airflow"}
    allowed = (ROOT / ".dockerignore").read_text()
    assert all(f"!{source}\n" in allowed for source, _ in copies)


def test_interpolation_follows_the_specification() -> None:
    given = {"A": "a", "EMPTY": ""}
    assert interpolate("$A ${A} $${A} ${EMPTY:-x} ${EMPTY-x} ${NONE:-y} ${NONE}", given) == "a a ${A} x  y "
    with pytest.raises(MissingVariable, match="say why"):
        interpolate("${EMPTY:?say why}", given)
    assert interpolate("${EMPTY?say why}", given) == ""


def test_the_catalogs_password_opens_nothing_of_airflows() -> None:
    script = (ROOT / "deploy" / "postgres" / "10-catalog.sh").read_text()
    assert "OWNER images" in script
    assert os.access(ROOT / "deploy" / "postgres" / "10-catalog.sh", os.R_OK)
    catalog = SERVICES["worker"]["environment"]["AIRFLOW_CONN_CATALOG_DEFAULT"]
    assert "CATALOG_PASSWORD" in catalog
    assert "POSTGRES_PASSWORD" not in catalog
