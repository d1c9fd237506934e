"""Which processes of a benchmark run on which cores, and how much CPU they take there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Layout:
    """The cores of the processes that do the work, and those of all others."""

    name: str
    workers: frozenset[int]
    others: frozenset[int]


def layouts() -> tuple[Layout, ...]:
    """Half of the cores for workers and half for the rest, where there are two or more; and everything on all."""
    cores = sorted(os.sched_getaffinity(0))
    half, everywhere = len(cores) // 2, frozenset(cores)
    shared = Layout("shared", everywhere, everywhere)
    return (Layout("apart", frozenset(cores[:half]), frozenset(cores[half:])), shared) if half else (shared,)


@contextmanager
def on_cores(cores: Set[int]) -> Iterator[None]:
    """This thread, with every thread and process that it starts in the block, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def confine(pid: int, cores: Set[int]) -> None:
    """Put a running process, its threads and all that it has started on these cores; what they start inherits that."""
    for process in _family(pid):
        with suppress(psutil.Error, ProcessLookupError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)


@contextmanager
def children_on(pid: int, cores: Set[int]) -> Iterator[None]:
    """All that a process starts in the block, within a moment on these cores; the process itself stays where it is."""
    ended = threading.Event()

    def watch() -> None:
        moved: set[int] = set()
        while not ended.wait(WATCH_SECONDS):
            new = {child.pid for child in _family(pid)[1:]} - moved
            for child in new:
                with suppress(psutil.Error):
                    confine(child, cores)
            moved |= new

    watcher = threading.Thread(target=watch, name="cores", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def standing_still(pids: Mapping[str, int]) -> Iterator[None]:
    """These processes, and all that they have started, take no CPU in the block."""
    stopped = [process for pid in pids.values() for process in _family(pid)]
    for process in stopped:
        with suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of each named process so far, with all that it has started, living or ended."""
    return {name: sum(map(_used, _family(pid))) for name, pid in pids.items()}


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended: its parent's sum of ended children has it
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
