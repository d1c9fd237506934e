"""What of Nova's answers is taken, mended and refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from include.nova import Disposition, ImageAnalysis, NovaError, Usage, load_prompt, parse_reply
from include.nova.errors import BY_AWS_CODE, rule_for
from include.nova.errors import NovaError as ErrorsNovaError

Body = Callable[..., dict[str, Any]]


def test_a_good_answer_becomes_plain_values(converse_body: Body, answer: dict[str, Any]) -> None:
    reply = parse_reply(converse_body(), load_prompt())
    assert reply.description == answer["description"]
    assert reply.labels == ({"name": "bicycle", "confidence": 0.98},)
    assert reply.objects == ({"name": "bicycle", "box": [100, 200, 700, 900]},)
    assert reply.visible_text == "NO PARKING"
    assert (reply.stop_reason, reply.usage, reply.latency_ms) == ("tool_use", Usage(1500, 200), 321)


def test_text_before_the_tool_call_does_not_hide_it(converse_body: Body, answer: dict[str, Any]) -> None:
    use = {"toolUse": {"toolUseId": "t", "name": "record_image_analysis", "input": answer}}
    body = converse_body(content=[{"text": "Here it is."}, use], stop="end_turn")
    assert parse_reply(body, load_prompt()).description == answer["description"]


def test_harmless_slips_are_mended(converse_body: Body, answer: dict[str, Any]) -> None:
    answer["description"] = "  A\x00 bike\ud800.  "
    answer["visible_text"] = None
    answer["labels"] = [{"name": " bike ", "confidence": 1.005}, {"name": " ", "confidence": 0.5}]
    answer["labels"] += [{"name": f"label {n}", "confidence": 0.1, "colour": "red"} for n in range(60)]
    answer["objects"] = [
        {"name": "bike", "box": [700.4, 900, 100, 1006]},
        {"name": "nothing", "box": [5, 5, 5, 9]},
    ]
    reply = parse_reply(converse_body(answer), load_prompt())
    assert reply.description == "A bike."
    assert reply.visible_text == ""
    assert reply.labels[0] == {"name": "bike", "confidence": 1.0}
    assert len(reply.labels) == 20
    assert reply.labels[1] == {"name": "label 0", "confidence": 0.1}
    assert reply.objects == ({"name": "bike", "box": [100, 900, 700, 1000]},)


def test_an_overlong_transcription_is_cut_not_refused(converse_body: Body, answer: dict[str, Any]) -> None:
    answer["visible_text"] = "x" * 20_000
    assert len(parse_reply(converse_body(answer), load_prompt()).visible_text) == 10_000


def test_left_out_lists_are_empty(converse_body: Body) -> None:
    reply = parse_reply(converse_body({"description": "Fog."}), load_prompt())
    assert (reply.labels, reply.objects, reply.visible_text) == ((), (), "")


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("description", " ", "description"),
        ("description", None, "description"),
        ("labels", "bicycle", "labels"),
        ("labels", [{"name": "bicycle", "confidence": 98}], "labels.0.confidence"),
        ("labels", [{"name": "bicycle", "confidence": math.nan}], "labels.0.confidence"),
        ("objects", [{"name": "bicycle", "box": [0, 0, 1920, 1080]}], "objects.0.box.2"),  # pixels, not the scale
        ("objects", [{"name": "bicycle", "box": [1, 2, 3]}], "objects.0.box"),
    ],
)
def test_what_would_be_false_is_refused(
    converse_body: Body, answer: dict[str, Any], field: str, value: Any, where: str
) -> None:
    with pytest.raises(NovaError) as caught:
        parse_reply(converse_body({**answer, field: value}), load_prompt())
    assert caught.value.code == "malformed_answer"
    assert where in caught.value.message
    assert caught.value.usage == Usage(1500, 200)


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        ("malformed_tool_use", "malformed_tool_use"),
        ("malformed_model_output", "malformed_model_output"),
        ("max_tokens", "max_tokens"),
        ("content_filtered", "content_filtered"),
        ("guardrail_intervened", "guardrail_intervened"),
        ("model_context_window_exceeded", "context_window_exceeded"),
        ("tired", "unexpected_stop_reason"),
    ],
)
def test_each_way_of_stopping_early_has_its_code_and_its_bill(converse_body: Body, stop: str, code: str) -> None:
    with pytest.raises(NovaError) as caught:
        parse_reply(converse_body(stop=stop), load_prompt())
    assert (caught.value.code, caught.value.disposition) == (code, Disposition.FAIL)
    assert caught.value.usage == Usage(1500, 200)


@pytest.mark.parametrize("content", [[], [{"text": "I see a bicycle."}], [{"toolUse": {"name": "other", "input": {}}}]])
def test_an_answer_beside_the_tool_is_malformed(converse_body: Body, content: list[Any]) -> None:
    with pytest.raises(NovaError) as caught:
        parse_reply(converse_body(content=content, stop="end_turn"), load_prompt())
    assert caught.value.code == "malformed_tool_use"
    assert caught.value.usage == Usage(1500, 200)


def test_every_row_of_the_table_names_an_action() -> None:
    assert ErrorsNovaError is NovaError
    for aws_code, rule in BY_AWS_CODE.items():
        assert rule.disposition is not Disposition.FATAL or rule.advice, f"{aws_code} says not what to do"


@pytest.mark.parametrize(
    ("aws_code", "status", "code", "disposition"),
    [
        ("SomethingNew", 429, "throttled", Disposition.RETRY),
        ("SomethingNew", 503, "unavailable", Disposition.RETRY),
        ("SomethingNew", 500, "internal_error", Disposition.RETRY),
        ("SomethingNew", None, "internal_error", Disposition.RETRY),
        ("SomethingNew", 401, "bad_credentials", Disposition.FATAL),
        ("SomethingNew", 403, "access_denied", Disposition.FATAL),
        ("SomethingNew", 418, "request_refused", Disposition.FAIL),
    ],
)
def test_an_unknown_error_is_judged_by_its_status(
    aws_code: str, status: int | None, code: str, disposition: Disposition
) -> None:
    rule = rule_for(aws_code, "", status)
    assert (rule.code, rule.disposition) == (code, disposition)


class Caption(BaseModel):
    description: str
    mood: str = ""
    scores: dict[str, float] = Field(default_factory=dict)


class Detailed(ImageAnalysis):
    notes: list[str] = Field(default_factory=list)


def test_a_teams_own_fields_hold_nothing_that_no_database_stores(converse_body: Body, answer: dict[str, Any]) -> None:
    own = load_prompt(output_model=Caption)
    given = {"description": "a\0 \ud800cat", "mood": "\ud800calm\0", "scores": {"sure\0": math.nan, "sharp": 0.5}}
    reply = parse_reply(converse_body(tool_input=given), own)
    assert reply.description == "a cat"
    assert reply.extra == {"mood": "calm", "scores": {"sure": None, "sharp": 0.5}}
    derived = load_prompt(output_model=Detailed)
    reply = parse_reply(converse_body(tool_input={**answer, "notes": ["one\0", "\ud800"]}), derived)
    assert reply.extra == {"notes": ["one", ""]}


@pytest.mark.parametrize(
    ("aws_code", "message", "code"),
    [
        ("ValidationException", "s3://b/p/permission-slip_7_nova.jpg cannot be read: no such key", "validation"),
        ("ValidationException", "the object s3://bucket/forbidden.jpg does not exist", "validation"),
        (
            "AccessDeniedException",
            "User: arn:aws:sts::123456789012:assumed-role/etl-s3-role/task is not authorized to perform: "
            "bedrock:InvokeModel on resource: arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
            "access_denied",
        ),
        (
            "AccessDeniedException",
            "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: s3:GetObject on resource: "
            '"arn:aws:s3:::b/k"',
            "s3_access_denied",
        ),
    ],
)
def test_names_that_people_chose_do_not_decide_what_an_error_is(aws_code: str, message: str, code: str) -> None:
    """Else one picture called permission.jpg fails its whole task, and a role's name hides which right is missing."""
    assert rule_for(aws_code, message, 403 if aws_code.startswith("Access") else 400).code == code


def test_an_error_survives_the_way_between_processes() -> None:
    sent = NovaError("max_tokens", "too long", Disposition.FAIL, Usage(3, 4))
    got = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own bytes
    assert (got.code, got.message, got.disposition, got.usage) == (
        "max_tokens",
        "too long",
        Disposition.FAIL,
        Usage(3, 4),
    )
    assert str(got) == str(sent)
