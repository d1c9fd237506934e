"""Confidence intervals: those of known distributions, and none where there is no ground for one."""

from __future__ import annotations

import math
import random

import pytest

from include.savings.intervals import MIN_SAMPLE, estimate, mean, saved_share


def test_the_interval_of_a_mean_is_near_the_textbooks() -> None:
    source = random.Random(7)  # noqa: S311
    values = [source.gauss(10, 2) for _ in range(200)]
    found = mean(values)
    assert found is not None and found.low is not None and found.high is not None
    center = math.fsum(values) / 200
    half = 1.96 * (math.fsum((value - center) ** 2 for value in values) / 199) ** 0.5 / 200**0.5
    assert found.value == pytest.approx(center)
    assert found.low == pytest.approx(center - half, abs=0.25 * half)
    assert found.high == pytest.approx(center + half, abs=0.25 * half)


def test_the_truth_is_inside_about_as_often_as_it_says() -> None:
    source, inside = random.Random(11), 0  # noqa: S311
    for _ in range(60):
        found = mean([source.expovariate(1) for _ in range(30)])
        assert found is not None and found.low is not None and found.high is not None
        inside += found.low <= 1 <= found.high
    assert 0.8 <= inside / 60 <= 1  # exponential, 30 pictures: the percentile interval covers about 91 to 93 %


def test_few_pictures_have_a_mean_and_no_interval() -> None:
    found = mean([1.0] * (MIN_SAMPLE - 1))
    assert found is not None
    assert (found.value, found.low, found.high, found.excludes_zero) == (1.0, None, None, None)
    assert mean([]) is None


def test_the_same_answers_give_the_same_interval() -> None:
    values = [float(number % 7) for number in range(40)]
    assert mean(values) == mean(values)


def test_which_side_of_zero() -> None:
    apart, around = mean([1.0 + number % 3 for number in range(30)]), mean([(-1.0) ** number for number in range(30)])
    assert apart is not None and apart.excludes_zero is True
    assert around is not None and around.excludes_zero is False


def test_a_share_is_of_the_sums_not_a_mean_of_shares() -> None:
    found = saved_share([(10.0, 5.0), (1.0, 1.0)])
    assert found is not None and found.value == pytest.approx(5 / 11)
    assert saved_share([(0.0, 1.0)]) is None


def test_a_share_of_little_but_zeros_has_no_interval() -> None:
    """A resample of zeros alone has no share: an answer that took under a millisecond is one."""
    found = saved_share([(0.0, 0.0)] * MIN_SAMPLE + [(4.0, 1.0)])
    assert found is not None
    assert (found.value, found.low, found.high, found.pictures) == (0.75, None, None, MIN_SAMPLE + 1)


def test_any_statistic_of_the_sample() -> None:
    found = estimate(list(range(11)), lambda sample: sorted(sample)[len(sample) // 2])
    assert found is not None and found.value == 5
