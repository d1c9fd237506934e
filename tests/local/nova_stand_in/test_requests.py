"""What is answered and what is refused: stock boto3 against the stand-in."""

from __future__ import annotations

import base64
import json
import socket
import urllib.parse
import zlib
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from PIL import Image

from include.local.nova_stand_in import NovaStandIn, StandInSettings
from tests.local.nova_stand_in.calls import (
    BUCKET,
    GOOD,
    PROFILE,
    TOOL,
    Analysis,
    bedrock,
    code_of,
    converse,
    encoded,
    image,
    pictures,
    posted,
    refused,
    tool_input,
    turn,
    words_of,
)


def test_a_forced_tool_gets_an_answer_that_fits_the_schema_and_owns_up(stand_in: NovaStandIn) -> None:
    response = converse(bedrock(stand_in.url), image("blue.jpg"))

    use = response["output"]["message"]["content"][0]["toolUse"]
    analysis = Analysis.model_validate(use["input"])
    assert use["name"] == "describe"
    assert response["stopReason"] == "tool_use"
    assert "not Nova" in analysis.description
    assert "blue" in analysis.description
    assert "1200 x 900" in analysis.description
    assert "blue" in {label.name for label in analysis.labels}
    for found in analysis.objects:
        x1, y1, x2, y2 = found.box
        assert 0 <= x1 < x2 <= 1000
        assert 0 <= y1 < y2 <= 1000
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-nova-stand-in"] == "true"
    assert response["ResponseMetadata"]["RequestId"]


def test_the_answer_follows_from_the_pixels_and_from_nothing_else(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)

    blue, again = (tool_input(converse(client, image("blue.jpg"))) for _ in range(2))
    same_pixels = tool_input(converse(client, image("a folder/with space & ümlaut.jpg")))
    red = tool_input(converse(client, image("red.png")))

    assert blue == again == same_pixels
    assert "red" in red["description"]
    assert "portrait" in red["description"]
    assert "blue" not in red["description"]


def test_text_in_the_picture_changes_nothing(stand_in: NovaStandIn) -> None:
    said = tool_input(converse(bedrock(stand_in.url), image("print.png")))

    assert "text-like" in said["description"]
    assert "42" not in json.dumps(said)
    assert said["visible_text"] == []


def test_an_upright_size_is_told_for_a_turned_picture(stand_in: NovaStandIn) -> None:
    assert "900 x 1200" in tool_input(converse(bedrock(stand_in.url), image("turned.jpg")))["description"]


@pytest.mark.parametrize("key", ["green.gif", "grey.webp", "widest.png"])
def test_every_format_of_novas_and_the_largest_side_are_taken(stand_in: NovaStandIn, key: str) -> None:
    Analysis.model_validate(tool_input(converse(bedrock(stand_in.url), image(key))))


def test_an_embedded_picture_gives_the_same_answer_as_a_stored_one(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)
    embedded = {"image": {"format": "jpeg", "source": {"bytes": pictures()["blue.jpg"]}}}

    assert tool_input(converse(client, embedded)) == tool_input(converse(client, image("blue.jpg")))


def test_tokens_follow_the_documented_rules(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)

    def tokens(**fields: Any) -> int:
        return int(converse(client, toolConfig=None, **fields)["usage"]["inputTokens"])

    text = tokens(messages=[turn()])
    with_image, with_two = (tokens(messages=[turn(*[image("blue.jpg")] * count)]) for count in (1, 2))
    nova_1 = tokens(messages=[turn(image("blue.jpg"))], modelId="us.amazon.nova-lite-v1:0")

    assert text == 6  # 21 characters
    assert with_image - text == with_two - with_image == round(1200 * 900 / 784)
    assert nova_1 - text == round(202 + 1200 * 900 / 733)


def test_without_a_tool_the_answer_is_text_and_ends_at_max_tokens(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)
    whole = converse(client, image("blue.jpg"), toolConfig=None, serviceTier={"type": "flex"})
    cut = converse(client, image("blue.jpg"), toolConfig=None, inferenceConfig={"maxTokens": 2})

    assert whole["stopReason"] == "end_turn"
    assert whole["serviceTier"] == {"type": "flex"}
    assert "not Nova" in whole["output"]["message"]["content"][0]["text"]
    assert cut["stopReason"] == "max_tokens"
    assert cut["usage"]["outputTokens"] == 2


def test_a_tool_input_that_max_tokens_cannot_hold_is_a_model_error(stand_in: NovaStandIn) -> None:
    error = refused(bedrock(stand_in.url), image("blue.jpg"), inferenceConfig={"maxTokens": 10})
    assert code_of(error) == "ModelErrorException"


# What is refused


