"""A real HTTP server that keeps what is posted to it: where the tests' notifier sends its messages."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Webhook:
    """Listens on 127.0.0.1 while the block lasts; `messages` are the JSON bodies so far, in order."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def about(self, run_id: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["run_id"] == run_id]

    def environment(self) -> dict[str, str]:
        """Airflow's own HTTP notifier, over an Airflow connection, as a deployment would configure it."""
        body = {name: f"{{{{ {name} }}}}" for name in ("event", "subject", "message", "run_id", "url")}
        return {
            "AIRFLOW_CONN_ALERTS": json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": self.port}),
            "IMAGE_PROXY_NOTIFIER": "airflow.providers.http.notifications.HttpNotifier",
            "IMAGE_PROXY_NOTIFIER_KWARGS": json.dumps({"http_conn_id": "alerts", "endpoint": "hook", "json": body}),
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing on the test's output."""

        return Handler
