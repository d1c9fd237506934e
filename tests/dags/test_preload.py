"""What tasks import is imported once, by the process that forks them; and by no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dags.conftest import Deployment, photograph

ROOT = Path(__file__).resolve().parents[2]
STARTS = "from image_proxy.preload import PreloadListener; PreloadListener().on_starting(component=None)"
WORKER = "from airflow.providers.celery.executors.celery_executor_utils import app; app.loader.import_default_modules()"
# All of it in a process of its own: here, everything has long been imported. `dag.test` parses the other DAGs as well.
RUN = """
import sys
import image_proxy_plugin
from image_proxy.preload import preload

def tell(what, before):
    ours = ("image_proxy.", "include.", "boto3", "botocore", "airflow.providers.amazon", "airflow.providers.common.sql")
    print("LATER", what, *sorted(name for name in set(sys.modules) - before if name.startswith(ours)))
    return set(sys.modules)

preload()
before = set(sys.modules)
sys.path.append(sys.argv[1])
import image_proxy_pipeline
tell("parsing", before)
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["image_proxy_pipeline"]
before = set(sys.modules)
print("STATE", str(dag.test().state))
tell("running", before)
"""


def run_python(code: str, *arguments: str, **environment: str) -> str:
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def loaded(code: str, **environment: str) -> set[str]:
    found = run_python(f"{code}; import sys; print('LOADED', *sys.modules)", **environment)
    (line,) = [line for line in found.splitlines() if line.startswith("LOADED")]
    return set(line.split())


def test_a_run_imports_nothing_that_was_not_imported_before(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    deployment.register()
    said = run_python(RUN, str(ROOT / "dags"))
    assert "STATE success" in said, said
    assert [line for line in said.splitlines() if line.startswith("LATER")] == ["LATER parsing", "LATER running"]


@pytest.mark.parametrize(
    ("component", "executor", "preloads"),
    [
        ("scheduler_job_runner", "LocalExecutor", True),
        ("scheduler_job_runner", "CeleryExecutor,LocalExecutor", True),
        ("scheduler_job_runner", "CeleryExecutor", False),
        ("triggerer_job_runner", "LocalExecutor", False),
        ("dag_processor_job_runner", "LocalExecutor", False),
    ],
)
def test_a_scheduler_that_forks_tasks_imports_for_them(component: str, executor: str, preloads: bool) -> None:
    code = f"import airflow.jobs.{component}; {STARTS}"
    assert ("include.pipeline.proxies" in loaded(code, AIRFLOW__CORE__EXECUTOR=executor)) is preloads


def test_a_task_that_a_scheduler_forked_imports_nothing_again() -> None:
    """It would say so in each task's log."""
    starts = STARTS.replace("component=None", "component=TaskRunnerMarker()")
    marker = "from airflow.sdk.execution_time.task_runner import TaskRunnerMarker"
    code = f"{marker}; import airflow.jobs.scheduler_job_runner; {starts}"
    assert "include.pipeline.proxies" not in loaded(code, AIRFLOW__CORE__EXECUTOR="LocalExecutor")


def test_a_celery_worker_imports_before_it_forks() -> None:
    chosen = {"AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "image_proxy.celery_config.CELERY_CONFIG"}
    found = loaded(WORKER, AIRFLOW__CORE__EXECUTOR="CeleryExecutor", **chosen)
    assert {"include.pipeline.proxies", "airflow.sdk.execution_time.supervisor"} <= found
    assert "include.pipeline.proxies" not in loaded(WORKER, AIRFLOW__CORE__EXECUTOR="CeleryExecutor")


def test_what_cannot_be_imported_keeps_nothing_from_starting() -> None:
    said = run_python("from image_proxy.preload import preload; preload(['no.such', 'include.pipeline.plan'])")
    assert "no.such cannot be imported ahead of the tasks" in said


def test_what_pythons_inspect_learns_of_modules_is_learnt_before_the_fork() -> None:
    """The AWS hook asks it who calls, and it looks at all modules: a fifth of a task's start."""
    learnt = run_python(
        "from image_proxy.preload import preload; preload(); import inspect; print(*inspect.modulesbyfile.values())"
    )
    assert "include.pipeline.proxies" in learnt.split()
