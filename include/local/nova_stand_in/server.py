"""The stand-in itself: starts and stops, answers calls in Bedrock's shapes, and writes each into the log."""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from include.local.nova_stand_in.call_log import CallLog, CallRecord
from include.local.nova_stand_in.converse import Reply, make_reply
from include.local.nova_stand_in.errors import BedrockError, converse_operation
from include.local.nova_stand_in.http_server import Server
from include.local.nova_stand_in.image_rules import look_at_images
from include.local.nova_stand_in.jobs import Jobs
from include.local.nova_stand_in.models import find_model
from include.local.nova_stand_in.request_rules import check_request, parse_json, s3_uris_of
from include.local.nova_stand_in.settings import HOST, StandInSettings
from include.local.nova_stand_in.trouble import Trouble

_POLL_SECONDS: Final = 0.02  # how long a stop may take to be noticed
_SIGV4: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/\s]+/\d{8}/[^/]+/bedrock/aws4_request, ?SignedHeaders=")
_API_KEY: Final = re.compile(r"Bearer \S+")


class NovaStandIn:
    """A running stand-in; a context manager. `s3_client` is a boto3 S3 client: it reads the pictures that calls name.

    Raises `OSError` on start when the port is taken. It can be started once.
    """

    def __init__(self, settings: StandInSettings, s3_client: Any) -> None:
        self._settings = settings
        self._s3_client = s3_client
        self._numbers = itertools.count(1)
        self._trouble = Trouble(settings)
        self._stopping = threading.Event()
        self._log: CallLog | None = None
        self._jobs: Jobs | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The endpoint URL for boto3. Raises `RuntimeError` before the start."""
        if self._server is None:
            raise RuntimeError("the Nova stand-in is not started")
        return f"http://{HOST}:{self._server.server_address[1]}"

    def calls(self) -> tuple[CallRecord, ...]:
        """Every call that was answered so far, refused ones too, in the order in which they ended."""
        return self._log.records() if self._log else ()

    def change(self, **changes: object) -> None:
        """Replace `forced`, `throttle_rate`, `throttle_seed`, `latency_ms` or `jobs` for the calls that come now.

        Raises `ValueError` for anything else, and for values out of bounds.
        """
        self._trouble.change(**changes)

    def start(self) -> Self:
        """Listen; when this returns, requests are taken."""
        converse_operation()  # read once, before many first calls at the same moment each read it
        self._log = CallLog(self._settings.log_path)
        self._jobs = Jobs(self._s3_client, self._trouble, self._log, self._numbers, self._stopping)
        host, port = self._settings.host, self._settings.port
        self._server = Server(host, port, self._answer, self._answer_jobs, lambda: len(self.calls()))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), name="nova-stand-in")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, answer what is in flight without further latency, and cut every connection.

        Harmless when it is not running.
        """
        server, self._server = self._server, None
        if server is None or self._thread is None or self._log is None:
            return
        self._stopping.set()
        server.shutdown()
        self._thread.join()
        server.close_all()
        if self._jobs is not None:
            self._jobs.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self, model_id: str, headers: Any, raw: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Answer one Converse call: HTTP status, headers, body. The call stands in the log when this returns."""
        call = _Call(next(self._numbers), model_id)
        extra: dict[str, str] = {}
        try:
            status, body = 200, self._converse(call, headers, raw)
        except Exception as raised:
            error = raised if isinstance(raised, BedrockError) else _failed(raised)
            call.error = error
            status, body = error.status, {"message": error.message}
            extra = {"x-amzn-ErrorType": error.code}
        if self._log is not None:
            self._log.append(call.record(status))
        return status, {"x-amzn-RequestId": call.request_id, **extra}, body

    def _answer_jobs(
        self, method: str, target: str, headers: Any, raw: bytes
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Answer one operation on batch jobs: HTTP status, headers, body. These are no calls of a model: not logged."""
        extra = {"x-amzn-RequestId": str(uuid.uuid4())}
        try:
            _check_signed(headers.get("Authorization"))
            if self._jobs is None:
                raise BedrockError("InternalServerException", "The Nova stand-in is not started")
            return 200, extra, self._jobs.answer(method, target, headers.get("Authorization"), raw)
        except Exception as raised:
            error = raised if isinstance(raised, BedrockError) else _failed(raised)
            return error.status, {**extra, "x-amzn-ErrorType": error.code}, {"message": error.message}

    def _converse(self, call: _Call, headers: Any, raw: bytes) -> dict[str, Any]:
        _check_signed(headers.get("Authorization"))
        body = parse_json(raw)
        call.note(body)
        verdict = self._trouble.judge(call.number, call.s3_uris)
        call.forced = verdict.error is not None or verdict.forced is not None
        if verdict.error is not None:
            self._pause(call, verdict.forced.latency_ms if verdict.forced else 0)
            raise verdict.error
        request = check_request(find_model(call.model_id), body)
        call.images = len(request.images())
        pictures = look_at_images(request, self._s3_client) if self._settings.looks else ()
        call.reply = make_reply(request, pictures, verdict.forced)
        self._pause(call, verdict.latency_ms)
        return _body(call.reply, call.milliseconds(), call.service_tier)

    def _pause(self, call: _Call, latency_ms: int) -> None:
        """Make the call last `latency_ms` in all; a stop ends the wait."""
        left = latency_ms / 1000 - call.seconds()
        if left > 0:
            self._stopping.wait(left)