@pytest.mark.parametrize(
    "model_id",
    [
        "eu.amazon.nova-2-lite-v1:0",
        "jp.amazon.nova-2-lite-v1:0",
        "global.amazon.nova-2-lite-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-2-lite-v1:0",
        "amazon.nova-lite-v1:0",
        "us.amazon.nova-pro-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
    ],
)
def test_these_model_ids_are_answered(stand_in: NovaStandIn, model_id: str) -> None:
    assert converse(bedrock(stand_in.url), modelId=model_id)["stopReason"] == "tool_use"
    assert stand_in.calls()[-1].model == model_id


def test_the_base_model_id_is_refused_in_bedrocks_words(stand_in: NovaStandIn) -> None:
    base = "amazon.nova-2-lite-v1:0"
    for model_id in (base, f"arn:aws:bedrock:us-east-1::foundation-model/{base}"):
        error = refused(bedrock(stand_in.url), modelId=model_id)
        assert code_of(error) == "ValidationException"
        assert words_of(error) == (
            f"Invocation of model ID {model_id} with on-demand throughput isn't supported. Retry your request with the "
            "ID or ARN of an inference profile that contains this model."
        )


@pytest.mark.parametrize("model_id", ["us.amazon.nova-9", "ca.amazon.nova-2-lite-v1:0", "amazon.nova-2-lite-v1"])
def test_an_unknown_model_id_is_refused(stand_in: NovaStandIn, model_id: str) -> None:
    error = refused(bedrock(stand_in.url), modelId=model_id)
    assert (code_of(error), words_of(error)) == ("ValidationException", "The provided model identifier is invalid.")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (image("blue.jpg", "png"), "does not match the specified image format"),
        (image("picture.tiff", "jpeg"), "does not match the specified image format"),
        (image("empty.jpg"), "does not match the specified image format"),
        (image("cut.jpg"), "cannot be processed"),
        (image("wide.png"), "8000 x 8000"),
        (image("missing.jpg"), "the key does not exist"),
        (image("blue.jpg", bucket="no-such-bucket"), "the bucket does not exist"),
        (image("", "jpeg"), "names no object"),
        (image("a/", "jpeg"), "names no object"),
        (image("picture.tiff", "tiff"), "Member must satisfy enum value set: [gif, jpeg, png, webp]"),
        (image("k" * 1010 + ".jpg"), "length less than or equal to 1024"),
        (image("blue.jpg", bucketOwner="12"), "regular expression"),
    ],
)
def test_a_picture_that_nova_does_not_take_is_refused(stand_in: NovaStandIn, block: Any, words: str) -> None:
    error = refused(bedrock(stand_in.url), block)
    assert code_of(error) == "ValidationException"
    assert words in words_of(error)


def test_one_that_does_not_look_answers_all_the_same_and_logs_what_was_named(tmp_path: Path) -> None:
    settings = StandInSettings(log_path=tmp_path / "calls.jsonl", looks=False)
    with NovaStandIn(settings, s3_client=None) as stand_in:
        assert "description" in tool_input(converse(bedrock(stand_in.url), image("missing.jpg"), toolConfig=TOOL))
        (call,) = stand_in.calls()
    assert (call.images, call.s3_uri, call.status) == (1, f"s3://{BUCKET}/missing.jpg", 200)


