"""The gate's judgement from counts alone; that a run turns red is shown with the whole DAG."""

from __future__ import annotations

import pytest

from include.catalog.records import Outcome, RunCounts
from include.pipeline.gate import reasons_against


def counts(listed: int, undecided: int = 0, **by_outcome: int) -> RunCounts:
    return RunCounts(listed, {Outcome(name): count for name, count in by_outcome.items()}, undecided)


@pytest.mark.parametrize(
    "held",
    [
        counts(0),
        counts(5, analysed=4, failed=1),  # exactly the ratio allowed
        counts(3, skipped=3),
        counts(4, analysed=2, returned=2),  # throttled ones are pending again, which is no failure of theirs
    ],
)
def test_an_honest_run_passes(held: RunCounts) -> None:
    assert reasons_against(held, 0.2) == []


def test_a_lost_image_is_red_whatever_the_ratio() -> None:
    assert "1 of 100 images have no outcome" in reasons_against(counts(100, undecided=1, analysed=99), 1.0)[0]


def test_skipped_and_returned_images_do_not_dilute_failures() -> None:
    held = counts(100, analysed=1, failed=1, skipped=90, returned=8)
    assert "1 of 2 attempted images failed (50%)" in reasons_against(held, 0.2)[0]


def test_no_failure_is_allowed_at_ratio_zero() -> None:
    assert reasons_against(counts(100, analysed=99, failed=1), 0.0)
