"""What a well-formed Converse request must satisfy beyond its shape: each rule a row that names its source."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from include.local.nova_stand_in.errors import BedrockError, invalid
from include.local.nova_stand_in.models import Model
from include.local.nova_stand_in.shapes import check_body

MAX_S3_IMAGES: Final = 1000
MAX_EMBEDDED_IMAGES: Final = 5
MAX_TOP_K: Final = 128


@dataclass(frozen=True, slots=True)
class ConverseRequest:
    """A request whose shape is right: `body` is Converse's JSON, `model` what its path named."""

    model: Model
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The turns, each `{"role", "content": [blocks]}`."""
        return list(self.body.get("messages") or [])

    def blocks(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every content block with its place, `messages.0.content.0`."""
        for turn, message in enumerate(self.messages):
            for number, block in enumerate(message["content"]):
                yield f"messages.{turn}.content.{number}", block

    def images(self) -> list[dict[str, Any]]:
        """The image blocks, `{"format", "source": {"s3Location"} or {"bytes"}}`, in order."""
        return images_of(self.body)

    @property
    def max_tokens(self) -> int:
        """Output tokens that may be spent; the model's limit unless the request says less."""
        return int((self.body.get("inferenceConfig") or {}).get("maxTokens") or self.model.max_output_tokens)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools' specifications, `{"name", "inputSchema": {"json"}}`."""
        listed = (self.body.get("toolConfig") or {}).get("tools") or []
        return [tool["toolSpec"] for tool in listed if tool.get("toolSpec")]

    @property
    def tool(self) -> dict[str, Any] | None:
        """The tool to use: the one that is forced, else the first."""
        name = self.forced_tool
        return next((tool for tool in self.tools if name in (None, tool["name"])), None)

    @property
    def forced_tool(self) -> str | None:
        """The name in `toolChoice.tool`."""
        choice = ((self.body.get("toolConfig") or {}).get("toolChoice") or {}).get("tool") or {}
        return choice.get("name")


def images_of(body: Any) -> list[dict[str, Any]]:
    """The image blocks of a body that has not been checked yet; what is not as it should be is passed over."""
    found = []
    for message in _items(body, "messages"):
        for block in _items(message, "content"):
            image = block.get("image") if isinstance(block, dict) else None
            if isinstance(image, dict):
                found.append(image)
    return found


def s3_uris_of(body: Any) -> list[str]:
    """The S3 URIs of a body that has not been checked yet, for the log and for matching forced rules."""
    found = []
    for image in images_of(body):
        location = (image.get("source") or {}).get("s3Location") if isinstance(image.get("source"), dict) else None
        if isinstance(location, dict) and isinstance(location.get("uri"), str):
            found.append(location["uri"])
    return found


def is_embedded(image: dict[str, Any]) -> bool:
    """Whether a checked image block carries its bytes; otherwise it names an S3 object."""
    return image["source"].get("bytes") is not None


def _items(value: Any, name: str) -> list[Any]:
    items = value.get(name) if isinstance(value, dict) else None
    return items if isinstance(items, list) else []


