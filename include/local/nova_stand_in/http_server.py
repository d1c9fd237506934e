"""The HTTP side: paths, keep-alive connections and Bedrock's headers, with nothing known of what an answer says."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from include.local.nova_stand_in.errors import BedrockError

_MAX_BODY_BYTES: Final = 40 << 20  # 25 MB of embedded images in base64, and the prompt
_DRAIN_SECONDS: Final = 5.0
_CONVERSE: Final = re.compile(r"/model/([^/]+)/converse")

_JOBS: Final = re.compile(r"/model-invocation-jobs?(/.*)?")

Answer = Callable[[str, Any, bytes], tuple[int, dict[str, str], dict[str, Any]]]
"""From model id, request headers and body to status, headers and body."""

JobAnswer = Callable[[str, str, Any, bytes], tuple[int, dict[str, str], dict[str, Any]]]
"""From method, target (path and query, as sent), headers and body to status, headers and body."""


class Server(ThreadingHTTPServer):
    """Listens on `host` at `port` (0: a free one); `answer` makes Converse's answers, `count` counts them, and
    `answer_jobs` makes those of the operations on batch jobs."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512  # a burst of clients must not meet a full backlog, which costs them a second each
    allow_reuse_address = True

    def __init__(self, host: str, port: int, answer: Answer, answer_jobs: JobAnswer, count: Callable[[], int]) -> None:
        self.answer = answer
        self.answer_jobs = answer_jobs
        self.count = count
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask DNS for our name, which can take seconds

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go, and a vanished one is nobody's fault; `_Handler` answers for everything else."""

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Around a call and the sending of its answer, for a stop to wait for."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def close_all(self) -> None:
        """Close the port and every kept-alive connection, which would otherwise go on being answered."""
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=_DRAIN_SECONDS)
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True  # else head and body wait 40 ms for each other's acknowledgement
    wbufsize = -1  # head and body leave together
    server_version = "NovaStandIn"
    sys_version = ""

    def handle_expect_100(self) -> bool:
        """Let a client that asked send its body; buffered, the word would wait for an answer to that body."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def do_GET(self) -> None:
        if self.path == "/":
            self._send(200, {}, {"service": "Nova stand-in, not Nova", "calls": self.server.count()})
        elif _JOBS.fullmatch(urllib.parse.urlsplit(self.path).path):
            with self.server.call():
                self._send(*self.server.answer_jobs("GET", self.path, self.headers, b""))
        else:
            self._refuse(BedrockError("UnknownOperationException", "The Nova stand-in has no such path."))

    def do_POST(self) -> None:
        matched = _CONVERSE.fullmatch(urllib.parse.urlsplit(self.path).path)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True  # the body stays unread, so nothing can follow it
            self._refuse(
                BedrockError("RequestEntityTooLargeException", "The request body is too large, or has no length.")
            )
            return
        raw = self.rfile.read(int(length))
        if _JOBS.fullmatch(urllib.parse.urlsplit(self.path).path):
            with self.server.call():
                self._send(*self.server.answer_jobs("POST", self.path, self.headers, raw))
            return
        if matched is None:
            self._refuse(
                BedrockError("UnknownOperationException", "The Nova stand-in offers Converse and batch jobs only.")
            )
            return
        with self.server.call():
            self._send(*self.server.answer(urllib.parse.unquote(matched.group(1)), self.headers, raw))

    def _refuse(self, error: BedrockError) -> None:
        headers = {"x-amzn-RequestId": str(uuid.uuid4()), "x-amzn-ErrorType": error.code}
        self._send(error.status, headers, {"message": error.message})

    def _send(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        extra = {"Content-Type": "application/json", "Content-Length": str(len(content)), "x-nova-stand-in": "true"}
        for name, value in {**extra, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the call log tells more, and without request headers."""
