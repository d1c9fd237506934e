"""Airflow Params made from the pipeline's one list of parameters."""

from __future__ import annotations

from airflow.sdk import Param

from include.pipeline.params import param_schemas


def pipeline_params() -> dict[str, Param]:
    """Return the trigger form of `image_proxy_pipeline`, in the order of its fields."""
    return {name: Param(schema.pop("default"), **schema) for name, schema in param_schemas().items()}
