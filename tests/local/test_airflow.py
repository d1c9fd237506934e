"""The laptop's Airflow: its options, and its client against a server that answers as a busy SQLite makes Airflow do."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from include.local import airflow
from include.local.airflow import AirflowHome, AirflowTransport
from tests.airflow_options import unknown_variables
from tests.answering import Asked, answering

REFUSED = (500, b'{"detail": {"reason": "Database error", "message": "Serious error when handling your request."}}')
OTHER = (500, b'{"detail": "Internal Server Error"}')
DONE = (200, b'{"dag_run_id": "manual"}')


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow, "_PAUSES", (0.01, 0.01))


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, transport=AirflowTransport())


def test_what_the_database_refused_is_asked_again_word_for_word() -> None:
    with answering(REFUSED, REFUSED, DONE) as server, client(server.url) as airflow_client:
        answer = airflow_client.post("/dags/a/dagRuns", json={"conf": {"limit": 1}})
    assert (answer.status_code, answer.json()) == (200, {"dag_run_id": "manual"})
    assert server.asked == [Asked("POST", "/dags/a/dagRuns", b'{"conf":{"limit":1}}')] * 3


def test_a_database_that_goes_on_refusing_is_said_in_its_own_words() -> None:
    with answering(REFUSED) as server, client(server.url) as airflow_client:
        answer = airflow_client.get("/pools")
    assert (answer.status_code, len(server.asked)) == (500, 3)
    assert answer.json()["detail"]["reason"] == "Database error"


@pytest.mark.parametrize("said", [OTHER, (409, b"{}"), (503, b"Database error")])
def test_nothing_else_is_asked_again(said: tuple[int, bytes]) -> None:
    """It may have been done."""
    with answering(said) as server, client(server.url) as airflow_client:
        assert airflow_client.post("/backfills", json={}).status_code == said[0]
    assert len(server.asked) == 1


def test_every_option_that_a_laptop_sets_exists(tmp_path: Path) -> None:
    """A misspelt one does nothing, and no component says so."""
    environment = AirflowHome(tmp_path).environment({}, "bucket")
    assert unknown_variables(environment) == []
