"""Records, names, splitting and answers of batch jobs, held against botocore's own model."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest

from include.nova import Disposition, NovaError, load_prompt
from include.nova.batch import (
    MIN_RECORDS,
    build_job,
    build_record,
    names_of,
    parse_answer,
    parse_manifest,
    record_id,
    rest_of,
    split_evenly,
)

PROFILE = "us.amazon.nova-2-lite-v1:0"
GOOD = {"description": "A cat.", "labels": [], "visible_text": "", "objects": []}


def output(file_id: int = 7, **changes: Any) -> bytes:
    use = {"toolUse": {"toolUseId": "t", "name": "record_image_analysis", "input": GOOD}}
    reply = {
        "output": {"message": {"role": "assistant", "content": [use]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 900, "outputTokens": 50, "totalTokens": 950},
    }
    return json.dumps({"recordId": record_id(file_id), "modelInput": {}, "modelOutput": {**reply, **changes}}).encode()


def error(status: Any, message: str = "words of Nova") -> bytes:
    told = {"errorCode": status, "errorMessage": message}
    return json.dumps({"recordId": record_id(7), "modelInput": {}, "error": told}).encode()


@pytest.mark.parametrize(
    ("count", "maximum", "sizes"),
    [
        (0, 50_000, []),
        (1, 50_000, [1]),
        (50_000, 50_000, [50_000]),
        (50_001, 50_000, [25_001, 25_000]),  # filled up, the second would have one record
        (201, 200, [101, 100]),
        (1000, 300, [250, 250, 250, 250]),
    ],
)
def test_jobs_are_as_few_and_as_equal_as_can_be(count: int, maximum: int, sizes: list[int]) -> None:
    assert split_evenly(count, maximum) == sizes


def test_no_job_of_a_split_backlog_is_below_the_minimum() -> None:
    for maximum in (200, 201, 333, 50_000):
        for count in range(maximum, maximum * 5, 97):
            sizes = split_evenly(count, maximum)
            assert sum(sizes) == count and max(sizes) <= maximum and min(sizes) >= MIN_RECORDS


def test_the_request_fits_botocores_model() -> None:
    names = names_of("nova_batch_inference/manual__2026-11-23T01:00:00+00:00", 3, 1)
    request = build_job(
        names,
        model_id=PROFILE,
        role_arn="arn:aws:iam::123456789012:role/batch",
        input_uri="s3://bucket/nova_batch/run/x/input/",
        output_uri="s3://bucket/nova_batch/run/x/output/",
        timeout_hours=48,
        bucket_owner="123456789012",
    )
    model = botocore.session.get_session().get_service_model("bedrock")
    members = model.operation_model("CreateModelInvocationJob").input_shape.members
    for name in ("jobName", "clientRequestToken", "modelId", "roleArn"):
        assert re.fullmatch(members[name].metadata["pattern"], request[name]), name
        assert len(request[name]) <= members[name].metadata["max"]
    uri = members["inputDataConfig"].members["s3InputDataConfig"].members["s3Uri"].metadata["pattern"]
    assert re.fullmatch(uri, request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
    assert request["modelInvocationType"] == "InvokeModel"


def test_names_follow_from_run_batch_and_number_alone() -> None:
    names = names_of("run", 0, 1)
    assert names == names_of("run", 0, 1)
    others = {names_of(*other).token for other in (("run", 0, 2), ("run", 1, 1), ("run2", 0, 1), ("run", 10, 1))}
    assert len(others) == 4 and names.token not in others


def test_a_record_is_one_line_of_nova_own_request() -> None:
    prompt = load_prompt()
    line = build_record(12, PROFILE, "s3://bucket/in/12.jpeg", "jpeg", prompt, "123456789012")
    assert "\n" not in line
    record = json.loads(line)
    assert record["recordId"] == "00000000012" and len(record["recordId"]) == 11
    body = record["modelInput"]
    assert set(body) == {"schemaVersion", "messages", "inferenceConfig", "toolConfig"}
    image = body["messages"][0]["content"][0]["image"]
    assert image["source"]["s3Location"] == {"uri": "s3://bucket/in/12.jpeg", "bucketOwner": "123456789012"}
    assert body["inferenceConfig"] == {"maxTokens": prompt.max_tokens, "temperature": 0}
    with pytest.raises(NovaError):
        build_record(12, PROFILE, "https://example.com/12", "jpeg", prompt)


def test_an_answer_is_read_with_what_it_cost() -> None:
    answer = parse_answer(output(), load_prompt())
    assert answer is not None and answer.reply is not None
    assert (answer.file_id, answer.reply.description) == (7, "A cat.")
    call = answer.call(datetime.now(UTC), "aws")
    assert (call.code, call.input_tokens, call.output_tokens, call.seconds, call.latency_ms) == (
        None,
        900,
        50,
        None,
        None,
    )


def test_a_malformed_answer_is_an_error_that_was_billed() -> None:
    answer = parse_answer(output(stopReason="max_tokens"), load_prompt())
    assert answer is not None and answer.error is not None
    assert (answer.error.code, answer.usage.output_tokens) == ("max_tokens", 50)
    assert answer.call(datetime.now(UTC), "aws").code == "max_tokens"


@pytest.mark.parametrize(
    ("status", "code", "disposition"),
    [
        (400, "validation", Disposition.FAIL),
        (403, "access_denied", Disposition.FATAL),
        (404, "unknown_model", Disposition.FATAL),
        (408, "model_timeout", Disposition.RETURN),
        (424, "model_error", Disposition.RETURN),
        (429, "throttled", Disposition.RETURN),
        (500, "internal_error", Disposition.RETURN),
        (503, "unavailable", Disposition.RETURN),
        (418, "request_refused", Disposition.FAIL),
        ("odd", "internal_error", Disposition.RETURN),
    ],
)
def test_an_error_record_is_judged_by_its_status(status: Any, code: str, disposition: Disposition) -> None:
    answer = parse_answer(error(status), load_prompt())
    assert answer is not None and answer.error is not None
    assert (answer.error.code, answer.error.disposition) == (code, disposition)
    assert "words of Nova" in answer.error.message
    assert answer.usage.input_tokens == 0


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[]", b'{"recordId":"abc"}', b'{"modelOutput":{}}', b"\xff\xfe"),
        *(b'{"recordId":1e999}', b'{"recordId":"99999999999999999999999"}', b'{"recordId":"-7"}'),
        b'{"recordId":"1","modelOutput":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_passed_over(line: bytes) -> None:
    assert parse_answer(line, load_prompt()) is None


@pytest.mark.parametrize("line", [b'{"recordId":"1","modelOutput":null}', b'{"recordId":"1","error":"text"}'])
def test_an_answer_of_another_shape_sends_the_image_back(line: bytes) -> None:
    answer = parse_answer(line, load_prompt())
    assert answer is not None and answer.error is not None
    assert answer.error.disposition is Disposition.RETURN


@pytest.mark.parametrize(
    "odd",
    [
        {"output": "x"},
        {"output": {"message": {"content": "x"}}},
        {"output": {"message": {"content": ["x"]}}},
        {"output": {"message": {"content": [{"toolUse": "x"}]}}},
        {"usage": "x"},
        {"usage": {"inputTokens": "many"}},
        {"stopReason": ["tool_use"]},
        {"metrics": "x"},
    ],
)
def test_one_odd_answer_does_not_keep_a_job_from_being_read(odd: dict[str, Any]) -> None:
    answer = parse_answer(output(**odd), load_prompt())
    assert answer is not None and answer.error is not None
    assert (answer.error.code, answer.error.disposition) == ("unreadable_response", Disposition.RETURN)


def test_every_end_of_a_job_has_a_code() -> None:
    ends = ("Completed", "PartiallyCompleted", "Expired", "Stopped", "Failed", "Lost")
    assert len({rest_of(end, None).code for end in ends}) == len(ends)
    assert rest_of("Failed", "no role").message == "the job failed: no role"


def test_a_manifest_is_read_and_anything_else_is_not() -> None:
    counts = {"totalRecordCount": 4, "processedRecordCount": 3, "successRecordCount": 2, "errorRecordCount": 1}
    manifest = parse_manifest(json.dumps({**counts, "inputTokenCount": 5}).encode())
    assert manifest is not None and (manifest.total, manifest.processed, manifest.input_tokens) == (4, 3, 5)
    assert parse_manifest(b"{}") is None and parse_manifest(b"not json") is None and parse_manifest(b"[1]") is None
