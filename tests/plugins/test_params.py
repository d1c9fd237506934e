"""The trigger form: what Airflow does with params, and what a DAG of nine tasks pays for that."""

from __future__ import annotations

import copy
import json

from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from image_proxy.params import pipeline_params

from include.pipeline.params import param_schemas


def test_a_copy_for_a_task_is_a_param_of_its_own_with_the_same_schema() -> None:
    """Airflow copies all params for each task of a DAG, whenever a task or the DAG processor parses it."""
    params = pipeline_params()
    copied = copy.deepcopy(ParamsDict(params))
    for name, param in params.items():
        other = copied.get_param(name)
        assert other is not param
        assert other.schema is param.schema
        assert (other.value, other.description) == (param.value, param.description)


def test_a_value_set_for_one_task_is_not_another_ones() -> None:
    params = ParamsDict(pipeline_params())
    copied = copy.deepcopy(params)
    copied["limit"] = 7
    assert (copied["limit"], params["limit"]) == (7, param_schemas()["limit"]["default"])


def test_a_param_is_stored_as_plain_values() -> None:
    for name, param in pipeline_params().items():
        told = param_schemas()[name]
        default, description = told.pop("default"), told.pop("description")
        assert Param.deserialize(json.loads(json.dumps(param.serialize())), 1).schema == told
        assert (param.value, param.description) == (default, description)
