"""Airflow Params made from the pipeline's one list of parameters."""

from __future__ import annotations

from typing import Any, Self

from airflow.sdk import Param

from include.pipeline.params import PipelineParams, param_schemas


def pipeline_params() -> dict[str, Param]:
    """Return the trigger form of `image_proxy_pipeline`, in the order of its fields."""
    return form_of(PipelineParams)


class _Schema(dict[str, Any]):
    """A JSON schema that nobody changes. Airflow copies a DAG's params for each of its tasks, which took a third of the
    time that a task takes to parse its DAG: a copy of this one is itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def form_of(kind: type[Any]) -> dict[str, Param]:
    """Return the trigger form of a params dataclass, in the order of its fields."""
    return {
        name: Param(schema.pop("default"), schema.pop("description", None), schema=_Schema(schema))
        for name, schema in param_schemas(kind).items()
    }
