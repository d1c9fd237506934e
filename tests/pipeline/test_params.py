"""Params: what a person may type, and what they are told when it does not fit."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.catalog.records import Stage
from include.pipeline.params import InvalidParams, PipelineParams, param_schemas, parse_params


def test_nothing_typed_gives_the_documented_defaults() -> None:
    params = parse_params({})
    assert params == PipelineParams()
    assert params.wanted == {Stage.PROXY, Stage.ANALYSE}
    assert (params.target_short_side, params.quality, params.max_failure_ratio) == (896, 85, 0.2)


def test_the_schemas_accept_their_own_defaults() -> None:
    defaults = {name: schema["default"] for name, schema in param_schemas().items()}
    assert parse_params(defaults) == PipelineParams()


def test_every_param_says_what_it_is_for() -> None:
    for name, schema in param_schemas().items():
        assert schema["title"] and schema["description"].endswith("."), name


def test_a_whole_number_written_with_a_point_is_a_whole_number() -> None:
    params = parse_params({"limit": 5.0, "quality": 85.0, "file_ids": [1.0]})
    assert [type(value) for value in (params.limit, params.quality, *(params.file_ids or ()))] == [int, int, int]


def test_stored_params_come_back_the_same() -> None:
    params = parse_params({"file_ids": [3, 1], "uploaded_from": "2026-11-01T02:00:00+02:00", "stages": ["proxy"]})
    assert params.uploaded_from == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_params(params.as_json()) == params


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"limt": 5}, "unknown param 'limt': did you mean limit?"),
        ({"zzz": 5}, "known are stages, limit"),
        ({"limit": 0}, "limit: 0 is less than the minimum of 1"),
        ({"max_cost_usd": float("nan")}, "max_cost_usd: nan is not a number"),
        ({"uploaded_from": "0001-01-01T00:00:00+14:00"}, "is not a time"),
        ({"limit": "ten"}, "limit: 'ten' is not of type"),
        ({"file_ids": [2**63]}, "whole numbers above 0, for example [1, 2, 3]"),
        ({"target_short_side": 4000}, "target_short_side: 4000 is greater than the maximum of 2048"),
        ({"detail": "high"}, "detail: 'high' is not one of ['fixed', 'auto']"),
        ({"graphics_format": "bmp"}, "graphics_format: 'bmp' is not one of ['png', 'webp']"),
        ({"stages": []}, "stages: [] should be non-empty"),
        ({"stages": ["resize"]}, "stages: 'resize' is not one of"),
        ({"uploaded_from": "yesterday"}, "uploaded_from: 'yesterday' is not a time; type for example 2026-"),
        ({"uploaded_to": "2026-11-01T00:00:00"}, "has no UTC offset"),
        (
            {"uploaded_from": "2026-11-02T00:00:00+00:00", "uploaded_to": "2026-11-01T00:00:00+00:00"},
            "uploaded_from must be before uploaded_to",
        ),
    ],
)
def test_a_wrong_param_is_refused_by_name(conf: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParams) as error:
        parse_params(conf)
    assert said in str(error.value)


def test_all_wrong_params_are_named_at_once() -> None:
    with pytest.raises(InvalidParams, match=r"quality.*limit|limit.*quality"):
        parse_params({"quality": 1, "limit": -1})
