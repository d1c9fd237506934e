"""The shape of an analysis: what the forced tool asks Nova for, and what of its answer is accepted.

Harmless slips are mended (blanks, a coordinate a hair off the scale, an overlong list), because throwing a paid answer
away costs more than mending it. What would put something false into the catalog is refused.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

BOX_SCALE = 1000  # https://docs.aws.amazon.com/nova/latest/userguide/modalities-image.html, "Bounding box detection"
BOX_SLACK = 10  # units off the scale that are rounding; more means another scale, pixels most likely
CONFIDENCE_SLACK = 0.01
MAX_DESCRIPTION_CHARS = 4000
MAX_TEXT_CHARS = 10_000
MAX_NAME_CHARS = 200
MAX_LABELS = 20
MAX_OBJECTS = 20


def clean_text(text: str) -> str:
    """Without what PostgreSQL cannot store (NUL, lone surrogates) and without other control characters."""
    storable = text.encode("utf-8", "ignore").decode("utf-8")
    return "".join(c for c in storable if c.isprintable() or c in "\n\t" or ord(c) > 0x9F).strip()  # noqa: PLR2004


def _trimmed_to(limit: int) -> AfterValidator:
    return AfterValidator(lambda text: clean_text(text)[:limit].rstrip())


def _confidence(value: float) -> float:
    if not -CONFIDENCE_SLACK <= value <= 1 + CONFIDENCE_SLACK:
        raise ValueError("confidence must be between 0 and 1")
    return min(1.0, max(0.0, value))


def _rounded(value: Any) -> Any:
    """Coordinates arrive as 12, 12.0 or 12.6; anything else is left for the type check to refuse."""
    return round(value) if isinstance(value, float) and math.isfinite(value) else value


def _coordinate(value: int) -> int:
    if not -BOX_SLACK <= value <= BOX_SCALE + BOX_SLACK:
        raise ValueError(f"box coordinates run from 0 to {BOX_SCALE}")
    return min(BOX_SCALE, max(0, value))


Name = Annotated[str, _trimmed_to(MAX_NAME_CHARS)]
Coordinate = Annotated[
    int,
    BeforeValidator(_rounded),
    AfterValidator(_coordinate),
    Field(json_schema_extra={"minimum": 0, "maximum": BOX_SCALE}),
]


class Label(BaseModel):
    """One thing, scene or topic that the image shows."""

    name: Name = Field(description="One or two words, lower case, in English.")
    confidence: Annotated[float, AfterValidator(_confidence)] = Field(
        description="How sure you are, from 0 to 1.",
        allow_inf_nan=False,
        json_schema_extra={"minimum": 0, "maximum": 1},
    )


class DetectedObject(BaseModel):
    """One object and where it is."""

    name: Name = Field(description="One or two words, lower case, in English.")
    box: list[Coordinate] = Field(
        description="[x1, y1, x2, y2]: left, top, right and bottom edge, each from 0 to 1000 of the image's size.",
        min_length=4,
        max_length=4,
    )

    @field_validator("box")
    @classmethod
    def _in_order(cls, box: list[int]) -> list[int]:
        x1, y1, x2, y2 = box
        return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]

    @property
    def visible(self) -> bool:
        """Whether the box has an area; one without points at nothing."""
        x1, y1, x2, y2 = self.box
        return x2 > x1 and y2 > y1


class ImageAnalysis(BaseModel):
    """Nova's answer on one image. A team's own output model derives from this one."""

    model_config = ConfigDict(extra="ignore")

    description: Annotated[str, _trimmed_to(MAX_DESCRIPTION_CHARS)] = Field(
        description="Two or three sentences on what the image shows."
    )
    labels: list[Label] = Field(
        default_factory=list,
        description="What the image is about, most certain first.",
        json_schema_extra={"maxItems": MAX_LABELS},
    )
    visible_text: Annotated[str, _trimmed_to(MAX_TEXT_CHARS)] = Field(
        default="", description="The text that can be read in the image, word for word; empty when there is none."
    )
    objects: list[DetectedObject] = Field(
        default_factory=list,
        description="The main objects and where they are.",
        json_schema_extra={"maxItems": MAX_OBJECTS},
    )

    @field_validator("description")
    @classmethod
    def _says_something(cls, description: str) -> str:
        if not description:
            raise ValueError("the description is empty")
        return description

    @field_validator("labels", "objects", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value

    @field_validator("visible_text", mode="before")
    @classmethod
    def _no_text(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("labels")
    @classmethod
    def _named_labels(cls, labels: list[Label]) -> list[Label]:
        return [label for label in labels if label.name][:MAX_LABELS]

    @field_validator("objects")
    @classmethod
    def _visible_objects(cls, objects: list[DetectedObject]) -> list[DetectedObject]:
        return [found for found in objects if found.name and found.visible][:MAX_OBJECTS]


_DROPPED = frozenset({"title", "default", "$defs"})


def tool_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `model` as Bedrock's `toolSpec.inputSchema.json` takes it.

    References are put in place (Nova's constrained decoding wants one self-contained schema), every field is required
    (an optional one is an invitation to leave it out), and the top level keeps only `type`, `properties`, `required`.
    """
    return dict(json.loads(tool_schema_json(model)))


@functools.cache
def tool_schema_json(model: type[BaseModel]) -> str:
    """`tool_schema` as it is written: made once for a model, for each request asks for it twice."""
    schema = model.model_json_schema()
    inlined = _inline(schema, schema.get("$defs", {}))
    return json.dumps({key: inlined[key] for key in ("type", "properties", "required")})


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    result = {
        key: {name: _inline(field, definitions) for name, field in value.items()}
        if key == "properties"  # names of fields, not keywords: a field may be called "title"
        else _inline(value, definitions)
        for key, value in node.items()
        if key not in _DROPPED
    }
    if "properties" in result:
        result["required"] = list(result["properties"])
    return result
