"""Working through a claimed batch: every image, in parallel, stopping when asked and when infrastructure gives way."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from include.catalog.records import ClaimedBatch, Outcome, SourceImage, WorkItem
from include.pipeline.batches import RunCancelled, work_through


def batch(size: int) -> ClaimedBatch:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    return ClaimedBatch(
        "owner",
        tuple(
            WorkItem(
                image=SourceImage(i, f"file:///{i}.jpg", f"{i}.jpg", "image/jpeg", 1, "v", None, None, None, now),
                proxy=None,
                proxied=False,
                analysed=False,
            )
            for i in range(size)
        ),
    )


def test_every_image_is_worked_on_once_and_counted() -> None:
    seen: list[int] = []

    def work(item: WorkItem) -> Outcome:
        seen.append(item.image.file_id)
        return Outcome.FAILED if item.image.file_id == 3 else Outcome.PROXIED

    assert work_through(batch(20), work, 4, threading.Event()) == {Outcome.PROXIED: 19, Outcome.FAILED: 1}
    assert sorted(seen) == list(range(20))


def test_images_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=30)

    def work(item: WorkItem) -> Outcome:
        together.wait()
        return Outcome.PROXIED

    assert work_through(batch(4), work, 4, threading.Event()) == {Outcome.PROXIED: 4}


def test_infrastructure_trouble_begins_no_further_image_and_is_raised() -> None:
    begun: list[int] = []

    def work(item: WorkItem) -> Outcome:
        begun.append(item.image.file_id)
        raise ConnectionError("storage is away")

    with pytest.raises(ConnectionError, match="storage is away"):
        work_through(batch(100), work, 2, threading.Event())
    assert len(begun) <= 4


def test_a_stopped_batch_ends_what_is_in_flight_and_says_how_far_it_came() -> None:
    stop = threading.Event()

    def work(item: WorkItem) -> Outcome:
        if item.image.file_id == 2:
            stop.set()
        return Outcome.PROXIED

    with pytest.raises(RunCancelled, match="stopped after 3 of 10 images"):
        work_through(batch(10), work, 1, stop)
