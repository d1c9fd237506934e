"""Checks for the trigger forms of the smaller DAGs: what the schema says, in words that say what to type."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from include.pipeline.params import InvalidParams

Schemas = Mapping[str, Mapping[str, Any]]  # name -> JSON schema with default, title and description


def checked_conf(conf: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    """Return every param with its value or default. Raises `InvalidParams`, naming each wrong one."""
    from jsonschema import Draft202012Validator

    problems = []
    for name, value in conf.items():
        if name not in schemas:
            close = difflib.get_close_matches(name, schemas, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(schemas)}"
            problems.append(f"unknown param {name!r}: {hint}")
            continue
        problems += [f"{name}: {error.message}" for error in Draft202012Validator(schemas[name]).iter_errors(value)]
    if problems:
        raise InvalidParams("; ".join(problems))
    return {name: conf.get(name, schema["default"]) for name, schema in schemas.items()}
