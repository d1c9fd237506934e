"""Makes an answer that fits whatever JSON schema a tool has, out of the measurements of the picture.

The same picture and schema give the same answer. Strings that describe say that this is a stand-in. Names of fields
only steer which measurement goes where, so a team's own schema is answered as well as ours. A `pattern` is met only if
one of a few common values meets it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from include.local.nova_stand_in.picture import Picture
from include.local.nova_stand_in.schemas import is_box, kind, lower, matches, resolved, upper, within

NOTICE: Final = "Stand-in, not Nova"
_MAX_DEPTH: Final = 8  # a recursive schema ends there
_ITEMS: Final = 3  # in an array whose bounds allow it
_BOX_NUMBERS: Final = 4
_BOX_SIDE: Final = 1000  # Nova gives boxes in thousandths of the picture's sides

_CORNERS: Final = {
    **dict.fromkeys(("x1", "xmin", "left"), 0),
    **dict.fromkeys(("y1", "ymin", "top"), 1),
    **dict.fromkeys(("x2", "xmax", "right"), 2),
    **dict.fromkeys(("y2", "ymax", "bottom"), 3),
}
_LABEL: Final = re.compile(
    r"label|name|tag|categor|keyword|class|kind|type|colou?r|object|subject|mood|style|title", re.I
)
_TEXT: Final = re.compile(r"(?<!con)text(?!ure)|ocr|transcri", re.I)
_SURE: Final = re.compile(r"confiden|score|probab|certain|likel", re.I)
_FORMATS: Final = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "stand-in@example.com",
    "uri": "https://example.com/stand-in",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
}
_COMMON: Final = ("a", "A", "aa", "AA", "aa-AA", "0", "00", "1.0", "#808080", "a-b", "a_b", "und", "1970-01-01")


def reads_text(name: str) -> bool:
    """Whether a field of that name is for the text in the picture."""
    return _TEXT.search(name) is not None


def sentence(picture: Picture, images: int = 1) -> str:
    """One sentence about a picture that begins by saying that a stand-in wrote it."""
    if picture.width == 0:
        return f"{NOTICE}: the request held no image."
    colours = " and ".join(name for name, _ in picture.colours[:2])
    rest = ", ".join(word for word in picture.words if word not in colours.split(" and "))
    count = f" (the first of {images} images)" if images > 1 else ""
    return f"{NOTICE}: a picture of {picture.width} x {picture.height} px{count}, mostly {colours}; {rest}."


def fitting_input(schema: dict[str, Any], picture: Picture, images: int = 1) -> Any:
    """A value for `schema` (JSON Schema as Pydantic writes it), told from `picture`."""
    return _Writer(schema, picture, sentence(picture, images)).value(schema, _Place("", 0, 0))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the answer a value goes: its property's name, its number in the nearest array, its depth."""

    name: str
    number: int
    depth: int

    def below(self, name: str) -> _Place:
        return _Place(name, self.number, self.depth + 1)

    def item(self, number: int) -> _Place:
        return _Place(self.name, number, self.depth + 1)


_Maker = Callable[[dict[str, Any], _Place], Any]


