"""Who is told, of what, and of what not: the callbacks that the DAG processor and the triggerer call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.sdk import DAG, BaseNotifier
from image_proxy.notifications import check_notifier, late_alert, tell_failure, tell_late
from image_proxy.schedules import hourly_or_on_upload

from include.pipeline.settings import SettingsError, load_settings

TOLD: list[tuple[str, str]] = []
HERE = __name__


class Blocking(BaseNotifier):
    """A notifier that knows the blocking way only, like many."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        TOLD.append(("blocking", self.text))


class Awaited(Blocking):
    """One that can be awaited."""

    async def async_notify(self, context: Any) -> None:
        TOLD.append(("awaited", self.text))


@pytest.fixture(autouse=True)
def nobody_told() -> None:
    TOLD.clear()


def configure(monkeypatch: pytest.MonkeyPatch, notifier: type, text: str = "{{ event }}: {{ run_id }}") -> None:
    monkeypatch.setenv("IMAGE_PROXY_NOTIFIER", f"{HERE}.{notifier.__name__}")
    monkeypatch.setenv("IMAGE_PROXY_NOTIFIER_KWARGS", json.dumps({"text": text}))
    monkeypatch.setattr("airflow.sdk.module_loading.import_string", lambda path: globals()[path.rpartition(".")[2]])


def late(state: str = "running", run_type: str = "scheduled") -> dict[str, Any]:
    run = {"dag_id": "image_proxy_pipeline", "dag_run_id": "run 1", "state": state, "run_type": run_type}
    return {"dag_run": run, "deadline": {"id": "1", "deadline_time": "2026-11-01T00:00:00Z"}}


@pytest.mark.parametrize(("notifier", "way"), [(Blocking, "blocking"), (Awaited, "awaited")])
def test_a_late_run_is_told_of_through_any_notifier(monkeypatch: pytest.MonkeyPatch, notifier: type, way: str) -> None:
    configure(monkeypatch, notifier)
    asyncio.run(tell_late(late()))
    assert [*TOLD] == [(way, "late: run 1")]


@pytest.mark.parametrize(
    ("state", "run_type"), [("success", "scheduled"), ("failed", "scheduled"), ("queued", "backfill")]
)
def test_it_is_quiet_when_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch, state: str, run_type: str) -> None:
    configure(monkeypatch, Awaited)
    asyncio.run(tell_late(late(state, run_type)))
    assert TOLD == []


def test_a_failure_says_where_and_links_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, Blocking, "{{ subject }} / {{ message }}")
    context: Any = {
        "dag": DAG("image_proxy_pipeline", schedule=None),
        "run_id": "manual__2026-11-01T00:00:00+00:00",
        "reason": "task_failure",
    }
    tell_failure(context)
    [(_, text)] = TOLD
    assert text.startswith("image_proxy_pipeline: a run failed / The run manual__2026-11-01T00:00:00+00:00 of")
    assert text.endswith("/dags/image_proxy_pipeline/runs/manual__2026-11-01T00%3A00%3A00%2B00%3A00")


def test_a_wrong_setting_is_told_of_and_leaves_the_schedule_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns every run red, so it must not silence the message that says so."""
    configure(monkeypatch, Blocking)
    monkeypatch.setenv("IMAGE_PROXY_SCHEDULE", "15 3 * * *")
    monkeypatch.setenv("IMAGE_PROXY_KEEP_ORIGINAL", "perhaps")
    with pytest.raises(SettingsError):
        load_settings()
    context: Any = {"dag": DAG("image_proxy_pipeline", schedule=None), "run_id": "run 1"}
    tell_failure(context)
    assert [*TOLD] == [("blocking", "failed: run 1")]
    assert late_alert() is not None
    assert hourly_or_on_upload().timetable.expression == "15 3 * * *"


def test_without_a_notifier_nothing_happens() -> None:
    asyncio.run(tell_late(late()))
    context: Any = {"dag": DAG("image_proxy_pipeline", schedule=None), "run_id": "run 1"}
    tell_failure(context)
    assert late_alert() is None


@pytest.mark.parametrize(
    ("notifier", "kwargs", "said"),
    [
        ("no.such.Notifier", {}, "cannot be made"),
        ("airflow.providers.http.notifications.HttpNotifier", {"http_con": "alerts"}, "cannot be made"),
        ("pathlib.Path", {}, "is not an Airflow notifier"),
    ],
)
def test_a_notifier_that_cannot_be_made_is_named(notifier: str, kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=rf"IMAGE_PROXY_NOTIFIER '{notifier}' {said}"):
        check_notifier(load_settings(notifier=notifier, notifier_kwargs=kwargs))
