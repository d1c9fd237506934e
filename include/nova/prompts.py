"""Versioned prompts: a text file, the output model and the tool that forces it."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from include.nova.analysis import DetectedObject, ImageAnalysis, Label, tool_schema
from include.nova.errors import Disposition, NovaError

DEFAULT_PROMPT = Path(__file__).parent / "prompts" / "image_analysis_v1.txt"
TOOL_NAME = "record_image_analysis"
TOOL_DESCRIPTION = "Record what the image shows."
# Room for a full answer: 3 sentences (100 tokens), 10 labels (160), 2000 characters of text (600), 10 boxes (300), and
# a fifth to spare. More would be reserved from the account's quota by every request: quota counts input + maxTokens.
MAX_TOKENS = 1500
_MAX_NAME_CHARS = 40


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked of Nova. `version` changes when the text or the output schema does, and keys every analysis."""

    version: str
    text: str
    output_model: type[BaseModel]
    tool_name: str
    max_tokens: int

    def tool_spec(self) -> dict[str, Any]:
        """Bedrock's `toolSpec` that forces the output model."""
        schema = tool_schema(self.output_model)
        return {"name": self.tool_name, "description": TOOL_DESCRIPTION, "inputSchema": {"json": schema}}


def load_prompt(
    path: Path | None = None, *, output_model: type[BaseModel] = ImageAnalysis, max_tokens: int = MAX_TOKENS
) -> Prompt:
    """The prompt in the text file at `path`, or the package's own.

    Its version is "{file name}-{8 hex digits of text and schema}": a changed prompt can not pass for the one before.
    `max_tokens` is left out of it, since raising the ceiling does not make an analysis that fitted under it stale.
    Raises NovaError `invalid_prompt` (FATAL) when the file is missing, not UTF-8 or empty.
    """
    path = path or DEFAULT_PROMPT
    try:
        raw = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NovaError("invalid_prompt", f"Cannot read the prompt {path}: {error}", Disposition.FATAL) from error
    # Line ends and outer blanks depend on editors and checkouts; they must not look like a new prompt.
    text = "\n".join(line.rstrip() for line in raw.splitlines()).strip()
    if not text:
        raise NovaError("invalid_prompt", f"The prompt {path} is empty", Disposition.FATAL)
    spec = json.dumps([text, TOOL_NAME, TOOL_DESCRIPTION, tool_schema(output_model)], sort_keys=True)
    digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem)[:_MAX_NAME_CHARS]
    return Prompt(f"{name}-{digest}", text, output_model, TOOL_NAME, max_tokens)


def load_output_model(name: str | None) -> type[BaseModel]:
    """The Pydantic model at "package.module:ClassName"; None: the package's own.

    It has a field `description` of type str. One that derives from `ImageAnalysis` fills the columns of labels,
    visible text and objects too (of our shapes); whatever else a model asks for is kept as JSON beside them.
    Raises NovaError `invalid_output_model` (FATAL).
    """
    if name is None:
        return ImageAnalysis
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if attribute else None
    except (ImportError, AttributeError, ValueError) as error:
        raise _not_a_model(name, f"it cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise _not_a_model(name, "it must name a Pydantic model as package.module:ClassName")
    description = found.model_fields.get("description")
    if description is None or description.annotation is not str:
        raise _not_a_model(name, "the model needs a field `description: str`")
    for field, kind in (("labels", Label), ("objects", DetectedObject)):
        if issubclass(found, ImageAnalysis) and not _lists(found.model_fields[field].annotation, kind):
            raise _not_a_model(name, f"`{field}` of a model derived from ImageAnalysis is a list of {kind.__name__}")
    try:
        tool_schema(found)
    except (RecursionError, KeyError) as error:
        raise _not_a_model(name, "a model that contains itself cannot be a tool's schema") from error
    return found


def _lists(annotation: Any, kind: type[BaseModel]) -> bool:
    return any(isinstance(item, type) and issubclass(item, kind) for item in get_args(annotation))


def _not_a_model(name: str, why: str) -> NovaError:
    return NovaError("invalid_output_model", f"output_model {name!r}: {why}", Disposition.FATAL)