class _Call:
    """What becomes known of a call while it is answered."""

    def __init__(self, number: int, model_id: str) -> None:
        self.number = number
        self.model_id = model_id
        self.request_id = str(uuid.uuid4())
        self.started = datetime.now(UTC)
        self.s3_uris: list[str] = []
        self.images = 0
        self.service_tier: str | None = None
        self.forced = False
        self.reply: Reply | None = None
        self.error: BedrockError | None = None
        self._clock = time.monotonic()

    def note(self, body: Any) -> None:
        """Take from an unchecked body what the log tells of it."""
        self.s3_uris = s3_uris_of(body)
        tier = body.get("serviceTier") if isinstance(body, dict) else None
        named = tier.get("type") if isinstance(tier, dict) else None
        self.service_tier = named if isinstance(named, str) else None

    def seconds(self) -> float:
        return time.monotonic() - self._clock

    def milliseconds(self) -> int:
        return max(1, round(self.seconds() * 1000))

    def record(self, status: int) -> CallRecord:
        return CallRecord(
            call=self.number,
            request_id=self.request_id,
            started=self.started.isoformat(),
            ended=datetime.now(UTC).isoformat(),
            model=self.model_id,
            s3_uri=self.s3_uris[0] if self.s3_uris else None,
            images=self.images,
            status=status,
            error=self.error.code if self.error else None,
            stop_reason=self.reply.stop_reason if self.reply else None,
            input_tokens=self.reply.input_tokens if self.reply else 0,
            output_tokens=self.reply.output_tokens if self.reply else 0,
            service_tier=self.service_tier,
            forced=self.forced,
        )


def _failed(error: Exception) -> BedrockError:
    """A fault of the stand-in's own, such as a schema it cannot follow: still an answer, and a line in the log."""
    return BedrockError("InternalServerException", f"The Nova stand-in failed on this request: {type(error).__name__}")


def _check_signed(authorization: str | None) -> None:
    """Nobody's keys are known here, so a signature must be there, not right. Source: AWS's common errors."""
    if not authorization:
        raise BedrockError("MissingAuthenticationTokenException", "Missing Authentication Token")
    if not _SIGV4.match(authorization) and not _API_KEY.fullmatch(authorization):
        raise BedrockError(
            "IncompleteSignatureException", "The Authorization header is not an AWS signature for bedrock."
        )


def _body(reply: Reply, latency_ms: int, service_tier: str | None) -> dict[str, Any]:
    """Converse's response. Source: botocore's ConverseResponse."""
    tier = {"serviceTier": {"type": service_tier}} if service_tier else {}
    return {
        "output": {"message": {"role": "assistant", "content": reply.content}},
        "stopReason": reply.stop_reason,
        "usage": {
            "inputTokens": reply.input_tokens,
            "outputTokens": reply.output_tokens,
            "totalTokens": reply.input_tokens + reply.output_tokens,
        },
        "metrics": {"latencyMs": latency_ms},
        **tier,
    }
