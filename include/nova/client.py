"""One image through Nova: patient with a throttling service, never paying blindly for the same work twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from include.nova.cards import is_priced
from include.nova.errors import CallFailure, Disposition, NovaError, failure_of
from include.nova.prompts import Prompt
from include.nova.replies import MALFORMED_CODES, NovaReply, latency_of, parse_reply, usage_of
from include.nova.requests import build_converse_request

AWS = "aws"
STAND_IN = "stand-in"
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# botocore tells the size of a request in an event only, in the thread that sends it.
_BODY_BYTES: ContextVar[int] = ContextVar("body_bytes", default=0)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One request that the service answered, refused, or may have worked on without an answer arriving."""

    started_at: datetime  # aware, UTC
    seconds: float | None  # None: one of many in a batch job, nobody timed it
    code: str | None  # None: a valid answer
    message: str | None
    input_tokens: int
    output_tokens: int
    latency_ms: int | None
    endpoint: str  # "aws" or "stand-in"
    tier: str  # that the service says it served at, or else the one that was asked for
    request_bytes: int  # of the HTTP body; zero for what never left


@dataclass(frozen=True, slots=True)
class AnalysedImage:
    """A validated reply and the call that brought it, to be written together."""

    reply: NovaReply
    call: CallRecord


@dataclass(frozen=True, slots=True)
class Backoff:
    """How patiently a throttled or unavailable service is asked again: exponential, with full jitter.

    Under a steady 30 % of throttling, eight attempts give up on one image in 15,000; that one goes back to pending.
    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    """

    attempts: int = 8
    base_seconds: float = 0.5
    cap_seconds: float = 20.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after that many failures (1 or more): uniform between 0 and the doubled, capped base."""
        ceiling: float = min(self.cap_seconds, self.base_seconds * 2 ** (failures - 1))
        return random.uniform(0, ceiling)  # noqa: S311 - spreads requests out, guards nothing


DEFAULT_BACKOFF = Backoff()


def client_config() -> dict[str, Any]:
    """Keyword arguments of botocore's `Config` for a client that never bills twice by itself.

    botocore's own retries repeat a read timeout, and a request that timed out may have been worked on and billed: one
    attempt only, and ten minutes to answer (the slow tiers queue; botocore's 60 s would give up on paid work).
    """
    return {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 600,
        "max_pool_connections": 64,
        "tcp_keepalive": True,
    }


def endpoint_of(client: Any) -> str:
    """`aws` when the client talks to a host of AWS, `stand-in` for every other host."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return AWS if host.endswith(_AWS_DOMAINS) else STAND_IN


def analyse_image(
    client: Any,
    *,
    model_id: str,
    image_uri: str,
    image_format: str,
    prompt: Prompt,
    tier: str = "default",
    bucket_owner: str | None = None,
    on_call: Callable[[CallRecord], object],
    wait: Callable[[float], bool],
    backoff: Backoff = DEFAULT_BACKOFF,
) -> AnalysedImage:
    """Ask Nova about one image in S3, through a boto3 `bedrock-runtime` client made with `client_config()`.

    Each request that the service may have seen is given to `on_call` before the next one is made, so that a crash loses
    no bill; only the last, successful one is returned instead, to be written together with its answer. A throttled or
    unavailable service is asked again after `wait(seconds)`, which returns True when the work is to stop; a malformed
    answer is asked for once more; a lost connection or a late answer is not, since it may have been billed.

    Raises NovaError with disposition RETURN, LATER, FAIL or FATAL, after `on_call` had its record.
    """
    request = build_converse_request(model_id, image_uri, image_format, prompt, tier, bucket_owner)
    client.meta.events.register("before-send.bedrock-runtime.Converse", _note_size, unique_id="request-bytes")
    failures = malformed = 0
    while True:
        result, call = _ask(client, request, prompt)
        if isinstance(result, NovaReply):
            return AnalysedImage(result, call)
        if result.sent:
            on_call(call)
        error = result.error
        if error.code in MALFORMED_CODES and not malformed:
            malformed += 1
            continue
        if error.disposition is not Disposition.RETRY:
            raise error
        failures += 1
        if failures >= min(backoff.attempts, error.patience.attempts or backoff.attempts):
            said = f"{error.message} (after {failures} attempts)"
            raise NovaError(error.code, said, error.patience.then, error.usage) from error
        if wait(backoff.delay(failures)):
            said = f"Stopped while waiting to try again after: {error}"
            raise NovaError("interrupted", said, Disposition.RETURN, error.usage) from error


def _ask(client: Any, request: Mapping[str, Any], prompt: Prompt) -> tuple[NovaReply | CallFailure, CallRecord]:
    """One request, whatever comes of it; only what is no error of AWS or of the connection is raised."""
    started_at, clock = datetime.now(UTC), time.monotonic()
    _BODY_BYTES.set(0)
    response: Mapping[str, Any] = {}
    result: NovaReply | CallFailure
    try:
        response = client.converse(**request)
        result = parse_reply(response, prompt)
    except NovaError as error:
        result = CallFailure(error, sent=True)
    except Exception as exception:
        failure = failure_of(exception)
        if failure is None:
            raise
        result = failure
    usage, failed = usage_of(response), result.error if isinstance(result, CallFailure) else None
    call = CallRecord(
        started_at=started_at,
        seconds=time.monotonic() - clock,
        code=failed.code if failed else None,
        message=failed.message if failed else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        latency_ms=latency_of(response),
        endpoint=endpoint_of(client),
        tier=_tier(request, response),
        request_bytes=_BODY_BYTES.get(),
    )
    return result, call


def _note_size(request: Any, **_: Any) -> None:
    _BODY_BYTES.set(len(request.body or b""))


def _tier(request: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    """What is billed is what was served: Bedrock says so where it is not the default.

    A tier without a known price (`reserved`) is put down as what was asked for: the answer is paid, and to refuse it
    for want of a price would lose it.
    """
    asked = str((request.get("serviceTier") or {}).get("type") or "default")
    served = str((response.get("serviceTier") or {}).get("type") or asked)
    return served if is_priced(served) else asked
