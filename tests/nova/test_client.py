"""One image through stock boto3 over real HTTP: what is retried, what is recorded, and what is never paid twice."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError, ResponseStreamingError

from include.nova import (
    AnalysedImage,
    Backoff,
    CallRecord,
    Disposition,
    NovaError,
    Usage,
    analyse_image,
    client_config,
    cost_usd,
    endpoint_of,
    load_prompt,
)

MODEL = "us.amazon.nova-2-lite-v1:0"


class Caller:
    """Analyses one image and keeps what was reported, each record with the number of requests made until then."""

    def __init__(self, client: Any, bedrock: Any) -> None:
        self.client, self.bedrock = client, bedrock
        self.calls: list[CallRecord] = []
        self.requests_at_report: list[int] = []
        self.waits: list[float] = []
        self.interrupt_at: int | None = None

    def _on_call(self, call: CallRecord) -> None:
        self.calls.append(call)
        self.requests_at_report.append(len(self.bedrock.requests))

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return len(self.waits) == self.interrupt_at

    def run(self, **changes: Any) -> AnalysedImage:
        given = {"model_id": MODEL, "image_uri": "s3://bucket/a.jpg", "image_format": "jpeg", "prompt": load_prompt()}
        return analyse_image(self.client, **{**given, "on_call": self._on_call, "wait": self._wait, **changes})

    def fails(self, **changes: Any) -> NovaError:
        with pytest.raises(NovaError) as caught:
            self.run(**changes)
        return caught.value


@pytest.fixture
def caller(client: Any, bedrock: Any) -> Caller:
    return Caller(client, bedrock)


def test_a_good_answer_is_returned_with_its_call(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(bedrock.good())
    before = datetime.now(UTC)
    done = caller.run(tier="flex", bucket_owner="123456789012")
    assert done.reply.description.startswith("A red bicycle")
    assert caller.calls == []  # the last call is the caller's to write, together with the answer
    assert before <= done.call.started_at <= datetime.now(UTC)
    assert (done.call.code, done.call.message) == (None, None)
    assert (done.call.input_tokens, done.call.output_tokens, done.call.latency_ms) == (1500, 200, 321)
    assert done.call.endpoint == "stand-in"
    assert done.call.seconds > 0
    [request] = bedrock.requests
    assert request.path == "/model/us.amazon.nova-2-lite-v1%3A0/converse"
    assert request.body["serviceTier"] == {"type": "flex"}


@pytest.mark.parametrize(
    ("aws_code", "status", "code"),
    [
        ("ThrottlingException", 429, "throttled"),
        ("ServiceUnavailableException", 503, "unavailable"),
        ("ModelNotReadyException", 429, "model_not_ready"),
        ("ModelTimeoutException", 408, "model_timeout"),
        ("ModelErrorException", 424, "model_error"),
        ("InternalServerException", 500, "internal_error"),
    ],
)
def test_trouble_of_the_service_is_waited_out(
    caller: Caller, bedrock: Any, aws_code: str, status: int, code: str
) -> None:
    bedrock.answers(bedrock.error(aws_code, status), bedrock.error(aws_code, status), bedrock.good())
    assert caller.run().call.code is None
    assert [call.code for call in caller.calls] == [code, code]
    assert caller.requests_at_report == [1, 2]  # each was reported before the next was made
    assert len(caller.waits) == 2
    assert len(bedrock.requests) == 3  # botocore added none of its own


def test_throttled_to_the_end_goes_back_to_pending(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(*[bedrock.error("ThrottlingException", 429, "Too many requests")] * 4)
    error = caller.fails(backoff=Backoff(attempts=4))
    assert (error.code, error.disposition) == ("throttled", Disposition.RETURN)
    assert "Too many requests" in error.message
    assert len(bedrock.requests) == len(caller.calls) == 4
    assert len(caller.waits) == 3


@pytest.mark.parametrize(
    ("aws_code", "status", "attempts"),
    [("ModelTimeoutException", 408, 3), ("ModelErrorException", 424, 3), ("InternalServerException", 500, 4)],
)
def test_what_one_image_may_cause_every_time_is_left_to_ever_rarer_later_runs(
    caller: Caller, bedrock: Any, aws_code: str, status: int, attempts: int
) -> None:
    bedrock.answers(*[bedrock.error(aws_code, status)] * 9)
    error = caller.fails()
    assert error.disposition is Disposition.LATER
    assert len(bedrock.requests) == len(caller.calls) == attempts


def test_a_call_knows_its_bytes_and_the_tier_it_was_served_at(caller: Caller, bedrock: Any) -> None:
    served = bedrock.good()
    served[2]["serviceTier"] = {"type": "default"}
    bedrock.answers(bedrock.error("ThrottlingException", 429), served)
    done = caller.run(tier="flex")
    assert caller.calls[0].tier == "flex"
    assert done.call.tier == "default"  # Bedrock may fall back, and bills what it served
    assert done.call.request_bytes == bedrock.requests[1].size


def test_an_answer_served_at_a_tier_without_a_price_is_not_lost(caller: Caller, bedrock: Any) -> None:
    served = bedrock.good()
    served[2]["serviceTier"] = {"type": "reserved"}
    bedrock.answers(served)
    done = caller.run(tier="priority")
    assert done.call.tier == "priority"
    assert cost_usd(MODEL, done.call.tier, done.call.input_tokens, done.call.output_tokens) > 0


def test_a_used_up_daily_quota_is_not_waited_for(caller: Caller, bedrock: Any) -> None:
    said = "Too many tokens per day, please wait before trying again."
    bedrock.answers(bedrock.error("ThrottlingException", 429, said))
    error = caller.fails()
    assert (error.code, error.disposition) == ("daily_quota", Disposition.RETURN)
    assert caller.waits == []


def test_an_interrupted_wait_makes_no_further_request(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(*[bedrock.error("ThrottlingException", 429)] * 2)
    caller.interrupt_at = 2
    error = caller.fails()
    assert (error.code, error.disposition) == ("interrupted", Disposition.RETURN)
    assert len(bedrock.requests) == len(caller.calls) == 2


def test_waits_double_up_to_the_cap_and_are_spread() -> None:
    backoff = Backoff(attempts=9, base_seconds=1, cap_seconds=8)
    for failures, ceiling in [(1, 1), (2, 2), (3, 4), (4, 8), (8, 8)]:
        delays = [backoff.delay(failures) for _ in range(300)]
        assert 0 <= min(delays) < ceiling * 0.2
        assert ceiling * 0.8 < max(delays) <= ceiling


def test_a_malformed_answer_is_asked_for_once_more(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(bedrock.good(tool_input={"labels": []}), bedrock.good())
    assert caller.run().call.code is None
    [call] = caller.calls
    assert (call.code, call.input_tokens, call.output_tokens) == ("malformed_answer", 1500, 200)
    assert caller.requests_at_report == [1]
    assert caller.waits == []


def test_malformed_twice_is_refused_and_both_are_billed(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(bedrock.good(stop="malformed_tool_use"), bedrock.good(tool_input={"labels": []}))
    error = caller.fails()
    assert (error.code, error.disposition) == ("malformed_answer", Disposition.FAIL)
    assert error.usage == Usage(1500, 200)
    assert [(call.code, call.output_tokens) for call in caller.calls] == [
        ("malformed_tool_use", 200),
        ("malformed_answer", 200),
    ]


def test_throttling_between_two_malformed_answers_gives_no_third(caller: Caller, bedrock: Any) -> None:
    malformed = bedrock.good(tool_input={"labels": []})
    bedrock.answers(malformed, bedrock.error("ThrottlingException", 429), malformed, bedrock.good())
    assert caller.fails().code == "malformed_answer"
    assert [call.code for call in caller.calls] == ["malformed_answer", "throttled", "malformed_answer"]


@pytest.mark.parametrize("stop", ["max_tokens", "content_filtered", "guardrail_intervened"])
def test_a_withheld_answer_is_paid_once(caller: Caller, bedrock: Any, stop: str) -> None:
    bedrock.answers(bedrock.good(stop=stop), bedrock.good())
    error = caller.fails()
    assert (error.code, error.disposition, error.usage) == (stop, Disposition.FAIL, Usage(1500, 200))
    [call] = caller.calls
    assert (call.code, call.input_tokens, call.latency_ms) == (stop, 1500, 321)
    assert len(bedrock.requests) == 1


BASE_ID = (
    "Invocation of model ID amazon.nova-2-lite-v1:0 with on-demand throughput isn\u2019t supported. "
    "Retry your request with the ID or ARN of an inference profile that contains this model."
)


@pytest.mark.parametrize(
    ("aws_code", "status", "words", "code", "disposition", "says"),
    [
        ("ValidationException", 400, "The image is too large.", "validation", "fail", "The image is too large."),
        ("ValidationException", 400, "The specified key does not exist.", "validation", "fail", "key does not exist"),
        ("ValidationException", 400, BASE_ID, "missing_profile", "fatal", "us.amazon.nova-2-lite-v1:0"),
        ("ValidationException", 400, "The provided model identifier is invalid.", "unknown_model", "fatal", "model_id"),
        (
            "ValidationException",
            400,
            "The specified bucket does not exist",
            "missing_bucket",
            "fatal",
            "bucket setting",
        ),
        ("ValidationException", 400, "Access denied to s3://b/k", "s3_access_denied", "fatal", "s3:GetObject"),
        ("ValidationException", 400, "serviceTier flex is not supported", "unsupported_tier", "fatal", "tier"),
        ("AccessDeniedException", 403, "not authorized", "access_denied", "fatal", "bedrock:InvokeModel"),
        ("AccessDeniedException", 403, "no s3:GetObject", "s3_access_denied", "fatal", "s3:ListBucket"),
        ("ResourceNotFoundException", 404, "Model not found.", "unknown_model", "fatal", "inference profile"),
        ("UnrecognizedClientException", 403, "bad token", "bad_credentials", "fatal", "credentials"),
        ("ExpiredTokenException", 403, "expired", "bad_credentials", "fatal", "credentials"),
    ],
)
def test_a_refusal_is_never_repeated_and_says_what_to_do(
    *, caller: Caller, bedrock: Any, aws_code: str, status: int, words: str, code: str, disposition: str, says: str
) -> None:
    bedrock.answers(bedrock.error(aws_code, status, words), bedrock.good())
    error = caller.fails()
    assert (error.code, error.disposition.value) == (code, disposition)
    assert says in error.message
    assert [call.code for call in caller.calls] == [code]
    assert len(bedrock.requests) == 1


def test_a_signature_error_takes_no_secret_along(caller: Caller, bedrock: Any) -> None:
    words = "The Canonical String should have been 'x-amz-security-token:SECRET-TOKEN'"
    bedrock.answers(bedrock.error("InvalidSignatureException", 403, words))
    error = caller.fails()
    assert error.code == "bad_credentials"
    assert "InvalidSignatureException" in error.message
    assert "SECRET-TOKEN" not in str(error) + str(caller.calls)


def test_a_late_answer_is_not_asked_for_again(bedrock: Any, make_client: Callable[..., Any]) -> None:
    bedrock.answers(bedrock.silence, bedrock.good())
    caller = Caller(make_client(bedrock.url, read_timeout=0.3), bedrock)
    error = caller.fails()
    assert (error.code, error.disposition) == ("read_timeout", Disposition.LATER)
    assert len(bedrock.requests) == 1  # it may be billed: it is on record, and nobody repeats it here
    assert [call.code for call in caller.calls] == ["read_timeout"]
    assert caller.waits == []


def test_a_broken_connection_is_not_tried_again(caller: Caller, bedrock: Any) -> None:
    bedrock.answers(bedrock.hang_up, bedrock.good())
    error = caller.fails()
    assert (error.code, error.disposition) == ("connection_lost", Disposition.LATER)
    assert len(bedrock.requests) == 1
    assert [call.code for call in caller.calls] == ["connection_lost"]


def test_a_refused_connection_is_no_call(bedrock: Any, make_client: Callable[..., Any]) -> None:
    with socket.socket() as closed:  # holds a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        caller = Caller(make_client(f"http://127.0.0.1:{closed.getsockname()[1]}"), bedrock)
        error = caller.fails()
    assert (error.code, error.disposition) == ("connection_failed", Disposition.RETURN)
    assert caller.calls == []


@pytest.mark.parametrize("page", [b"<html>Please log in to the proxy</html>", b"{}"])
def test_a_proxys_page_is_not_blamed_on_the_image(caller: Caller, bedrock: Any, page: bytes) -> None:
    bedrock.answers((200, None, page))
    error = caller.fails()
    assert (error.code, error.disposition) == ("unreadable_response", Disposition.RETURN)


@pytest.mark.parametrize(
    ("raised", "code", "disposition", "recorded"),
    [
        (NoCredentialsError(), "bad_credentials", Disposition.FATAL, []),
        (ResponseStreamingError(error="cut off"), "connection_lost", Disposition.LATER, ["connection_lost"]),
    ],
)
def test_what_boto3_raises_by_itself_is_typed(
    *, bedrock: Any, raised: Exception, code: str, disposition: Disposition, recorded: list[str], client: Any
) -> None:
    def refuse(**_: Any) -> None:
        raise raised

    client.meta.events.register("before-send.bedrock-runtime.Converse", refuse)
    caller = Caller(client, bedrock)
    error = caller.fails()
    assert (error.code, error.disposition) == (code, disposition)
    assert [call.code for call in caller.calls] == recorded


def test_a_bug_of_ours_is_not_dressed_up_as_novas(client: Any, bedrock: Any) -> None:
    def broken(**_: Any) -> None:
        raise ZeroDivisionError

    client.meta.events.register("before-send.bedrock-runtime.Converse", broken)
    with pytest.raises(ZeroDivisionError):
        Caller(client, bedrock).run()


def test_a_failing_record_stops_before_the_next_request(caller: Caller, bedrock: Any) -> None:
    def lost(call: CallRecord) -> None:
        raise OSError("the catalog is away")

    bedrock.answers(bedrock.error("ThrottlingException", 429), bedrock.good())
    with pytest.raises(OSError, match="catalog is away"):
        caller.run(on_call=lost)
    assert len(bedrock.requests) == 1


def test_the_client_config_allows_one_attempt_and_many_connections() -> None:
    config = client_config()
    assert config["retries"]["total_max_attempts"] == 1
    assert config["read_timeout"] > 60
    assert config["max_pool_connections"] >= 64


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        (None, "aws"),
        ("https://vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws"),
        ("https://bedrock-runtime.us-east-1.api.aws", "aws"),
        ("http://127.0.0.1:8080", "stand-in"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com.evil.example", "stand-in"),
        ("https://evilamazonaws.com", "stand-in"),
        ("http://localhost:80/bedrock-runtime.us-east-1.amazonaws.com", "stand-in"),
    ],
)
def test_only_amazons_hosts_count_as_aws(make_client: Callable[..., Any], url: str | None, endpoint: str) -> None:
    assert endpoint_of(make_client(url)) == endpoint