def test_a_header_that_promises_gigapixels_is_refused_before_it_is_decoded(stand_in: NovaStandIn) -> None:
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = (60_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    error = refused(bedrock(stand_in.url), {"image": {"format": "png", "source": {"bytes": bytes(data)}}})
    assert "8000 x 8000" in words_of(error)


def test_embedded_pictures_have_a_size_and_a_number(stand_in: NovaStandIn) -> None:
    client = bedrock(stand_in.url)
    small = {"image": {"format": "jpeg", "source": {"bytes": pictures()["blue.jpg"]}}}
    large = {"image": {"format": "jpeg", "source": {"bytes": pictures()["blue.jpg"] + bytes(25 << 20)}}}

    assert "exceed 25 MB" in words_of(refused(client, large))
    assert "at most 5 images" in words_of(refused(client, *[small] * 6))
    assert converse(client, *[small] * 5)["stopReason"] == "tool_use"


def test_more_than_a_thousand_stored_pictures_are_refused_unread(stand_in: NovaStandIn) -> None:
    assert "at most 1000 images" in words_of(refused(bedrock(stand_in.url), *[image("blue.jpg")] * 1001))


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inferenceConfig": {"maxTokens": 65_536}}, "exceeds the model limit of 65535"),
        ({"inferenceConfig": {"maxTokens": 10_001}, "modelId": "amazon.nova-lite-v1:0"}, "model limit of 10000"),
        ({"inferenceConfig": {"temperature": 1.5}}, "value less than or equal to 1"),
        ({"serviceTier": {"type": "cheap"}}, "enum value set: [default, flex, priority, reserved]"),
        ({"messages": []}, "must start with a user message"),
        ({"messages": [turn(role="assistant")]}, "must start with a user message"),
        ({"messages": [turn(), turn()]}, "must alternate"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0 is empty"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "messages.0.content.0 is blank"),
        ({"toolConfig": {**TOOL, "toolChoice": {"tool": {"name": "other"}}}}, "not among toolConfig.tools"),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "a b", "inputSchema": {"json": SCHEMA}}}]}},
            "regular expression pattern: [a-zA-Z0-9_-]+",
        ),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": {"type": "array"}}}}]}},
            "must be one of the following: object",
        ),
        ({"additionalModelRequestFields": [1]}, "is not an object"),
        ({"additionalModelRequestFields": {"topk": 1}}, "extraneous key [topk]"),
        ({"additionalModelRequestFields": {"inferenceConfig": {"topK": 129}}}, "0..128"),
        (
            {"messages": [turn({"video": {"format": "mp4", "source": {"bytes": b"x"}}})]},
            "text and images only",
        ),
    ],
)
def test_a_request_that_converse_does_not_take_is_refused(stand_in: NovaStandIn, fields: Any, words: str) -> None:
    error = refused(bedrock(stand_in.url), **fields)
    assert code_of(error) == "ValidationException"
    assert words in words_of(error)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({**GOOD, "max_tokens": 5}, "ValidationException", "#: extraneous key [max_tokens]"),
        ({**GOOD, "modelId": PROFILE}, "ValidationException", "extraneous key [modelId]"),
        ({**GOOD, "inferenceConfig": {"topK": 5}}, "ValidationException", "#/inferenceConfig: extraneous key [topK]"),
        ({"messages": [{"role": "user"}]}, "ValidationException", "Value null at 'messages.1.member.content'"),
        ({**GOOD, "inferenceConfig": {"maxTokens": 0}}, "ValidationException", "greater than or equal to 1"),
        ({**GOOD, "inferenceConfig": {"maxTokens": "5"}}, "SerializationException", "inferenceConfig.maxTokens"),
        ({**GOOD, "inferenceConfig": {"maxTokens": True}}, "SerializationException", "not of type integer"),
        ({"messages": "hello"}, "SerializationException", "not of type list"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "SerializationException", "Exactly one member"),
        (
            {"messages": [turn({"image": {"format": "png", "source": {"bytes": "%"}}})]},
            "SerializationException",
            "not base64",
        ),
        (b"{", "SerializationException", "not JSON"),
        (b'{"messages": NaN}', "SerializationException", "not JSON"),
        (b"[]", "SerializationException", "'body'"),
    ],
)
def test_what_no_client_would_send_is_refused(stand_in: NovaStandIn, body: Any, code: str, words: str) -> None:
    status, headers, answer = posted(stand_in.url, body)
    assert (status, headers["x-amzn-ErrorType"]) == (400, code)
    assert words in answer["message"]
    assert headers["x-amzn-RequestId"] == stand_in.calls()[-1].request_id


def test_null_members_count_as_absent(stand_in: NovaStandIn) -> None:
    embedded = {"bytes": base64.b64encode(pictures()["blue.jpg"]).decode(), "s3Location": None}
    block = {"image": {"format": "jpeg", "source": embedded}, "text": None}
    status, _, answer = posted(stand_in.url, {"messages": [turn(block)], "toolConfig": None})
    assert (status, answer["stopReason"]) == (200, "end_turn")


def test_a_client_that_asks_before_sending_is_told_to_go_on(stand_in: NovaStandIn) -> None:
    host, port = urllib.parse.urlsplit(stand_in.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")


def test_several_broken_constraints_are_told_together(stand_in: NovaStandIn) -> None:
    _, _, answer = posted(stand_in.url, {**GOOD, "inferenceConfig": {"maxTokens": 0, "topP": 2}})
    assert answer["message"].startswith("2 validation errors detected: ")


def test_an_unsigned_request_gets_403(stand_in: NovaStandIn) -> None:
    status, headers, answer = posted(stand_in.url, GOOD, signed=False)
    assert (status, headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    assert answer == {"message": "Missing Authentication Token"}
    assert stand_in.calls()[-1].error == "MissingAuthenticationTokenException"

    status, headers, _ = posted(stand_in.url, GOOD, {"Authorization": "Basic YTpi"}, signed=False)
    assert (status, headers["x-amzn-ErrorType"]) == (403, "IncompleteSignatureException")


def test_other_operations_are_not_offered(stand_in: NovaStandIn) -> None:
    with pytest.raises(ClientError) as raised:
        bedrock(stand_in.url).invoke_model(modelId=PROFILE, body=b"{}")
    assert code_of(raised.value) == "UnknownOperationException"
    assert stand_in.calls() == ()
