"""Means of a sample with their confidence intervals, by the bootstrap: no assumption on how figures are spread.

One figure a picture goes in, since answers about one picture are not independent. Efron and Tibshirani, An Introduction
to the Bootstrap (1993), chapter 13: the percentile interval, from resampling pictures with replacement.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

CONFIDENCE = 0.95
RESAMPLES = 2000
# With fewer pictures the percentile interval is far too narrow: better none than a false one.
MIN_SAMPLE = 10
T = TypeVar("T")
_SEED = 20_261_122  # fixed, so that the same answers give the same report


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over `pictures` pictures, with its 95 % interval; low and high are None below `MIN_SAMPLE`."""

    value: float
    low: float | None
    high: float | None
    pictures: int

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval lies on one side of zero; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def mean(values: Sequence[float]) -> Estimate | None:
    """The mean of one figure a picture; None of no pictures."""
    return estimate(values, lambda sample: math.fsum(sample) / len(sample))


def saved_share(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    """1 - (sum of the second) / (sum of the first), over pairs of one picture each; None where the firsts are zero.

    Without an interval where some are: a resample of these alone has no share.
    """
    if not math.fsum(first for first, _ in pairs):
        return None
    if not all(first for first, _ in pairs):
        return Estimate(_saved_share(pairs), None, None, len(pairs))
    return estimate(pairs, _saved_share)


def _saved_share(pairs: Sequence[tuple[float, float]]) -> float:
    return 1 - math.fsum(second for _, second in pairs) / math.fsum(first for first, _ in pairs)


def estimate(sample: Sequence[T], statistic: Callable[[Sequence[T]], float]) -> Estimate | None:
    """`statistic` of the sample, and its percentile bootstrap interval."""
    if not sample:
        return None
    value = statistic(sample)
    if len(sample) < MIN_SAMPLE:
        return Estimate(value, None, None, len(sample))
    source = random.Random(_SEED)  # noqa: S311 - statistics, not secrets
    found = sorted(statistic(source.choices(sample, k=len(sample))) for _ in range(RESAMPLES))
    tail = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    return Estimate(value, found[tail], found[-tail - 1], len(sample))
