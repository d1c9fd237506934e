"""How many pixels may be decoded at once, so that memory stays flat however large a batch and its images are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Lets images in as long as their pixels fit together; one that is larger than the whole budget goes alone.

    A large image waits for its turn while smaller ones go by; it is let in when nothing else is, at the latest.

    `share` is what each of so many workers may have at the same time. An image that is no larger needs no look at its
    header before its turn, which costs 3 ms; the first that is larger ends that for its batch, where more may be.
    """

    def __init__(self, pixels: int, workers: int) -> None:
        self._pixels = pixels
        self.share: int | None = pixels // workers or None
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until an image of so many pixels fits, and keep its place for the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._pixels)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()
