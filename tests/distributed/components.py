"""One service of the topology as a process group, and what can be done to processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from include.local.processes import ChildServer


@dataclass
class Component:
    """One process group that runs one service, and how to start it again."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    logs: Path
    ready: Callable[[], bool]
    sessions: list[int] = field(default_factory=list)  # one for each start; whatever it starts is in it
    held: bool = False  # killed, and not to be started before the test says so
    server: ChildServer | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start without waiting until it is ready."""
        if self.server is not None:
            self.server.stop()
        self.server = ChildServer(
            self.name,
            self.argv,
            log_path=self.log_path(len(self.sessions) + 1),
            ready=lambda: True,
            env=self.environment,
            cwd=Path("/"),  # nobody's working directory
        )
        self.server.start()
        self.sessions.append(self.server.pid)

    def log_path(self, start: int) -> Path:
        """Where the output of its so-many-th start is."""
        return self.logs / f"{self.name}.{start}.log"

    @property
    def pid(self) -> int:
        assert self.server is not None
        return self.server.pid

    @property
    def running(self) -> bool:
        return self.server is not None and self.server.running


def family(pid: int) -> list[psutil.Process]:
    """A process with all that it started, and that these started."""
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


@contextlib.contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Processes that do not run during the block; those that are alive go on after it."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()
