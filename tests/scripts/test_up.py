"""What `make up` asks of Airflow's REST API, against a real HTTP server that answers as Airflow does in trouble."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from scripts import up

NOT_FOUND, DATABASE_ERROR, OK, FORBIDDEN = 404, 500, 200, 403


@contextlib.contextmanager
def airflow_answering(*statuses: int) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A client of a server that answers PATCH with these in turn, the last one for ever; and the paths it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            asked.append(self.path)
            self._answer(statuses[min(len(asked), len(statuses)) - 1], b"{}")

        def do_GET(self) -> None:
            self._answer(OK, b'{"import_errors": [{"stack_trace": "no module named cats"}]}')

        def _answer(self, status: int, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            yield client, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "POLL_SECONDS", 0.01)


def test_a_dag_that_airflows_database_was_too_busy_for_is_unpaused_all_the_same() -> None:
    """It would stay paused, and each of its runs queued, without a word."""
    with airflow_answering(NOT_FOUND, DATABASE_ERROR, OK) as (client, asked):
        up.unpause(client, ("a_dag", "another"))
    assert asked == ["/dags/a_dag"] * 3 + ["/dags/another"]


@pytest.mark.parametrize("status", [NOT_FOUND, DATABASE_ERROR])
def test_a_dag_that_cannot_be_unpaused_in_time_is_named_with_the_import_errors(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "PARSE_SECONDS", 0.05)
    with (
        airflow_answering(status) as (client, asked),
        pytest.raises(up.DagsMissing, match=rf"a_dag .*{status}.*no module named cats"),
    ):
        up.unpause(client, ("a_dag",))
    assert len(asked) > 1


def test_a_refusal_is_not_repeated() -> None:
    with airflow_answering(FORBIDDEN) as (client, asked), pytest.raises(httpx.HTTPStatusError, match="403"):
        up.unpause(client, ("a_dag",))
    assert asked == ["/dags/a_dag"]
