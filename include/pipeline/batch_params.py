"""The parameters of a batch inference run: those of the pipeline that fit. Light, for the DAG is parsed with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.pipeline.params import InvalidParams, PipelineParams, param_schemas, parse_params

STAGES = ("analyse",)
DEFAULT_LIMIT = 50_000
# Of the pipeline's params: what chooses images, what names their proxies, and what bounds the run.
NAMES = (
    "limit",
    "dry_run",
    "file_ids",
    "uploaded_from",
    "uploaded_to",
    "target_short_side",
    "detail",
    "quality",
    "graphics_format",
    "model_id",
    "max_failure_ratio",
    "max_cost_usd",
)
_DESCRIPTIONS = {
    "limit": "Take at most this many images, oldest upload first. Empty: 50,000, one full job.",
    "target_short_side": "Of the proxies to take: those made with this shorter side.",
    "detail": "Of the proxies to take.",
    "quality": "Of the proxies to take.",
    "graphics_format": "Of the proxies to take.",
}


def batch_param_schemas() -> dict[str, dict[str, Any]]:
    """Return name -> JSON schema of the params of a batch inference run, in the order of the form."""
    known = param_schemas()
    return {
        name: known[name] | ({"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}) for name in NAMES
    }


def parse_batch_params(conf: Mapping[str, Any]) -> PipelineParams:
    """Check ``conf`` as the pipeline does, for a run that analyses only. Raises `InvalidParams`."""
    unknown = sorted(set(conf) - set(NAMES))
    if unknown:
        raise InvalidParams(f"unknown param {', '.join(map(repr, unknown))}: known are {', '.join(NAMES)}")
    return parse_params({**conf, "stages": list(STAGES)})
