"""A wrong pixel here is a proxy that Nova scales a second time, or refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.imaging import calculate_target_dimensions, needs_proxy

SIDES = st.integers(1, 70_000)


@pytest.mark.parametrize(
    ("source", "proxy"),
    [
        ((4000, 3000), (1195, 896)),
        ((6000, 4000), (1344, 896)),
        ((3840, 2160), (1593, 896)),  # 1592.9: truncation gives 1592
        ((3264, 2448), (1195, 896)),  # int(2448 * (896 / 2448)) is 895
        ((2448, 3264), (896, 1195)),
        ((1200, 800), (1200, 800)),
        ((896, 896), (896, 896)),
        ((897, 897), (896, 896)),
        ((20_000, 1000), (8000, 400)),  # the cap wins over the shorter side
        ((65_535, 1), (8000, 1)),  # never 0
        ((8001, 800), (8000, 800)),
        ((8000, 100), (8000, 100)),
    ],
)
def test_known_sizes(source: tuple[int, int], proxy: tuple[int, int]) -> None:
    assert calculate_target_dimensions(*source) == proxy
    assert needs_proxy(*source) == (source != proxy)


@given(SIDES, SIDES, st.integers(256, 2048), st.integers(256, 8000))
def test_never_larger_never_empty_never_over_the_cap(width: int, height: int, target: int, cap: int) -> None:
    new_width, new_height = calculate_target_dimensions(width, height, target, cap)
    assert 1 <= new_width <= min(width, cap)
    assert 1 <= new_height <= min(height, cap)
    assert min(new_width, new_height) <= target


@given(SIDES, SIDES)
def test_shorter_side_is_exact_unless_the_cap_shrinks_it(width: int, height: int) -> None:
    proxy = calculate_target_dimensions(width, height)
    if max(proxy) < 8000:
        assert min(proxy) == min(width, height, 896)
    else:
        assert max(proxy) == 8000


@given(SIDES, SIDES)
def test_the_rounded_side_is_within_half_a_pixel(width: int, height: int) -> None:
    new_short, new_long = sorted(calculate_target_dimensions(width, height))
    short, long = sorted((width, height))
    exact_long, exact_short = Fraction(long * new_short, short), Fraction(short * new_long, long)
    assert abs(exact_long - new_long) <= Fraction(1, 2) or abs(exact_short - new_short) <= max(
        Fraction(1, 2), 1 - exact_short
    )


@given(SIDES, SIDES)
def test_a_turned_picture_gives_a_turned_proxy(width: int, height: int) -> None:
    assert calculate_target_dimensions(height, width) == calculate_target_dimensions(width, height)[::-1]


@given(SIDES, SIDES)
def test_a_proxy_needs_no_proxy(width: int, height: int) -> None:
    assert not needs_proxy(*calculate_target_dimensions(width, height))


@pytest.mark.parametrize("lengths", [(0, 10), (10, -1)])
def test_refuses_lengths_that_are_none(lengths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        calculate_target_dimensions(*lengths)
