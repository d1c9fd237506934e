"""Prompts, the forced tool's schema, and requests, held against botocore's own model of Converse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from pydantic import Field

from include.nova import Disposition, ImageAnalysis, NovaError, build_converse_request, load_prompt, tool_schema
from include.nova.prompts import DEFAULT_PROMPT

MODEL = "us.amazon.nova-2-lite-v1:0"
URI = "s3://bucket/proxy_image/a b ü.jpg"


@pytest.fixture(scope="module")
def converse_shape() -> Any:
    return Session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape


def build(**changes: Any) -> dict[str, Any]:
    given = {"model_id": MODEL, "image_uri": URI, "image_format": "jpeg", "prompt": load_prompt(), **changes}
    return build_converse_request(**given)


@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
@pytest.mark.parametrize("owner", [None, "123456789012"])
@pytest.mark.parametrize("image_format", ["png", "jpeg", "gif", "webp"])
def test_botocore_takes_the_request(converse_shape: Any, tier: str, owner: str | None, image_format: str) -> None:
    request = build(tier=tier, bucket_owner=owner, image_format=image_format)
    assert ParamValidator().validate(request, converse_shape).generate_report() == ""
    kinds = converse_shape.members["serviceTier"].members["type"].enum
    assert request.get("serviceTier", {"type": "default"})["type"] in kinds


def test_the_request_is_what_nova_works_best_with() -> None:
    request = build(bucket_owner="123456789012")
    image, text = request["messages"][0]["content"]
    assert image["image"]["source"]["s3Location"] == {"uri": URI, "bucketOwner": "123456789012"}
    assert text["text"] == load_prompt().text
    assert request["messages"][0]["role"] == "user"
    assert request["inferenceConfig"] == {"maxTokens": load_prompt().max_tokens, "temperature": 0}
    forced = request["toolConfig"]["toolChoice"]["tool"]["name"]
    assert [tool["toolSpec"]["name"] for tool in request["toolConfig"]["tools"]] == [forced]
    assert "serviceTier" not in request
    assert build(tier="flex")["serviceTier"] == {"type": "flex"}


@pytest.mark.parametrize(
    ("changes", "code", "disposition"),
    [
        ({"image_uri": "s3://bucket/" + "k" * 1013}, "invalid_image_uri", Disposition.FAIL),
        ({"image_uri": "file:///tmp/a.jpg"}, "invalid_image_uri", Disposition.FAIL),
        ({"image_uri": "s3://bucket"}, "invalid_image_uri", Disposition.FAIL),
        ({"image_format": "jpg"}, "invalid_image_format", Disposition.FAIL),
        ({"image_format": "tiff"}, "invalid_image_format", Disposition.FAIL),
        ({"tier": "batch"}, "invalid_tier", Disposition.FATAL),
        ({"tier": "cheap"}, "invalid_tier", Disposition.FATAL),
        ({"bucket_owner": "12345"}, "invalid_bucket_owner", Disposition.FATAL),
    ],
)
def test_what_cannot_be_sent_is_refused_here(changes: dict[str, str], code: str, disposition: Disposition) -> None:
    with pytest.raises(NovaError) as caught:
        build(**changes)
    assert (caught.value.code, caught.value.disposition) == (code, disposition)


def test_the_longest_address_is_taken(converse_shape: Any) -> None:
    request = build(image_uri="s3://bucket/" + "k" * 1012)
    assert ParamValidator().validate(request, converse_shape).generate_report() == ""


def test_the_tool_schema_stands_alone_and_requires_every_field() -> None:
    schema = tool_schema(ImageAnalysis)
    written = json.dumps(schema)
    assert set(schema) == {"type", "properties", "required"}
    assert "$ref" not in written
    assert "$defs" not in written
    assert schema["required"] == ["description", "labels", "visible_text", "objects"]
    assert schema["properties"]["objects"]["items"]["required"] == ["name", "box"]
    assert schema["properties"]["labels"]["items"]["properties"]["confidence"]["type"] == "number"
    box = schema["properties"]["objects"]["items"]["properties"]["box"]
    assert (box["minItems"], box["maxItems"], box["items"]["maximum"]) == (4, 4, 1000)


def test_a_field_called_title_stays_in_the_schema() -> None:
    class WithTitle(ImageAnalysis):
        title: str = Field(description="A caption.")

    assert tool_schema(WithTitle)["properties"]["title"] == {"description": "A caption.", "type": "string"}


def test_a_prompts_version_follows_its_text_and_schema(tmp_path: Path) -> None:
    class Other(ImageAnalysis):
        mood: str = ""

    own = load_prompt()
    assert own.version.startswith("image_analysis_v1-")
    copy = tmp_path / DEFAULT_PROMPT.name
    copy.write_bytes(DEFAULT_PROMPT.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert load_prompt(copy) == own  # another checkout's line ends are no new prompt
    copy.write_text(own.text + " Be brief.", encoding="utf-8")
    changed = {own.version, load_prompt(copy).version, load_prompt(output_model=Other).version}
    assert len(changed) == 3
    assert load_prompt(max_tokens=9).version == own.version


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe\xff"])
def test_a_prompt_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NovaError, match="invalid_prompt") as caught:
        load_prompt(path)
    assert str(path) in caught.value.message


def test_importing_the_room_loads_no_heavy_library() -> None:
    program = "import sys, include.nova; print([n for n in ('botocore', 'boto3', 'sqlalchemy') if n in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