def parse_json(raw: bytes) -> Any:
    """The body's JSON, without the NaN and Infinity that Python alone would take. Raises `BedrockError`."""
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BedrockError("SerializationException", "The request body is not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def check_request(model: Model, body: Any) -> ConverseRequest:
    """The request, or `BedrockError` for the first thing that Bedrock would refuse without looking at an image."""
    check_body(body)
    request = ConverseRequest(model, body)
    for rule in RULES:
        message = rule.broken(request)
        if message is not None:
            raise invalid(message)
    return request


def _starts_with_user(request: ConverseRequest) -> str | None:
    if request.messages and request.messages[0]["role"] == "user":
        return None
    return (
        "A conversation must start with a user message. Try again with a conversation that starts with a user message."
    )


def _roles_alternate(request: ConverseRequest) -> str | None:
    roles = [message["role"] for message in request.messages]
    if all(one != other for one, other in itertools.pairwise(roles)):
        return None
    return (
        "A conversation must alternate between user and assistant roles. "
        "Make sure the conversation alternates between user and assistant roles and try again."
    )


def _content_not_empty(request: ConverseRequest) -> str | None:
    for turn, message in enumerate(request.messages):
        if not message["content"]:
            return (
                f"The content field in the Message object at messages.{turn} is empty. "
                "Add a ContentBlock object to the content field and try again."
            )
    return None


def _text_not_blank(request: ConverseRequest) -> str | None:
    for place, block in request.blocks():
        if block.get("text") is not None and not block["text"].strip():
            return (
                f"The text field in the ContentBlock object at {place} is blank. "
                "Add text to the text field, and try again."
            )
    return None


def _only_text_and_images(request: ConverseRequest) -> str | None:
    for place, block in request.blocks():
        kind = next((name for name, value in block.items() if value is not None), "nothing")
        if kind not in {"text", "image", "cachePoint", "toolUse", "toolResult"}:
            return f"The Nova stand-in takes text and images only; {place} holds {kind}."
    return None


def _few_enough_images(request: ConverseRequest) -> str | None:
    embedded = sum(is_embedded(image) for image in request.images())
    stored = len(request.images()) - embedded
    if embedded > MAX_EMBEDDED_IMAGES:
        return f"The model returned the following errors: at most {MAX_EMBEDDED_IMAGES} images may be embedded."
    if stored > MAX_S3_IMAGES:
        return f"The model returned the following errors: at most {MAX_S3_IMAGES} images may be given by S3 URI."
    return None


def _max_tokens_within_model(request: ConverseRequest) -> str | None:
    limit = request.model.max_output_tokens
    if request.max_tokens <= limit:
        return None
    return (
        f"The maximum tokens you requested exceeds the model limit of {limit}. "
        f"Try again with a maximum tokens value that is lower than {limit}."
    )


def _schemas_are_objects(request: ConverseRequest) -> str | None:
    for number, tool in enumerate(request.tools):
        schema = tool["inputSchema"]["json"]
        if not isinstance(schema, dict) or schema.get("type") != "object":
            return (
                f"The value at toolConfig.tools.{number}.toolSpec.inputSchema.json.type "
                "must be one of the following: object."
            )
    return None


def _forced_tool_is_offered(request: ConverseRequest) -> str | None:
    name = request.forced_tool
    if name is None or name in {tool["name"] for tool in request.tools}:
        return None
    return f"The tool {name} at toolConfig.toolChoice.tool.name is not among toolConfig.tools."


def _known_model_fields(request: ConverseRequest) -> str | None:
    extra = request.body.get("additionalModelRequestFields") or {}
    if not isinstance(extra, dict):
        return "Malformed input request: additionalModelRequestFields is not an object"
    for name in extra:
        if name not in ("inferenceConfig", "reasoningConfig"):
            return f"Malformed input request: #: extraneous key [{name}] is not permitted"
    inference = extra.get("inferenceConfig")
    top_k = inference.get("topK") if isinstance(inference, dict) else None
    if top_k is not None and not (isinstance(top_k, int) and 0 <= top_k <= MAX_TOP_K):
        return f"Malformed input request: #/inferenceConfig/topK: {top_k!r} is not within 0..{MAX_TOP_K}"
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `broken` gives Bedrock's message, or None when the request is right."""

    broken: Callable[[ConverseRequest], str | None]
    source: str


RULES: Final = (
    Rule(_starts_with_user, "Converse's own message, as its users report it"),
    Rule(_roles_alternate, "Converse's own message, as its users report it"),
    Rule(_content_not_empty, "Converse's own message, as its users report it"),
    Rule(_text_not_blank, "Converse's own message, as its users report it"),
    Rule(_only_text_and_images, "this stand-in's limit, not Nova's: it reads no video, audio or documents"),
    Rule(_few_enough_images, "Nova 2 user guide, Multimodal understanding: 5 embedded, 1000 by S3; wording is ours"),
    Rule(_max_tokens_within_model, "Converse's own message, as its users report it; the limits: models.py"),
    Rule(_schemas_are_objects, "Nova user guide, Troubleshooting tool calls: the top level's type must be object"),
    Rule(_forced_tool_is_offered, "Converse API reference, SpecificToolChoice; wording is ours"),
    Rule(_known_model_fields, "Nova user guide, Complete request schema: topK 0..128; reasoningConfig from Nova 2's"),
)
