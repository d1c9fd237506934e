"""A real HTTP server that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    body: bytes


@dataclass(slots=True)
class Answering:
    """A running server: where it is, and the requests so far."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[Answering]:
    """Give each request the next status and body, the last one for ever."""
    state = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            state.asked.append(Asked(self.command, self.path, self.rfile.read(length)))
            status, body = answers[min(len(state.asked), len(answers)) - 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
