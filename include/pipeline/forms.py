"""Checks for the trigger forms of the smaller DAGs, in the words of the pipeline's own form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.pipeline.params import checked_values

Schemas = Mapping[str, Mapping[str, Any]]  # name -> JSON schema with default, title and description


def checked_conf(conf: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    """Return every param with its value or default. Raises `InvalidParams`, naming each wrong one."""
    return {name: schema["default"] for name, schema in schemas.items()} | checked_values(conf, schemas)
