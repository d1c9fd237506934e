"""Airflow Params made from the pipeline's one list of parameters."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from include.pipeline.params import PipelineParams, param_schemas


def pipeline_params() -> dict[str, Param]:
    """Return the trigger form of `image_proxy_pipeline`, in the order of its fields."""
    return form_of(PipelineParams)


def form_of(kind: type[Any]) -> dict[str, Param]:
    """Return the trigger form of a params dataclass, in the order of its fields."""
    return {name: Param(schema.pop("default"), **schema) for name, schema in param_schemas(kind).items()}
