"""A tiny HTTP server that gives stock boto3 scripted Bedrock answers, one a request."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from include.nova import client_config

ANSWER = {
    "description": "A red bicycle leans on a wall.",
    "labels": [{"name": "bicycle", "confidence": 0.98}],
    "visible_text": "NO PARKING",
    "objects": [{"name": "bicycle", "box": [100, 200, 700, 900]}],
}


def _converse_body(tool_input: Any = None, stop: str = "tool_use", content: list[Any] | None = None) -> dict[str, Any]:
    tool_use = {"toolUseId": "t1", "name": "record_image_analysis", "input": tool_input or ANSWER}
    return {
        "output": {
            "message": {"role": "assistant", "content": [{"toolUse": tool_use}] if content is None else content}
        },
        "stopReason": stop,
        "usage": {"inputTokens": 1500, "outputTokens": 200, "totalTokens": 1700},
        "metrics": {"latencyMs": 321},
    }


class FakeBedrock(ThreadingHTTPServer):
    """Answers from `script`: (status, error type or None, body), or a callable that takes over the handler."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: deque[Any] = deque()
        self.requests: list[SimpleNamespace] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answers(self, *script: Any) -> None:
        self.script.extend(script)

    def good(self, **changes: Any) -> tuple[int, None, dict[str, Any]]:
        return 200, None, _converse_body(**changes)

    def error(self, aws_code: str, status: int = 400, message: str = "words of AWS") -> tuple[int, str, dict[str, Any]]:
        return status, aws_code, {"message": message}

    def silence(self, handler: BaseHTTPRequestHandler) -> None:
        """Take the request and never answer, until the test is over."""
        self.released.wait(30)

    def hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        """Take the request and close the connection."""
        handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeBedrock

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(SimpleNamespace(path=self.path, body=json.loads(body), size=len(body)))
        step = self.server.script.popleft()
        if callable(step):
            step(self)
            return
        status, aws_code, answer = step
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if aws_code:
            self.send_header("x-amzn-ErrorType", aws_code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def bedrock() -> Iterator[FakeBedrock]:
    server = FakeBedrock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """One session, so that the service model is read once."""
    return boto3.Session(aws_access_key_id="id", aws_secret_access_key="secret", region_name="us-east-1")


@pytest.fixture
def make_client(session: boto3.Session) -> Callable[..., Any]:
    def make(url: str | None, **changes: Any) -> Any:
        config = Config(**{**client_config(), **changes})
        return session.client("bedrock-runtime", endpoint_url=url, config=config)

    return make


@pytest.fixture
def client(bedrock: FakeBedrock, make_client: Callable[..., Any]) -> Any:
    return make_client(bedrock.url)


@pytest.fixture
def answer() -> dict[str, Any]:
    return json.loads(json.dumps(ANSWER))


@pytest.fixture
def converse_body() -> Callable[..., dict[str, Any]]:
    return _converse_body
