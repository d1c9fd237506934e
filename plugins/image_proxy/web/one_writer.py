"""Airflow's own writing requests follow one another where its database is SQLite, which has one writer.

The API server writes its audit log on its event loop. If another request holds SQLite's write lock at that moment, it
needs the loop to end its transaction, and the loop waits for the lock: both stand still, and the log's write is refused
(`include.local.sqlite`). Here a request waits for its turn before it begins, where the loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from airflow.configuration import conf

from image_proxy.web.lazy import Application, Receive, Scope, Send

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# What Airflow's own routes begin with. Requests of this plugin may last a minute; they write in threads.
AIRFLOWS_OWN: Final = ("/api/v2/", "/ui/", "/execution/")
PATIENCE_SECONDS: Final = 10.0  # a request whose body never comes holds nobody up for longer


class OneWriter:
    """Middleware for Airflow's whole API: one writing request at a time, in the order of their coming.

    Who has waited `PATIENCE_SECONDS` for its turn goes on without it. With another database nobody waits. Which one it
    is is asked here, in the API server: the plugin is imported everywhere, and the address may be a command's or a
    secret's to tell.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._one_writer = conf.get("database", "sql_alchemy_conn").startswith("sqlite")
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not (self._one_writer and _writes(scope)):
            return await self._app(scope, receive, send)
        async with self._a_turn():
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def _a_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._turn.release()


def _writes(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] in READING:
        return False
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).startswith(AIRFLOWS_OWN)
