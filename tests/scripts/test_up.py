"""What `make up` asks of Airflow's REST API, against a real HTTP server that answers as Airflow does in trouble."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.console import Console

from scripts import up
from tests.answering import answering

NOT_FOUND, LOCKED, OK, FORBIDDEN = (404, b"{}"), (500, b"{}"), (200, b"{}"), (403, b"{}")
IMPORT_ERRORS = (200, b'{"import_errors": [{"stack_trace": "no module named cats"}]}')


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "POLL_SECONDS", 0.01)


def test_a_dag_that_airflows_database_was_too_busy_for_is_unpaused_all_the_same() -> None:
    """It would stay paused, and each of its runs queued, without a word."""
    with answering(NOT_FOUND, LOCKED, OK) as server, httpx.Client(base_url=server.url) as client:
        up.unpause(client, ("a_dag", "another"))
    assert [request.path for request in server.asked] == ["/dags/a_dag"] * 3 + ["/dags/another"]


@pytest.mark.parametrize("trouble", [NOT_FOUND, LOCKED])
def test_a_dag_that_cannot_be_unpaused_in_time_is_named_with_the_import_errors(
    trouble: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "PARSE_SECONDS", -1.0)
    with (
        answering(trouble, IMPORT_ERRORS) as server,
        httpx.Client(base_url=server.url) as client,
        pytest.raises(up.DagsMissing, match=rf"a_dag .*{trouble[0]}.*no module named cats"),
    ):
        up.unpause(client, ("a_dag",))


def test_a_refusal_is_not_repeated() -> None:
    with (
        answering(FORBIDDEN) as server,
        httpx.Client(base_url=server.url) as client,
        pytest.raises(httpx.HTTPStatusError, match="403"),
    ):
        up.unpause(client, ("a_dag",))
    assert [request.path for request in server.asked] == ["/dags/a_dag"]


class Restless:
    """A stack whose scheduler has ended at each look, up to so many times; then a person comes with Ctrl-C."""

    url = "http://127.0.0.1:1"

    def __init__(self, ends: int) -> None:
        self.looks = iter([["scheduler"]] * ends)

    def revive(self) -> list[str]:
        try:
            return next(self.looks)
        except StopIteration:
            raise KeyboardInterrupt from None


def serve(ends: int, folder: Path) -> int:
    cloud = SimpleNamespace(s3=SimpleNamespace(endpoint_url="s3"), nova_url="nova")
    machine: Any = SimpleNamespace(var=folder, home=SimpleNamespace(password="p"), cloud=cloud)
    stack: Any = Restless(ends)
    return up._serve(machine, stack, Console())


def test_what_ended_is_started_again_and_said_with_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        serve(up.MOST_RESTARTS, tmp_path)
    said = f"Airflow's scheduler ended and was started again; see {tmp_path / 'logs' / 'scheduler'}.log"
    assert capsys.readouterr().out.count(said) == up.MOST_RESTARTS


def test_what_does_not_stay_up_ends_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(up.MOST_RESTARTS + 1, tmp_path) == 1
    assert "scheduler does not stay up" in capsys.readouterr().out
