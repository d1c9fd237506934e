"""Ctrl-C and `kill` as one exception, so that everything that was started is stopped on the way out."""

from __future__ import annotations

import signal
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
