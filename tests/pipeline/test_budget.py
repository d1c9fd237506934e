"""The pixel budget: never more at once than fits, and nobody is kept out for good."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.pipeline.budget import PixelBudget


def test_pixels_in_flight_never_pass_the_budget() -> None:
    budget, lock, used, most = PixelBudget(100, 2), threading.Lock(), 0, 0

    def work(pixels: int) -> None:
        nonlocal used, most
        with budget.hold(pixels):
            with lock:
                used += pixels
                most = max(most, used)
            with lock:
                used -= pixels

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, [30, 60, 90, 10] * 200))
    assert most <= 100


@pytest.mark.parametrize(("workers", "share"), [(1, 100), (3, 33), (101, None)])
def test_all_shares_together_fit(workers: int, share: int | None) -> None:
    assert PixelBudget(100, workers).share == share


def test_an_image_over_the_whole_budget_goes_alone() -> None:
    budget, inside = PixelBudget(100, 2), threading.Event()
    with ThreadPoolExecutor(1) as executor:
        with budget.hold(500):
            small = executor.submit(_enter, budget, inside)
            assert not inside.is_set()
        small.result(timeout=10)
    assert inside.is_set()


def test_a_failure_inside_gives_its_place_back() -> None:
    budget = PixelBudget(100, 2)
    with pytest.raises(ValueError, match="broken"), budget.hold(100):
        raise ValueError("broken")
    with budget.hold(100):
        pass


def _enter(budget: PixelBudget, inside: threading.Event) -> None:
    with budget.hold(10):
        inside.set()
