"""What may be asked of an evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from include.pipeline.evaluation_params import parse_evaluation
from include.pipeline.params import InvalidParams


def test_the_original_is_always_among_the_sizes_and_they_are_in_order() -> None:
    assert parse_evaluation({"detail": ["1344", 896, "auto"]}).detail == ("896", "1344", "auto", "original")
    assert parse_evaluation({}).detail == ("896", "original")


def test_only_the_original_is_repeated() -> None:
    assert parse_evaluation({"detail": ["896"], "repeats": 3}).calls_a_picture == (
        ("896", 0),
        ("original", 0),
        ("original", 1),
        ("original", 2),
    )


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"detail": ["huge"]}, "'huge': a size is a shorter side of 256 to 2048 px, auto or original"),
        ({"detail": ["255"]}, "'255'"),
        ({"detail": [4000]}, "'4000'"),
        ({"detail": ["original"]}, "at least one size beside the original"),
        ({"detail": []}, "detail"),
        ({"file_ids": []}, "an empty list has no pictures"),
        ({"sample": 3}, "did you mean sample_size"),
        ({"repeats": 0}, "repeats: 0"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
    ],
)
def test_what_cannot_be_is_refused_by_name(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        parse_evaluation(conf)


def test_what_is_stored_is_read_back_the_same() -> None:
    params = parse_evaluation({"detail": ["auto"], "file_ids": [3, 1], "max_cost_usd": None})
    assert parse_evaluation(params.as_json()) == params
