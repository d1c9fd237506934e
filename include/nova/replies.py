"""From Converse's answer to a validated reply, or to a typed error that still knows what was billed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from include.nova.analysis import ImageAnalysis, clean_text
from include.nova.errors import Disposition, NovaError, Usage
from include.nova.prompts import Prompt

# What a second request may mend. Any other refusal would only be paid for again.
MALFORMED_CODES = frozenset({"malformed_tool_use", "malformed_model_output", "malformed_answer"})

_COMPLETE = frozenset({"tool_use", "end_turn", "stop_sequence"})
# `stopReason` of Converse, from botocore's bedrock-runtime model.
_STOPPED: dict[str, tuple[str, str]] = {
    "malformed_tool_use": ("malformed_tool_use", "Nova's call of the tool was malformed"),
    "malformed_model_output": ("malformed_model_output", "Nova's output was malformed"),
    "max_tokens": ("max_tokens", "The answer did not fit into the prompt's max_tokens"),
    "content_filtered": ("content_filtered", "Nova's content filter held the answer back"),
    "guardrail_intervened": ("guardrail_intervened", "A guardrail of the account held the answer back"),
    "model_context_window_exceeded": ("context_window_exceeded", "Image and prompt exceed the model's context window"),
}
_MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class NovaReply:
    """A validated answer: `labels` {"name", "confidence" 0..1}, `objects` {"name", "box" [x1, y1, x2, y2] 0..1000}."""

    description: str
    labels: tuple[Mapping[str, Any], ...]
    visible_text: str
    objects: tuple[Mapping[str, Any], ...]
    stop_reason: str
    usage: Usage
    latency_ms: int | None
    extra: Mapping[str, Any] | None = None  # JSON values: what a team's own output model asked for beyond these


def usage_of(response: Mapping[str, Any]) -> Usage:
    """Tokens that `response` reports; zero where it reports none."""
    usage = response.get("usage") or {}
    return Usage(int(usage.get("inputTokens") or 0), int(usage.get("outputTokens") or 0))


def latency_of(response: Mapping[str, Any]) -> int | None:
    """Milliseconds inside the service, as it reports them."""
    latency = (response.get("metrics") or {}).get("latencyMs")
    return None if latency is None else int(latency)


def parse_reply(response: Mapping[str, Any], prompt: Prompt) -> NovaReply:
    """Validate the answer of `converse` to a request made with `prompt`.

    Raises NovaError (FAIL, with `usage`): malformed_tool_use, malformed_model_output, malformed_answer (the tool's
    input is not what its schema asks for), max_tokens, content_filtered, guardrail_intervened, context_window_exceeded,
    unexpected_stop_reason. And unreadable_response (RETURN) for what is no answer of Converse at all.
    """
    usage = usage_of(response)
    reason = response.get("stopReason")
    if reason is None:  # some proxy's page with status 200, for example: not the image's fault
        raise NovaError("unreadable_response", "The answer is not one of Converse", Disposition.RETURN, usage)
    if reason not in _COMPLETE:
        code, said = _STOPPED.get(reason, ("unexpected_stop_reason", f"Nova stopped with {reason!r}"))
        raise NovaError(code, said, Disposition.FAIL, usage)
    given = _tool_input(response, prompt.tool_name)
    if given is None:
        said = f"Nova did not call the tool {prompt.tool_name} (stop reason {reason})"
        raise NovaError("malformed_tool_use", said, Disposition.FAIL, usage)
    try:
        analysis = prompt.output_model.model_validate(given)
    except ValidationError as error:
        raise NovaError("malformed_answer", _problems(error), Disposition.FAIL, usage) from None
    return NovaReply(**_columns(analysis), stop_reason=reason, usage=usage, latency_ms=latency_of(response))


_OURS = frozenset(ImageAnalysis.model_fields)


def _columns(analysis: BaseModel) -> dict[str, Any]:
    """The fields that have columns of their own, and everything else of a team's model as `extra`.

    A model that does not derive from ours shares its `description` only: what it calls `labels` is its own affair.
    """
    if not isinstance(analysis, ImageAnalysis):
        rest = _storable(analysis.model_dump(mode="json", exclude={"description"}))
        description = clean_text(analysis.description)  # type: ignore[attr-defined]
        own = {"description": description, "visible_text": "", "labels": (), "objects": ()}
        return own | {"extra": rest or None}
    return {
        "description": analysis.description,
        "labels": tuple(label.model_dump(include={"name", "confidence"}) for label in analysis.labels),
        "visible_text": analysis.visible_text,
        "objects": tuple(found.model_dump(include={"name", "box"}) for found in analysis.objects),
        "extra": _storable(analysis.model_dump(mode="json", exclude=set(_OURS))) or None,
    }


def _storable(value: Any) -> Any:
    """JSON values as PostgreSQL takes them: our own fields see to that themselves, a team's need not. An answer that
    cannot be stored would be paid for by every run."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _storable(item) for key, item in value.items()}
    return value


def _tool_input(response: Mapping[str, Any], tool_name: str) -> Any:
    message = (response.get("output") or {}).get("message") or {}
    for block in message.get("content") or []:
        use = block.get("toolUse")
        if use and use.get("name") == tool_name:
            return use.get("input")
    return None


def _problems(error: ValidationError) -> str:
    """Where the answer is wrong, without repeating the answer: it may be long, and holds whatever the picture said."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(map(str, problem['loc'])) or 'answer'}: {problem['msg']}" for problem in found]
    more = f" (and {len(lines) - _MAX_PROBLEMS} more)" if len(lines) > _MAX_PROBLEMS else ""
    return "; ".join(lines[:_MAX_PROBLEMS]) + more