class _Writer:
    def __init__(self, root: dict[str, Any], picture: Picture, text: str) -> None:
        self._root = root
        self._picture = picture
        self._text = text

    def value(self, schema: Any, place: _Place) -> Any:
        schema = resolved(self._root, schema)
        options = schema.get("anyOf") or schema.get("oneOf")
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"], place)
        if options:
            return self.value(self._option(options, place), place)
        return self._of_kind(schema, place)

    def _of_kind(self, schema: dict[str, Any], place: _Place) -> Any:
        makers: dict[str, _Maker] = {
            "object": self._object,
            "array": self._array,
            "number": self._number,
            "integer": self._number,
            "boolean": self._boolean,
            "null": self._null,
        }
        maker: _Maker = makers.get(kind(schema)) or self._string
        return maker(schema, place)

    def _option(self, options: list[Any], place: _Place) -> Any:
        read = [resolved(self._root, option) for option in options]
        nulls = [option for option in read if kind(option) == "null"]
        others = [option for option in read if kind(option) != "null"]
        return nulls[0] if nulls and (place.depth >= _MAX_DEPTH or not others) else others[0]

    def _choice(self, options: list[Any], place: _Place) -> Any:
        words = self._picture.words
        fitting = [option for option in options if str(option).lower() in words]
        options = fitting or [option for option in options if option is not None] or options
        return options[self._pick(place, len(options))]

    def _pick(self, place: _Place, count: int) -> int:
        """A number below `count` that follows from the picture and the place."""
        seed = f"{self._picture}|{place.name}|{place.number}"
        return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % count

    def _object(self, schema: dict[str, Any], place: _Place) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties") or {}
        required = schema.get("required") or []
        deep = place.depth >= _MAX_DEPTH
        made = {
            name: self.value(part, place.below(name))
            for name, part in properties.items()
            if name in required or not deep
        }
        for name in required:
            if name not in made:
                made[name] = self.value(schema.get("additionalProperties", {}), place.below(name))
        for word in self._picture.words:
            if len(made) >= schema.get("minProperties", 0):
                break
            made.setdefault(word, self.value(schema.get("additionalProperties", {}), place.below(word)))
        return made

    def _array(self, schema: dict[str, Any], place: _Place) -> list[Any]:
        firsts = [resolved(self._root, part) for part in schema.get("prefixItems") or ()]
        items = resolved(self._root, schema.get("items", {}))
        if is_box(schema, firsts, items, place.name):
            return self._box(firsts[0] if firsts else items, place)
        made = [self.value(part, place.item(number)) for number, part in enumerate(firsts)]
        for number in range(len(firsts), self._count(schema, len(firsts), items, place)):
            item = self.value(items, place.item(number))
            if schema.get("uniqueItems") and item in made:
                item = self._another(item, items, made)
                if item in made:
                    break
            made.append(item)
        return made

    def _count(self, schema: dict[str, Any], firsts: int, items: dict[str, Any], place: _Place) -> int:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        wanted = _ITEMS
        if place.depth >= _MAX_DEPTH or schema.get("items") is False or (firsts and "items" not in schema):
            wanted = firsts
        elif kind(items) == "string" and _TEXT.search(place.name):
            wanted = 0  # the text in the picture, of which nothing was read
        return int(min(max(wanted, least), most))

    def _another(self, item: Any, items: dict[str, Any], made: list[Any]) -> Any:
        """A value unlike those there, for arrays whose items must differ."""
        if items.get("enum"):
            return next((one for one in items["enum"] if one not in made), item)
        if isinstance(item, str):
            return f"{item[: items.get('maxLength', 1000) - 3]}-{len(made)}"
        if isinstance(item, int | float) and not isinstance(item, bool):
            return item + items.get("multipleOf", 1) * len(made)
        return item

    def _box(self, items: dict[str, Any], place: _Place) -> list[float]:
        return [self._corner(items, place, corner) for corner in range(_BOX_NUMBERS)]

    def _corner(self, schema: dict[str, Any], place: _Place, corner: int) -> float:
        boxes = self._picture.boxes
        thousandths = boxes[place.number % len(boxes)][corner]
        span = upper(schema)
        if span is None or span >= _BOX_SIDE or span <= 0:
            span = _BOX_SIDE
        return within(thousandths * span / _BOX_SIDE, schema)

    def _number(self, schema: dict[str, Any], place: _Place) -> float:
        corner = _CORNERS.get(place.name.lower().replace("_", ""))
        if corner is not None:
            return self._corner(schema, place, corner)
        least, most = lower(schema), upper(schema)
        if _SURE.search(place.name):
            wanted = self._sureness(place) * (1.0 if most is None else most)
        elif place.name.lower() in ("width", "height"):
            wanted = float(getattr(self._picture, place.name.lower()))
        elif least is not None and most is not None:
            wanted = least + (most - least) * self._picture.brightness
        else:
            wanted = float(round(self._picture.brightness * 10))
        return within(wanted, schema)

    def _sureness(self, place: _Place) -> float:
        shares = self._picture.colours
        return round(0.5 + shares[place.number % len(shares)][1] / 2.5, 3)

    def _null(self, _schema: dict[str, Any], _place: _Place) -> None:
        return None

    def _boolean(self, _schema: dict[str, Any], place: _Place) -> bool:
        if _TEXT.search(place.name):
            return self._picture.text_like > 0.4  # noqa: PLR2004
        return bool(self._pick(place, 2))

    def _label(self, number: int) -> str:
        """A word for each number; when the words run out they come again with a count."""
        again, at = divmod(number, len(self._picture.words))
        return f"{self._picture.words[at]} {again + 1}" if again else self._picture.words[at]

    def _string(self, schema: dict[str, Any], place: _Place) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        words = self._picture.words
        made = self._text
        if _LABEL.search(place.name) and not _TEXT.search(place.name):
            made = self._label(place.number)
        elif "lang" in place.name.lower():
            made = "und"  # undetermined, in ISO 639
        elif _TEXT.search(place.name):
            made = f"{NOTICE}: text in the picture is not read."
        made = made[: schema.get("maxLength", len(made))]
        made = made.ljust(schema.get("minLength", 0), ".")
        pattern = schema.get("pattern")
        if pattern and not matches(pattern, made):
            made = next((one for one in (*words, *_COMMON) if matches(pattern, one)), made)
        return made
