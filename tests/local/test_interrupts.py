"""Ctrl-C while a server starts: it stops everything, and no retry swallows it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from include.local.processes import ChildServer
from scripts.interrupts import Interrupted, raise_on_signals


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_a_readiness_check_ends_the_start(
    tmp_path: Path, signals_as_before: None, number: signal.Signals
) -> None:
    raise_on_signals()
    started: list[int] = []

    def ready() -> bool:
        started.append(server.pid)
        os.kill(os.getpid(), number)
        return False

    server = ChildServer(
        "sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], log_path=tmp_path / "log", ready=ready
    )
    with pytest.raises(Interrupted) as interrupted:
        server.start()
    assert interrupted.value.exit_code == 128 + number
    assert not psutil.pid_exists(started[0])
