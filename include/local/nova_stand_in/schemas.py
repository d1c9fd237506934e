"""Reading a JSON schema: references, kinds, bounds. Nothing here knows of pictures."""

from __future__ import annotations

import math
import re
from typing import Any, Final

_MAX_STEPS: Final = 8  # of references to references; a wrong schema leads back to itself
_BOX_NUMBERS: Final = 4


def resolved(root: Any, schema: Any) -> dict[str, Any]:
    """`schema` with references into `root` followed and `allOf` merged; `true` is the schema that takes anything."""
    schema = schema if isinstance(schema, dict) else {}
    for _ in range(_MAX_STEPS):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        schema = {**_target(root, reference), **{name: part for name, part in schema.items() if name != "$ref"}}
    found: dict[str, Any] = schema
    for part in schema.get("allOf") or ():
        found = _merged(found, resolved(root, part))
    return found


def _target(root: Any, reference: str) -> dict[str, Any]:
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step and isinstance(root, dict):
            root = root.get(step.replace("~1", "/").replace("~0", "~"))
    return root if isinstance(root, dict) else {}


def kind(schema: dict[str, Any]) -> str:
    """The JSON type that `schema` asks for; of several the first that is not null, string where it asks for none."""
    named = schema.get("type")
    if isinstance(named, list):
        named = next((one for one in named if one != "null"), "null")
    if named is None:
        guesses = (("properties", "object"), ("items", "array"), ("prefixItems", "array"), ("minimum", "number"))
        named = next((guess for hint, guess in guesses if hint in schema), "string")
    return str(named)


def _merged(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    properties = {**(part.get("properties") or {}), **(schema.get("properties") or {})}
    required = [*(schema.get("required") or ()), *(part.get("required") or ())]
    merged = {**part, **schema}
    return {**merged, "properties": properties, "required": required} if properties else merged


def is_box(schema: dict[str, Any], firsts: list[dict[str, Any]], items: dict[str, Any], name: str) -> bool:
    """Whether an array called `name`, whose parts are `firsts` and `items`, is four numbers for a box."""
    numbers = {"number", "integer"}
    if firsts:
        return len(firsts) == _BOX_NUMBERS and all(kind(part) in numbers for part in firsts)
    if kind(items) not in numbers or schema.get("maxItems", _BOX_NUMBERS) < _BOX_NUMBERS or schema.get("uniqueItems"):
        return False
    exact = schema.get("minItems") == schema.get("maxItems") == _BOX_NUMBERS
    return exact or ("box" in name.lower() and schema.get("minItems", 0) <= _BOX_NUMBERS)


def lower(schema: dict[str, Any]) -> float | None:
    """The least value, or the value that it must be above."""
    given = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
    return max(given, default=None)


def upper(schema: dict[str, Any]) -> float | None:
    """The greatest value, or the value that it must be below."""
    given = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
    return min(given, default=None)


def within(wanted: float, schema: dict[str, Any]) -> float:
    """`wanted`, moved to the nearest value that the bounds and `multipleOf` allow; an integer where one is asked."""
    whole = kind(schema) == "integer"
    step = schema.get("multipleOf") or (1 if whole else 0)
    least, most = lower(schema), upper(schema)
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    gap = step or min((high - low) / 100, 0.001)
    if step:
        wanted = round(wanted / step) * step
        low = math.ceil(low / step) * step if math.isfinite(low) else low
        high = math.floor(high / step) * step if math.isfinite(high) else high
    if low == schema.get("exclusiveMinimum"):
        low += gap
    if high == schema.get("exclusiveMaximum"):
        high -= gap
    moved = min(max(wanted, low), high)
    return int(moved) if whole else moved


def matches(pattern: str, text: str) -> bool:
    """Whether `text` satisfies `pattern`; a pattern of a dialect that Python does not read counts as satisfied."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True
