"""What a request may hold, and what an answer never does."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from image_proxy.web import deployment
from image_proxy.web.lazy import LazyApp
from image_proxy.web.security import MAX_BODY_BYTES
from sqlalchemy.exc import OperationalError

from include.catalog.errors import NotMigrated
from tests.web.conftest import Web


def cursor_of(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/files/0", "invalid_request"),
        ("/files/abc", "invalid_request"),
        ("/files/99999999999999999999", "invalid_request"),
        ("/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "not_found"),
        ("/files/999999", "unknown_file"),
        ("/files/999999/proxy", "unknown_file"),
        ("/files/999999/preview", "no_preview"),
        ("/files?limit=0", "invalid_request"),
        ("/files?limit=201", "invalid_request"),
        ("/files?status=purple", "invalid_request"),
        ("/files?after=%00", "invalid_cursor"),
        ("/files?after=W10", "invalid_cursor"),
        ("/files?uploaded_from=2026-11-01T00:00:00", "invalid_request"),
        ("/files?uploaded_from=0001-01-01T00:00:00%2B14:00", "invalid_request"),
        ("/files?uploaded_to=9999-12-31T23:59:59-14:00", "invalid_request"),
        ("/files?min_bytes=-1", "invalid_request"),
        ("/files?name=%00", "invalid_request"),
        ("/files?format=%00", "invalid_request"),
        ("/files?job_id=%00", "invalid_request"),
        (f"/files?after={cursor_of('2026-11-01T00:00:00+00:00', True, '')}", "invalid_cursor"),
        (f"/files?name={'x' * 201}", "invalid_request"),
        ("/savings?by=password", "invalid_request"),
        ("/failures?stage=both", "invalid_request"),
        ("/failures?code=%00", "invalid_request"),
        ("/batch/no-such-job", "unknown_job"),
        ("/batch/a%20b", "invalid_request"),
        ("/nothing", "not_found"),
    ],
)
def test_a_wrong_question_is_a_problem_with_a_code(web: Web, path: str, code: str) -> None:
    answer = web.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["status"] == answer.status_code
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"file_ids": []},
        {"file_ids": [1], "filter": {}},
        {"file_ids": ["1; DROP TABLE files"]},
        {"file_ids": [0]},
        {"file_ids": [2**70]},
        {"file_ids": list(range(1, 10_002))},
        {"file_ids": [1], "uri": "s3://elsewhere/key"},
        {"filter": {"path": "/etc/passwd"}},
        {"filter": {"uploaded_from": "2026-11-01T00:00:00"}},
        {"filter": {"uploaded_from": "0001-01-01T00:00:00+14:00"}},
        {"filter": {"name": "a\0b"}},
        [],
        "text",
    ],
)
def test_a_wrong_batch_is_refused(web: Web, body: Any) -> None:
    answer = web.post("/batch/image-proxy", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.content) < 5000


def test_text_that_is_no_json_is_refused(web: Web) -> None:
    for content in (b"{", b"\xff\xfe", b"[" * 100_000):
        answer = web.post("/batch/image-proxy", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), content[:4]
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_large_body_is_refused_announced_or_not(web: Web) -> None:
    def pieces() -> Any:
        for _ in range(MAX_BODY_BYTES // 1024 + 2):
            yield b" " * 1024

    for content in (b" " * (MAX_BODY_BYTES + 1), pieces()):
        answer = web.post("/batch/image-proxy", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_no_stack_trace_leaves_the_server(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_args: Any, **_more: Any) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(type(deployment.catalog()), "list_files", break_down)
    answer = web.get("/files")
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["code"] == "internal_error"
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert any(problem["reference"] in record.getMessage() for record in caplog.records)


def test_a_catalog_that_is_not_migrated_says_so_without_its_address(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_migrated(*_args: Any, **_more: Any) -> None:
        raise NotMigrated("the catalog at postgresql://me@secret-host/db is not migrated")

    monkeypatch.setattr(type(deployment.catalog()), "list_files", not_migrated)
    answer = web.get("/files")
    assert (answer.status_code, answer.json()["code"]) == (503, "catalog_not_migrated")
    assert "secret-host" not in answer.text


def test_a_connection_that_is_missing_is_named(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.catalog.cache_clear()
    monkeypatch.delenv("AIRFLOW_CONN_CATALOG_DEFAULT")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # as in the API server: connections of its database too
    answer = web.get("/files")
    assert (answer.status_code, answer.json()["code"]) == (503, "connection_missing")
    assert "catalog_default" in answer.json()["detail"]


def test_a_database_that_is_away_is_no_internal_error(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: Any, **_more: Any) -> None:
        raise OperationalError("SELECT secret", {}, Exception("connection to secret-host refused"))

    monkeypatch.setattr(type(deployment.catalog()), "list_files", away)
    answer = web.get("/files")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "secret" not in answer.text


def test_what_cannot_be_loaded_is_not_served() -> None:
    """An import problem closes the door: no route is reached, and no reason is told."""

    def broken() -> Any:
        raise ImportError("No module named 'somebody.secret'")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(LazyApp(broken)({"type": "http", "path": "/v1/api/files"}, receive, send))
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["code"] == "unavailable"
    assert b"secret" not in sent[1]["body"]


def test_an_auth_manager_that_fails_lets_nobody_in(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    def break_down(*_args: Any, **_more: Any) -> bool:
        raise RuntimeError("the directory is away")

    monkeypatch.setattr(type(get_auth_manager()), "is_authorized_dag", break_down)
    answer = web.get("/files")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
