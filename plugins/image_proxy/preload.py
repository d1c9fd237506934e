"""What the tasks of a run import, imported once by the process that forks them.

Each task is a process of its own. What its parent had imported is in its memory at once; the rest it imports by itself,
and that was three quarters of the 0.9 s of CPU of a task that only asks the catalog. Airflow's Celery provider does the
same for modules of Airflow's own (`on_celery_import_modules`).

LocalExecutor forks from the scheduler, which calls `PreloadListener`; Celery's workers are told by
`image_proxy.celery_config`. Under the Kubernetes executor each task starts in a pod: nothing is shared there. Python
imports a module once a process, so a new version of this package needs these processes started anew.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from airflow.listeners import hookimpl
from airflow.sdk import conf

log = logging.getLogger(__name__)

# Nothing here opens a connection, starts a thread or reads a setting when it is imported: a fork would share it.
MODULES = (
    # What runs a task imports these with its first one, in each process of a Celery worker's pool.
    "airflow.models.dagbag",
    "airflow.models.serialized_dag",
    "airflow.sdk.execution_time.coordinator",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.decorators.python",  # behind `airflow.sdk.dag`
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.sqlite.hooks.sqlite",
    "airflow.providers.postgres.hooks.postgres",
    "boto3.s3.inject",
    "image_proxy.announcements",
    "image_proxy.hooks.catalog",
    "image_proxy.hooks.nova",
    "image_proxy.notifications",
    "image_proxy.operators",
    "image_proxy.params",
    "image_proxy.schedules",
    "image_proxy.slots",
    "image_proxy.task_defaults",
    "image_proxy.telemetry",
    "include.catalog.adoption",
    "include.catalog.catalog",
    "include.catalog.schema_version",
    "include.pipeline.analysis",
    "include.pipeline.backlog",
    "include.pipeline.gate",
    "include.pipeline.news",
    "include.pipeline.plan",
    "include.pipeline.proxies",
    "include.pipeline.region",
    "include.pipeline.summary",
    "include.storage.errors",
    "include.storage.region",
)


class PreloadListener:
    """Called when a component of Airflow starts, before a scheduler's LocalExecutor forks its workers."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Import for the tasks, in a scheduler that runs them itself."""
        is_task = type(component).__name__ == "TaskRunnerMarker"  # its parent has imported for it
        if not is_task and forks_tasks():
            preload()


def forks_tasks() -> bool:
    """Return whether tasks are forked from this process; Airflow asks before the component knows its own kind."""
    schedules = "airflow.jobs.scheduler_job_runner" in sys.modules
    return schedules and "LocalExecutor" in conf.get("core", "executor")


def preload(modules: Iterable[str] = MODULES) -> None:
    """Import modules; one that cannot be is left to the tasks that need it, where a person reads why."""
    started = time.process_time()
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            log.warning("%s cannot be imported ahead of the tasks: %s", module, error)
    # A hook for AWS looks at the stack to say who calls. Python then resolves every module's file, and remembers it.
    with suppress(Exception):  # then each task learns it by itself
        inspect.stack()
    log.info("imported ahead of the tasks what they need, in %.1f s of CPU", time.process_time() - started)
