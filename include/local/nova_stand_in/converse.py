"""One Converse call from its bytes to its answer, apart from HTTP: checks, then the picture, then the reply."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from typing import Any

from include.local.nova_stand_in.answer import fitting_input, reads_text, sentence
from include.local.nova_stand_in.errors import BedrockError
from include.local.nova_stand_in.picture import NOTHING, Picture
from include.local.nova_stand_in.request_rules import ConverseRequest
from include.local.nova_stand_in.settings import Forced

_CHARACTERS_A_TOKEN = 4  # a rule of thumb for English, also in AWS's documentation; Nova's tokenizer is not public
_BLOCKED = "The generated text has been blocked by our content filters."  # Nova user guide, "Error handling"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it becomes HTTP: content blocks, stop reason and tokens."""

    content: list[dict[str, Any]]
    stop_reason: str
    input_tokens: int
    output_tokens: int


def make_reply(request: ConverseRequest, pictures: tuple[Picture, ...], forced: Forced | None) -> Reply:
    """The reply to a checked request whose pictures were measured, spoilt as `forced` says.

    Raises `BedrockError` (ModelErrorException) when the tool's input would not fit into maxTokens: the Nova user guide,
    "Troubleshooting tool calls", says that this ends in an exception.
    """
    picture = pictures[0] if pictures else NOTHING
    if request.tool is not None:
        content, stop_reason = _tool_use(request.tool, picture, len(pictures)), "tool_use"
        if _tokens(content) > request.max_tokens:
            raise BedrockError(
                "ModelErrorException",
                "The model produced an invalid sequence as part of ToolUse. "
                "Please refer to the model tool use troubleshooting guide.",
            )
    else:
        content, stop_reason = _text(picture, len(pictures), request.max_tokens)
    if forced is not None:
        content, stop_reason = _spoilt(content, stop_reason, forced)
    return Reply(content, stop_reason, _input_tokens(request, pictures), _tokens(content))


def _tool_use(tool: dict[str, Any], picture: Picture, images: int) -> list[dict[str, Any]]:
    made = fitting_input(tool["inputSchema"]["json"], picture, images)
    return [{"toolUse": {"toolUseId": f"tooluse_{secrets.token_urlsafe(16)}", "name": tool["name"], "input": made}}]


def _text(picture: Picture, images: int, max_tokens: int) -> tuple[list[dict[str, Any]], str]:
    text = sentence(picture, images)
    room = max_tokens * _CHARACTERS_A_TOKEN
    return [{"text": text[:room]}], "max_tokens" if len(text) > room else "end_turn"


def _spoilt(content: list[dict[str, Any]], stop_reason: str, forced: Forced) -> tuple[list[dict[str, Any]], str]:
    if forced.stop_reason is not None:
        return _stopped(content, forced.stop_reason), forced.stop_reason
    use = content[0].get("toolUse")
    if use is None:
        return content, stop_reason
    if forced.malformed == "no_tool_use":
        return [{"text": "Stand-in, not Nova: this answer was told not to use the tool."}], "end_turn"
    if forced.malformed == "wrong_tool":
        use = {**use, "name": "another_tool"}
    elif forced.malformed == "input_text":
        use = {**use, "input": json.dumps(use["input"])[:-2]}
    elif forced.missing_field is not None:
        use = {**use, "input": {name: part for name, part in use["input"].items() if name != forced.missing_field}}
    elif forced.transcribed is not None:
        said = {name: forced.transcribed for name, was in use["input"].items() if reads_text(name) and was is not None}
        use = {**use, "input": {**use["input"], **said}}
    elif forced.wrong_field is not None:
        was = use["input"].get(forced.wrong_field)
        use = {**use, "input": {**use["input"], forced.wrong_field: 7 if isinstance(was, str) else "not this type"}}
    return [{"toolUse": use}], stop_reason


def _stopped(content: list[dict[str, Any]], reason: str) -> list[dict[str, Any]]:
    """What is left of an answer that ended for `reason`."""
    if reason in ("content_filtered", "guardrail_intervened"):
        return [{"text": _BLOCKED}]
    if reason in ("malformed_tool_use", "malformed_model_output"):
        return []
    use = content[0].get("toolUse")
    if reason in ("max_tokens", "model_context_window_exceeded") and use is not None:
        half = dict(list(use["input"].items())[: len(use["input"]) // 2])
        return [{"toolUse": {**use, "input": half}}]
    return content


def _input_tokens(request: ConverseRequest, pictures: tuple[Picture, ...]) -> int:
    texts = [str(block.get("text") or "") for _, block in request.blocks()]
    texts += [str(block.get("text") or "") for block in request.body.get("system") or []]
    texts += [json.dumps(tool) for tool in request.tools]
    images = sum(request.model.image_tokens(picture.width, picture.height) for picture in pictures)
    return images + math.ceil(sum(map(len, texts)) / _CHARACTERS_A_TOKEN)


def _tokens(content: list[dict[str, Any]]) -> int:
    """Output tokens of the texts and tool inputs of an answer."""
    said = "".join(block["text"] if "text" in block else json.dumps(block["toolUse"]["input"]) for block in content)
    return math.ceil(len(said) / _CHARACTERS_A_TOKEN)
