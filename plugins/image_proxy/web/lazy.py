"""The application that Airflow mounts: it is made at the first request, not at import.

Plugins are loaded in every component and again in each task process, where importing FastAPI costs more than a second
of CPU. Only the API server ever gets a request. When the application cannot be made, nothing is served at all: no
route without its checks, and no reason in the answer.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class LazyApp:
    """An ASGI application in front of the one that `make` returns."""

    def __init__(self, make: Callable[[], Application]) -> None:
        self._make = make
        self._made: Application | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; 503 without a reason while the application cannot be made."""
        if scope["type"] != "http":
            return  # no websockets here, and the mounting application keeps the lifespan to itself
        try:
            application = self._application()
        except Exception:
            reference = uuid.uuid4().hex[:12]
            log.exception("the image proxy pages cannot be served (reference %s)", reference)
            await _unavailable(send, reference)
            return
        await application(scope, receive, send)

    def _application(self) -> Application:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def load() -> Application:
    """Return the real application."""
    from image_proxy.web.app import create_app

    return create_app()


async def _unavailable(send: Send, reference: str) -> None:
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "code": "unavailable",
        "detail": "the application could not be loaded; the server's log says why",
        "reference": reference,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
