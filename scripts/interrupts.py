"""Ctrl-C and `kill` as one exception, so that everything that was started is stopped on the way out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked to stop; `exit_code` is what a shell expects of a program that ended by it.

    Not an `Exception`, so that nobody who tries again after one swallows it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def raise_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Interrupted` in the main thread, and ignore those that follow."""
    for number in _SIGNALS:
        signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    for again in _SIGNALS:
        signal.signal(again, signal.SIG_IGN)  # a second one would leave the stopping half done
    raise Interrupted(number)


@dataclass
class Signals:
    """What came; `exit_code` is None while nothing did."""

    exit_code: int | None = None


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[Signals]:
    """Set ``stop`` at the first signal, so that what is in flight can end. A second one kills, as it always does."""
    signals = Signals()

    def asked(number: int, frame: FrameType | None) -> None:
        signals.exit_code = 128 + number
        stop.set()
        for again in _SIGNALS:
            signal.signal(again, signal.SIG_DFL)
        os.write(2, b"\nStopping: what is in flight ends, the rest stays pending. Once more kills.\n")

    before = {number: signal.signal(number, asked) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
