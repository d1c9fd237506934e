"""The wait before a retry is a setting, read when the DAG is parsed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from image_proxy.task_defaults import task_retries


def test_the_setting_is_the_first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_RETRY_SECONDS", "3")
    assert task_retries()["retry_delay"] == timedelta(seconds=3)


def test_a_wrong_setting_does_not_keep_the_dag_from_being_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_RETRY_SECONDS", "soon")
    assert task_retries() == {"retries": 2, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True}
