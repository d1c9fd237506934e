"""Some seconds of hostile files with a fixed seed; `make fuzz` goes on for a minute."""

from __future__ import annotations

import psutil
import pytest

from tests.imaging import fuzz

CASES = 1200
LONGEST_SECONDS = 60


def test_the_seeds_are_honest_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Damage that is refused says nothing when what it was done to was refused too."""
    folder = tmp_path_factory.mktemp("seeds")
    with fuzz.DecodeWorkers(1, fuzz.LIMITS) as pool:
        for name, data in fuzz.seeds().items():
            outcome = fuzz.try_one(pool, data, fuzz.ProxyOptions(target_short_side=256), folder / name)
            assert outcome in {"resized", "converted", "stripped"}, name


def test_damage_can_be_done_again() -> None:
    assert [fuzz.damaged(7, case) for case in range(50)] == [fuzz.damaged(7, case) for case in range(50)]
    assert len({data for _, data in (fuzz.damaged(7, case) for case in range(200))}) > 190


def test_whatever_goes_in() -> None:
    """A valid proxy comes out, or a typed refusal."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    report = fuzz.fuzz(7, LONGEST_SECONDS, most=CASES)
    assert report.broken == []
    assert report.cases > CASES // 5  # also on a machine with other things to do
    assert {"resized", "stripped", "corrupt", "truncated", "too_many_pixels"} <= set(report.outcomes)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
