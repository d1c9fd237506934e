"""Answers against schemas of every kind: each must satisfy the schema it was made for, by an independent validator."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from PIL import Image
from pydantic import BaseModel, Field

from include.local.nova_stand_in.answer import NOTICE, fitting_input
from include.local.nova_stand_in.picture import NOTHING, Picture, measure


def solid(colour: Any, size: tuple[int, int] = (300, 200), mode: str = "RGB") -> Picture:
    return measure(Image.new(mode, size, colour), "png")


PICTURE = solid("blue")


def answered(schema: dict[str, Any], picture: Picture = PICTURE) -> Any:
    made = fitting_input(schema, picture)
    jsonschema.validate(made, schema, cls=jsonschema.Draft202012Validator)
    return made


def field(part: dict[str, Any], name: str = "value") -> Any:
    schema = {"type": "object", "properties": {name: part}, "required": [name], "additionalProperties": False}
    return answered(schema)[name]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "maxLength": 5},
        {"type": "string", "minLength": 500},
        {"type": "string", "pattern": "^[a-z]{2}-[A-Z]{2}$"},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": 3, "maximum": 3},
        {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
        {"type": "integer", "minimum": 7},
        {"type": "integer", "maximum": -2},
        {"type": "integer", "multipleOf": 5, "minimum": 11},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "number", "exclusiveMaximum": 0},
        {"type": "number", "minimum": -2.5, "maximum": -1.5},
        {"type": ["string", "null"]},
        {"type": "null"},
        {"type": "boolean"},
        {"const": {"a": 1}},
        {"enum": [None, 3]},
        {"enum": [None]},
        {"type": "array", "items": {"type": "string"}, "minItems": 12},
        {"type": "array", "items": {"type": "string"}, "maxItems": 1},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 4},
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 4},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
        {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
        {"type": "object", "required": ["free"]},
        {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 4}]},
        {"oneOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"type": "null"}]},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"required": ["a"]}]},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["value", "label", "confidence", "text", "box"])
def test_each_kind_of_schema_is_satisfied(part: dict[str, Any], name: str) -> None:
    field(part, name)


class Mood(enum.Enum):
    CALM = "calm"
    LOUD = "loud"


class Node(BaseModel):
    name: str
    parent: Node | None
    children: list[Node]


class Everything(BaseModel):
    summary: str = Field(max_length=300)
    mood: Mood
    colour: Literal["red", "green", "blue"]
    score: float = Field(gt=0, lt=1)
    corners: tuple[int, int, int, int]
    ratio: float | None
    tags: set[str] = Field(min_length=5)
    notes: dict[str, Annotated[int, Field(ge=0)]]
    tree: Node
    kept: bool = True


def test_a_pydantic_model_with_references_and_recursion_is_satisfied() -> None:
    made = Everything.model_validate(answered(Everything.model_json_schema()))

    assert made.summary.startswith(NOTICE)
    assert made.colour == "blue"  # the choices are weighed against the picture
    assert made.ratio is not None
    assert len(made.tags) >= 5


@pytest.mark.parametrize(
    ("items", "span"),
    [
        ({"type": "integer"}, 1000),
        ({"type": "integer", "minimum": 0, "maximum": 1000}, 1000),
        ({"type": "number", "minimum": 0, "maximum": 1}, 1),
        ({"type": "integer", "minimum": 0, "maximum": 100}, 100),
    ],
)
def test_boxes_are_boxes_in_whatever_unit(items: dict[str, Any], span: float) -> None:
    listed = {"type": "array", "items": {"type": "array", "items": items, "minItems": 4, "maxItems": 4}, "minItems": 16}
    for x1, y1, x2, y2 in field(listed):
        assert 0 <= x1 < x2 <= span
        assert 0 <= y1 < y2 <= span


def test_a_box_in_named_corners_is_one() -> None:
    corners = {name: {"type": "integer", "minimum": 0, "maximum": 1000} for name in ("x1", "y1", "x_max", "bottom")}
    box = field({"type": "object", "properties": corners, "required": list(corners)})
    assert box["x1"] < box["x_max"]
    assert box["y1"] < box["bottom"]


def test_a_schema_that_leads_back_to_itself_ends() -> None:
    assert isinstance(fitting_input({"$ref": "#"}, PICTURE), str)


def test_pictures_are_told_apart_by_what_is_in_them() -> None:
    assert solid("white").colours[0] == ("white", 1.0)
    assert solid((120, 60, 10)).colours[0][0] == "brown"
    assert solid("black").brightness == 0
    assert solid((0, 0, 0, 0), mode="RGBA").colours[0][0] == "white"  # what shows where nothing covers
    assert solid("red", (200, 300)).orientation == "portrait"
    stripes = Image.new("L", (256, 256))
    stripes.putdata([255 * (at // 8 % 2) for at in range(256 * 256)])
    striped = measure(stripes, "png")
    assert striped.edges > 0.1 > solid("grey").edges
    assert striped.contrast > 0.9


def test_sixteen_bits_are_measured_over_their_whole_range() -> None:
    assert solid(32_768, (2000, 1000), "I;16").brightness == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (8000, 1), (1, 3)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_no_size_or_mode_is_too_odd(size: tuple[int, int], mode: str) -> None:
    measured = measure(Image.new(mode, size), "png")
    assert (measured.width, measured.height) == size


def test_without_a_picture_the_answer_says_so() -> None:
    schema = {"type": "object", "properties": {"description": {"type": "string"}}}

    assert answered(schema, NOTHING)["description"] == f"{NOTICE}: the request held no image."
