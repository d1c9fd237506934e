"""While a request waits for SQLite's one writer, the API server answers others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from image_proxy.web import one_writer
from image_proxy.web.one_writer import OneWriter
from sqlalchemy import Engine, event

from tests.web.conftest import Web

RUN = "/execution/task-instances/1/run"


def http(method: str, path: str, root_path: str = "") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": root_path + path, "root_path": root_path}


class Application:
    """Answers when it is told to, and notes in which order requests began and ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = f"{scope['method']} {scope['path']}"
        self.seen.append(f"begin {name}")
        await self.go_on.wait()
        self.seen.append(f"end {name}")


def served(*scopes: dict[str, Any]) -> list[str]:
    """Serve these requests together; nothing ends before each has had a chance to begin."""

    async def serve() -> list[str]:
        application = Application()
        middleware = OneWriter(application)
        tasks = [asyncio.create_task(middleware(scope, None, None)) for scope in scopes]  # type: ignore[arg-type]
        for _ in range(20):
            await asyncio.sleep(0)
        application.go_on.set()
        await asyncio.gather(*tasks)
        return application.seen

    return asyncio.run(serve())


@pytest.mark.parametrize("root_path", ["", "/airflow"])
def test_a_request_that_writes_begins_when_the_one_before_has_ended(root_path: str) -> None:
    first, second = http("PATCH", RUN, root_path), http("POST", "/api/v2/dags/d/dagRuns", root_path)
    assert [word.partition(" ")[0] for word in served(first, second)] == ["begin", "end", "begin", "end"]


def test_with_another_database_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg2://airflow@db/airflow")
    seen = served(http("PATCH", RUN), http("PATCH", RUN))
    assert [word.partition(" ")[0] for word in seen] == ["begin", "begin", "end", "end"]


@pytest.mark.parametrize(
    "other", [http("GET", "/api/v2/dags"), http("POST", "/image-proxy/v1/api/files/1/analyze"), {"type": "lifespan"}]
)
def test_a_request_that_reads_and_one_of_ours_wait_for_nobody(other: dict[str, Any]) -> None:
    other = {"method": "-", "path": "-", **other}
    seen = served(http("PATCH", RUN), other)
    assert [word.partition(" ")[0] for word in seen] == ["begin", "begin", "end", "end"]


def test_a_request_that_never_ends_holds_up_no_other_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_writer, "PATIENCE_SECONDS", 0.01)

    async def serve() -> None:
        application = Application()
        middleware: Any = OneWriter(application)
        stuck = asyncio.create_task(middleware(http("PATCH", RUN), None, None))
        others = [asyncio.create_task(middleware(http("POST", f"{RUN}/{number}"), None, None)) for number in (1, 2)]
        async with asyncio.timeout(30):
            while len(application.seen) < 3:
                await asyncio.sleep(0.001)
        application.go_on.set()
        await asyncio.gather(stuck, *others)

    asyncio.run(serve())


def test_a_turn_ends_with_a_request_that_fails() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionResetError

    async def serve() -> None:
        middleware: Any = OneWriter(fail)
        for _ in range(2):
            async with asyncio.timeout(one_writer.PATIENCE_SECONDS / 2):
                with pytest.raises(ConnectionResetError):
                    await middleware(http("PATCH", RUN), None, None)

    asyncio.run(serve())


@contextmanager
def writing_of_the_audit_log(engine: Engine) -> Iterator[threading.Event]:
    """An event that is set when a statement is about to write it."""
    begun = threading.Event()

    def look(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        if statement.startswith("INSERT INTO log"):
            begun.set()

    event.listen(engine, "before_cursor_execute", look)
    yield begun
    event.remove(engine, "before_cursor_execute", look)


def test_our_requests_wait_for_the_audit_log_and_hold_up_no_other(web: Web) -> None:
    from airflow import settings

    assert settings.engine is not None
    with (
        web.new_audit_lines() as lines,
        closing(sqlite3.connect(str(settings.engine.url.database), isolation_level=None)) as holder,
        writing_of_the_audit_log(settings.engine) as begun,
        ThreadPoolExecutor(1) as other,
    ):
        holder.execute("BEGIN IMMEDIATE")
        waiting = other.submit(web.post, "/files/999999/create-image-proxy")
        assert begun.wait(timeout=60)
        assert web.get("/files").status_code == 200
        assert not waiting.done()
        holder.execute("COMMIT")
        assert waiting.result(timeout=60).json()["code"] == "unknown_file"
    assert [line["event"] for line in lines] == ["image_proxy.create_proxy"]
