"""A proxy in front of the S3 server that can be told to lie, to stall and to refuse."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset, as a vanished server's kernel does


@dataclass
class Fault:
    """What happens to some of the requests of one method; counts how often it did."""

    method: str
    status: int | None = None  # answered instead of the server, with this S3 error code
    code: str = "InternalError"
    delay_seconds: float = 0.0
    corrupt: bool = False  # one byte is changed on its way: of what is uploaded, or of what is downloaded
    every: int = 1  # of the matching requests, each so-many-th
    times: int | None = None  # at most so often
    key_contains: str = ""
    seen: int = 0
    hit: int = 0
    answers: list[int] = field(default_factory=list)  # the server's, to requests that were corrupted
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def takes(self, method: str, path: str) -> bool:
        """Whether this request is to suffer; counts it if so."""
        if method != self.method or self.key_contains not in path:
            return False
        with self._lock:
            self.seen += 1
            if self.seen % self.every or (self.times is not None and self.hit >= self.times):
                return False
            self.hit += 1
            return True


def _garbled(content: bytes) -> bytes:
    """The same length, another last bit."""
    return content[:-1] + bytes([content[-1] ^ 1]) if content else content


class S3Proxy:
    """Forwards every request unchanged to `upstream` (host, port), which may come and go; a context manager.

    Host and signature stay the client's own, so the server checks them as ever.
    """

    def __init__(self) -> None:
        self.upstream: tuple[str, int] | None = None
        self.faults: list[Fault] = []
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-proxy", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def suffering(self, *faults: Fault) -> Iterator[None]:
        """With these faults during the block."""
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, proxy: S3Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed here, and connections with them."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        corrupted: Fault | None = None
        faults = [fault for fault in self.server.proxy.faults if fault.takes(self.command, self.path)]
        for fault in faults:
            time.sleep(fault.delay_seconds)  # a slow server is what is tested
            if fault.status is not None:
                self._answer(fault.status, f"<Error><Code>{fault.code}</Code><Message>asked for</Message></Error>")
                return
            if fault.corrupt:
                body, corrupted = _garbled(body), fault
        status = self._forward(body, _garbled if corrupted is not None else bytes)
        if corrupted is not None and status is not None:
            corrupted.answers.append(status)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle

    def _forward(self, body: bytes, change: Callable[[bytes], bytes]) -> int | None:
        """Pass the request on and the answer back; return its status, None when there is no server."""
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(*(upstream or ("127.0.0.1", 1)), timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = change(answer.read()) if self.command == "GET" else answer.read()
        except (OSError, http.client.HTTPException):
            self._vanish()
            return None
        finally:
            connection.close()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        return answer.status

    def _vanish(self) -> None:
        """The server is gone: so is the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()

    def _answer(self, status: int, text: str) -> None:
        content = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
