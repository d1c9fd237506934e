"""Holds a request against botocore's own model of Converse: names, types, required members and constraints.

The client that botocore gives checks less (no maxima, patterns or enums), and others check nothing at all.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from include.local.nova_stand_in.errors import BedrockError, converse_operation, invalid

_JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
}


def check_body(body: Any, operation: Any = None) -> None:
    """Raise `BedrockError` when `body` (parsed JSON) is not a request to `operation`, Converse where none is named.

    Unknown members: ValidationException in the words Bedrock has for them. Wrong types and unions without exactly one
    member: SerializationException, as Smithy's restJson1 has it. Broken constraints: ValidationException with all of
    them, each at its path.
    """
    walk = _Walk()
    walk.top(body, operation or converse_operation())
    if walk.broken:
        errors = "errors" if len(walk.broken) > 1 else "error"
        raise invalid(f"{len(walk.broken)} validation {errors} detected: {'; '.join(walk.broken)}")


class _Walk:
    def __init__(self) -> None:
        self.broken: list[str] = []

    def top(self, body: Any, operation: Any) -> None:
        shape = operation.input_shape
        # The model id travels in the path; in the body it is as unknown as anything else.
        members = {name: member for name, member in shape.members.items() if "location" not in member.serialization}
        self._members(body, members, [name for name in shape.required_members if name in members], "")

    def _members(self, value: Any, members: dict[str, Any], required: list[str], path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(path, "structure")
        for name in value:
            if name not in members:
                place = "#" + "".join(f"/{step}" for step in path.split(".") if step)
                raise invalid(
                    f"Malformed input request: {place}: extraneous key [{name}] is not permitted, "
                    "please reformat your input and try again."
                )
        for name in required:
            if value.get(name) is None:
                where = _join(path, name)
                self.broken.append(f"Value null at '{where}' failed to satisfy constraint: Member must not be null")
        for name, member in value.items():
            if member is not None:  # JSON's null is an absent member
                self._visit(member, members[name], _join(path, name))

    def _visit(self, value: Any, shape: Any, path: str) -> None:
        kind = shape.type_name
        if kind == "structure" and shape.is_document_type:
            return
        if not _is_of(kind, value):
            raise _wrong_type(path, kind)
        if kind == "structure":
            if shape.is_tagged_union and sum(one is not None for one in value.values()) != 1:
                raise BedrockError("SerializationException", f"Exactly one member must be set at '{path}'")
            self._members(value, shape.members, list(shape.required_members), path)
        elif kind == "list":
            self._size(len(value), shape, path, "length")
            for number, item in enumerate(value, start=1):
                self._visit(item, shape.member, f"{path}.{number}.member")
        elif kind == "map":
            self._size(len(value), shape, path, "length")
            for key, item in value.items():
                self._visit(key, shape.key, f"{path}.key")
                self._visit(item, shape.value, f"{path}.{key}.member")
        else:
            self._scalar(value, shape, path)

    def _scalar(self, value: Any, shape: Any, path: str) -> None:
        kind = shape.type_name
        if kind == "string":
            self._size(len(value), shape, path, "length")
            self._text(value, shape, path)
        elif kind == "blob":
            self._size(len(decode_blob(value, path)), shape, path, "length")
        elif kind != "boolean":
            self._size(value, shape, path, "value")

    def _text(self, value: str, shape: Any, path: str) -> None:
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value, re.DOTALL):
            self._complain(path, f"Member must satisfy regular expression pattern: {pattern}")
        if shape.enum and value not in shape.enum:
            self._complain(path, f"Member must satisfy enum value set: [{', '.join(sorted(shape.enum))}]")

    def _size(self, size: float, shape: Any, path: str, what: str) -> None:
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if least is not None and size < least:
            self._complain(path, f"Member must have {what} greater than or equal to {least}")
        if most is not None and size > most:
            self._complain(path, f"Member must have {what} less than or equal to {most}")

    def _complain(self, path: str, constraint: str) -> None:
        # Bedrock repeats the value here; it may be a prompt, so it is left out.
        self.broken.append(f"Value at '{path}' failed to satisfy constraint: {constraint}")


def _is_of(kind: str, value: Any) -> bool:
    # In Python true is an integer; in JSON it is not.
    return isinstance(value, _JSON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def decode_blob(text: str, path: str) -> bytes:
    """Bytes of a JSON blob, which is base64. Raises `BedrockError` (SerializationException)."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BedrockError("SerializationException", f"The value at '{path}' is not base64") from None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_type(path: str, expected: str) -> BedrockError:
    return BedrockError("SerializationException", f"The value at '{path or 'body'}' is not of type {expected}")
