"""Trouble that is asked for or befalls it, the log of calls, and the process: stock boto3 against the stand-in."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from include.local.nova_stand_in import Forced, NovaStandIn, StandInSettings
from include.local.nova_stand_in.errors import converse_operation
from include.local.nova_stand_in.settings import stop_reasons
from include.local.seaweedfs import SeaweedFS
from tests.local.nova_stand_in.calls import (
    BUCKET,
    GOOD,
    PROFILE,
    ROOT,
    Analysis,
    bedrock,
    code_of,
    converse,
    image,
    posted,
    refused,
    tool_input,
    words_of,
)


def test_an_unreachable_s3_is_the_services_fault(s3: SeaweedFS) -> None:
    dead = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with NovaStandIn(StandInSettings(), dead) as stand_in:
        assert code_of(refused(bedrock(stand_in.url), image("blue.jpg"))) == "ServiceUnavailableException"


def test_wrong_keys_for_s3_are_told_as_denied(s3: SeaweedFS) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIASTRANGER",
        aws_secret_access_key="wrong",
        config=Config(s3={"addressing_style": "path"}),
    )
    with NovaStandIn(StandInSettings(), stranger) as stand_in:
        error = refused(bedrock(stand_in.url), image("blue.jpg"))
    assert "access is denied" in words_of(error)


# Trouble on demand


@pytest.mark.parametrize("shape", converse_operation().error_shapes, ids=lambda shape: shape.name)
def test_each_error_of_converse_can_be_forced(stand_in: NovaStandIn, shape: Any) -> None:
    client = bedrock(stand_in.url)
    stand_in.change(forced=(Forced(error=shape.name, message="as told", times=1),))

    error = refused(client, image("blue.jpg"))

    assert isinstance(error, getattr(client.exceptions, shape.name))
    assert words_of(error) == "as told"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == shape.metadata["error"]["httpStatusCode"]
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["x-nova-stand-in"] == "true"
    assert converse(client, image("blue.jpg"))["stopReason"] == "tool_use"
    assert [(call.error, call.forced) for call in stand_in.calls()] == [(shape.name, True), (None, False)]


def test_a_rule_hits_the_calls_it_names(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)
    stand_in.change(
        forced=(
            Forced(key_contains="red", error="ModelErrorException"),
            Forced(calls=(3,), error="ModelErrorException"),
        )
    )

    for _ in range(2):
        refused(client, image("red.png"))
    refused(client, image("blue.jpg"))
    converse(client, image("blue.jpg"))
    stand_in.change(forced=())
    converse(client, image("red.png"))


def test_botocore_retries_a_throttled_call_to_its_answer(stand_in: NovaStandIn) -> None:
    stand_in.change(forced=(Forced(error="ThrottlingException", times=1),))
    client = bedrock(stand_in.url, retries={"total_max_attempts": 2, "mode": "standard"})

    converse(client, image("blue.jpg"))

    assert [call.status for call in stand_in.calls()] == [429, 200]


def test_tool_use_can_be_malformed(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)

    def spoilt(rule: Forced) -> Any:
        stand_in.change(forced=(rule,))
        return converse(client, image("blue.jpg"))

    assert isinstance(tool_input(spoilt(Forced(malformed="input_text"))), str)
    assert "description" not in tool_input(spoilt(Forced(missing_field="description")))
    assert tool_input(spoilt(Forced(wrong_field="description")))["description"] == 7
    assert isinstance(tool_input(spoilt(Forced(wrong_field="labels")))["labels"], str)
    none = spoilt(Forced(malformed="no_tool_use"))
    assert (none["stopReason"], list(none["output"]["message"]["content"][0])) == ("end_turn", ["text"])
    other = spoilt(Forced(malformed="wrong_tool"))["output"]["message"]["content"][0]["toolUse"]
    assert other["name"] == "another_tool"


@pytest.mark.parametrize("reason", stop_reasons())
def test_each_stop_reason_can_be_forced(stand_in: NovaStandIn, reason: str) -> None:
    stand_in.change(forced=(Forced(stop_reason=reason),))
    response = converse(bedrock(stand_in.url), image("blue.jpg"))
    assert response["stopReason"] == stand_in.calls()[-1].stop_reason == reason
    if reason in ("max_tokens", "content_filtered", "malformed_tool_use"):
        made = response["output"]["message"]["content"]
        with pytest.raises((ValueError, KeyError, IndexError)):
            Analysis.model_validate(made[0]["toolUse"]["input"])


def test_the_throttling_rate_is_met_and_repeats_itself(pooled: Any) -> None:
    def throttled(seed: int) -> list[int]:
        with NovaStandIn(StandInSettings(throttle_rate=0.3, throttle_seed=seed), pooled) as stand_in:
            for _ in range(200):
                posted(stand_in.url, GOOD)
            assert {call.status for call in stand_in.calls()} == {200, 429}
            return [call.call for call in stand_in.calls() if call.error == "ThrottlingException"]

    first = throttled(1)
    assert 45 <= len(first) <= 75  # 60 expected, 2.3 standard deviations
    assert throttled(1) == first
    assert throttled(2) != first


def test_an_answer_that_came_too_late_is_in_the_log_all_the_same(stand_in: NovaStandIn) -> None:
    stand_in.change(forced=(Forced(latency_ms=1500),))
    with pytest.raises(ReadTimeoutError):
        converse(bedrock(stand_in.url, read_timeout=0.2), image("blue.jpg"))
    stand_in.stop()  # waits for the call, and cuts its latency short
    assert [(call.status, call.stop_reason) for call in stand_in.calls()] == [(200, "tool_use")]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"error": "NoSuchException"},
        {"error": "ThrottlingException", "stop_reason": "max_tokens"},
        {"stop_reason": "tired"},
        {"malformed": "badly"},
        {"error": "ThrottlingException", "times": 0},
        {"eror": "ThrottlingException"},
        {"error": "ThrottlingException", "calls": 3},
        [],
    ],
)
def test_a_rule_that_could_never_work_is_refused(rule: Any) -> None:
    with pytest.raises(ValueError):
        Forced.from_json(json.dumps(rule))


@pytest.mark.parametrize("wrong", [{"throttle_rate": 1.1}, {"latency_ms": -1}, {"port": 70_000}])
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StandInSettings(**wrong)


# The log, many at once, and the process


def test_the_log_tells_each_call_and_no_content(stand_in: NovaStandIn, tmp_path: Path) -> None:
    client = bedrock(stand_in.url)
    response = converse(client, image("blue.jpg"), serviceTier={"type": "flex"})
    refused(client, image("missing.jpg"))

    text = (tmp_path / "calls.jsonl").read_text()
    good, bad = (json.loads(line) for line in text.splitlines())

    assert good["request_id"] == response["ResponseMetadata"]["RequestId"]
    assert good["s3_uri"] == f"s3://{BUCKET}/blue.jpg"
    assert (good["model"], good["status"], good["error"]) == (PROFILE, 200, None)
    assert (good["stop_reason"], good["images"], good["service_tier"]) == ("tool_use", 1, "flex")
    assert good["input_tokens"] == response["usage"]["inputTokens"]
    assert good["output_tokens"] == response["usage"]["outputTokens"] > 0
    assert (bad["status"], bad["error"], bad["output_tokens"]) == (400, "ValidationException", 0)
    started, ended = (datetime.fromisoformat(good[name]) for name in ("started", "ended"))
    assert started.utcoffset() is not None
    assert started <= ended
    for secret in ("Describe the picture", "AKIAEXAMPLE", "Signature", "mostly"):
        assert secret not in text


def test_calls_at_once_overlap_and_none_is_lost(stand_in: NovaStandIn, tmp_path: Path) -> None:
    stand_in.change(latency_ms=400)
    client = bedrock(stand_in.url)
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: converse(client, image("blue.jpg")), range(32)))

    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert {line["request_id"] for line in lines} == {one["ResponseMetadata"]["RequestId"] for one in responses}
    assert sorted(line["call"] for line in lines) == list(range(1, 33))
    events = sorted([(line["started"], 1) for line in lines] + [(line["ended"], -1) for line in lines])
    running = most = 0
    for _, change in events:
        running += change
        most = max(most, running)
    assert 8 <= most <= 16
    assert all(one["metrics"]["latencyMs"] >= 400 for one in responses)


def test_a_stopped_stand_in_answers_no_kept_connection(stand_in: NovaStandIn) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(stand_in.url).netloc, timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert json.loads(response.read())["service"] == "Nova stand-in, not Nova"
    stand_in.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.request("GET", "/")
        connection.getresponse()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_serves_and_ends_cleanly(s3: SeaweedFS, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "logs" / "calls.jsonl"
    rule = json.dumps({"key_contains": "red", "error": "ThrottlingException", "times": 2})
    argv = ["--port", "0", "--s3-endpoint", s3.endpoint_url, "--log", str(log), "--latency-ms", "20", "--force", rule]
    keys = {"AWS_ACCESS_KEY_ID": s3.credentials.access_key, "AWS_SECRET_ACCESS_KEY": s3.credentials.secret_key}
    process = subprocess.Popen(
        [sys.executable, "-m", "include.local.nova_stand_in", *argv],
        cwd=ROOT,
        env={**os.environ, **keys},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        client = bedrock(ready["url"])
        assert ready["pid"] == process.pid
        assert converse(client, image("blue.jpg"))["metrics"]["latencyMs"] >= 20
        assert code_of(refused(client, image("red.png"))) == "ThrottlingException"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (0, "", "")
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [200, 429]


def test_the_process_refuses_settings_that_cannot_be(tmp_path: Path) -> None:
    argv = ["--s3-endpoint", "http://127.0.0.1:1", "--log", str(tmp_path / "log"), "--throttle-rate", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "include.local.nova_stand_in", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "throttle_rate" in done.stderr


def test_a_teams_own_schema_is_answered(stand_in: NovaStandIn) -> None:
    schema = {
        "type": "object",
        "properties": {
            "orientation": {"enum": ["portrait", "landscape", "square"]},
            "people_count": {"type": "integer", "minimum": 0, "maximum": 20},
        },
        "required": ["orientation", "people_count"],
        "additionalProperties": False,
    }
    tools = {"tools": [{"toolSpec": {"name": "own", "inputSchema": {"json": schema}}}], "toolChoice": {"any": {}}}
    made = tool_input(converse(bedrock(stand_in.url), image("blue.jpg"), toolConfig=tools))
    jsonschema.validate(made, schema)
    assert made["orientation"] == "landscape"
