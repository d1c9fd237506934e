"""What `make up` asks of Airflow's REST API, against a real HTTP server that answers as Airflow does in trouble."""

from __future__ import annotations

import httpx
import pytest

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
