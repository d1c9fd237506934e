"""Who is told when a run fails or is late: the notifier that the deployment configures, whichever that is.

Any Airflow notifier class does (HTTP, SMTP, Slack, SNS...): ``IMAGE_PROXY_NOTIFIER`` names it, and
``IMAGE_PROXY_NOTIFIER_KWARGS`` holds its arguments as JSON. They are templated: ``{{ subject }}``, ``{{ message }}``,
``{{ dag_id }}``, ``{{ run_id }}``, ``{{ event }}`` (late or failed) and ``{{ url }}`` (the run's page).

The failure callback runs in the DAG processor, the deadline's in the triggerer: both import this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import AsyncCallback, BaseNotifier, DeadlineAlert, conf

from image_proxy.deadlines import RunCreated
from include.pipeline.settings import Settings, SettingsError, usable_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

OVER = ("success", "failed")


def tell_failure(context: Context) -> None:
    """Tell that a run failed. Airflow calls it once per failed run, in the DAG processor."""
    run: Any = context.get("dag_run")
    run_id = str(context.get("run_id") or run.run_id)
    dag_id = context["dag"].dag_id
    task: Any = context.get("task_instance")
    where = f" in the task {task.task_id}" if task is not None else ""
    message = f"The run {run_id} of {dag_id} failed{where} ({context.get('reason', 'no reason given')})."
    notifier = _notifier(usable_settings())
    if notifier is None:
        log.info("no notifier is set (IMAGE_PROXY_NOTIFIER): %s", message)
        return
    notifier({**context, **_words("failed", dag_id, run_id, message)})  # type: ignore[arg-type]


async def tell_late(context: Mapping[str, Any]) -> None:
    """Tell that a run is late. Airflow calls it in the triggerer, when the deadline of a run has passed.

    It stays quiet about a run that is over (a failed one has been told of already), and about a backfill's run that
    waits its turn, for its backfill starts only so many at a time.
    """
    run = context["dag_run"]
    dag_id, run_id, state = run["dag_id"], run["dag_run_id"], run["state"]
    if state in OVER or (run["run_type"] == "backfill" and state == "queued"):
        log.info("%s is %s: not late", run_id, state)
        return
    settings = await asyncio.to_thread(usable_settings)
    after = timedelta(seconds=round(settings.late_after_seconds))
    message = f"The run {run_id} of {dag_id} is late: it is still {state} {after} after it was created."
    notifier = _notifier(settings)
    if notifier is None:
        log.info("no notifier is set (IMAGE_PROXY_NOTIFIER): %s", message)
        return
    told: Any = {**context, **_words("late", dag_id, run_id, message)}
    if type(notifier).async_notify is BaseNotifier.async_notify:  # it knows the blocking way only
        await asyncio.to_thread(notifier, told)
    else:
        notifier.context = told
        await notifier


def late_alert() -> DeadlineAlert | None:
    """Return the deadline of a run, counted from its creation.

    None where there is nobody to tell. Airflow 3.3.2 does not end a `dags test` of a DAG that has a deadline, so one
    that does nothing is better left out.
    """
    settings = usable_settings()
    if settings.notifier is None:
        return None
    interval = timedelta(seconds=settings.late_after_seconds)
    return DeadlineAlert(RunCreated(), interval, AsyncCallback(tell_late), name="late")


def check_notifier(settings: Settings) -> None:
    """Raise `SettingsError` when the configured notifier cannot be made, so that nobody learns it when it is needed."""
    _notifier(settings)


def _notifier(settings: Settings) -> BaseNotifier | None:
    if settings.notifier is None:
        return None
    from airflow.sdk.module_loading import import_string

    try:
        made = import_string(settings.notifier)(**settings.notifier_kwargs)
    except (ImportError, AttributeError, TypeError) as error:
        raise SettingsError(f"IMAGE_PROXY_NOTIFIER {settings.notifier!r} cannot be made: {error}") from error
    if not isinstance(made, BaseNotifier):
        raise SettingsError(f"IMAGE_PROXY_NOTIFIER {settings.notifier!r} is not an Airflow notifier")
    return made


def _words(event: str, dag_id: str, run_id: str, message: str) -> dict[str, str]:
    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    url = f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"
    return {
        "event": event,
        "subject": f"{dag_id}: a run {'is late' if event == 'late' else 'failed'}",
        "message": f"{message} {url}",
        "dag_id": dag_id,
        "run_id": run_id,
        "url": url,
    }
