"""Child servers of a laptop run: started in a process group of their own, and gone with it, however the run ends.

Three things see to that: `stop` (or leaving the `with`) ends the whole group; on Linux the kernel ends the server when
its parent is killed; and a record on disk lets the next start end what is left even so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_POLL_SECONDS: Final = 0.02
_LOG_TAIL_BYTES: Final = 2000
_CLOCK_SLACK_SECONDS: Final = 2.0  # two readings of one process's start time differ when the clock was set in between

# Runs in the child, then becomes the server: asks the kernel for a SIGTERM when the parent dies, and leaves at once if
# that has happened already. -S -E: nothing else is imported or read.
_TRAMPOLINE: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServerFailed(RuntimeError):
    """A child server did not come up. `code` is stable: server_missing, server_exited or server_not_ready."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    return free_ports(1)[0]


def is_free(port: int) -> bool:
    """Whether nobody listens on this TCP port of 127.0.0.1 at the moment."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> tuple[int, ...]:
    """`count` different free ports of 127.0.0.1; all are held while choosing, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)


class ChildServer:
    """One server process (and whatever it starts), from `start` to `stop`; a context manager.

    Its log holds every start of this object, so that what ended it can still be read after the next one.
    `ready` is asked until it says True; what it raises counts as not yet. `env` replaces the environment (None: ours).
    `record_path` names the file that remembers the process for the next start; give each server its own.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        record_path: Path | None = None,
        ready_seconds: float = 30.0,
        stop_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._log_path = log_path
        self._ready = ready
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._record_path = record_path
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._logged = False

    @property
    def pid(self) -> int:
        """Process id, and process group id, of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Started and not ended by itself since."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> int | None:
        """The exit code, as soon as the process has ended by itself; None when it still runs after `seconds`."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def start(self) -> Self:
        """Start and wait until ready. Raises `ServerFailed` with the end of the log; nothing is left running then."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} is started already")
        if self._record_path is not None:
            reap(self._record_path, self._stop_seconds)
        try:
            self._spawn()
            self._wait_until_ready()
        except BaseException:  # Ctrl-C while waiting, too
            self.stop()
            raise
        return self

    def _spawn(self) -> None:
        if shutil.which(self._argv[0]) is None:  # asked first: the process that would find out is no longer ours
            raise ServerFailed("server_missing", f"{self.name}: there is no program {self._argv[0]}")
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab" if self._logged else "wb") as log:
            self._process = subprocess.Popen(
                _dying_with_parent(self._argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        self._logged = True
        if self._record_path is not None:
            _write_record(self._record_path, self._process.pid)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_seconds
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerFailed("server_exited", self._complaint("ended while starting"))
            with contextlib.suppress(Exception):
                if self._ready():
                    return
            time.sleep(_POLL_SECONDS)
        raise ServerFailed("server_not_ready", self._complaint(f"was not ready after {self._ready_seconds:g} s"))

    def _complaint(self, what: str) -> str:
        tail = self._log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"{self.name} {what}. The end of {self._log_path}:\n{tail or '(empty)'}"

    def stop(self) -> None:
        """End the whole group: SIGTERM, after the grace SIGKILL. Harmless when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        _end_group(process.pid, self._stop_seconds)
        process.wait()
        if self._record_path is not None:
            self._record_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _dying_with_parent(argv: list[str]) -> list[str]:
    # The kernel's signal follows the *thread* that forked, so a server started from a passing thread must do without.
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return argv
    return [sys.executable, "-S", "-E", "-c", _TRAMPOLINE, str(os.getpid()), *argv]


def reap(record_path: Path, stop_seconds: float = 10.0) -> bool:
    """End the process group that `record_path` remembers, if it is still the one meant. True when there was one."""
    try:
        record = json.loads(record_path.read_text())
        group, created = int(record["pid"]), float(record["create_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # While a member lives its group's number is not given away; a leader that is younger than the record, though,
    # is a stranger who got the number after all were gone.
    members = _members(group)
    leaders = [one for one in members if one.pid == group]
    ours = bool(members) and all(abs(one.create_time() - created) <= _CLOCK_SLACK_SECONDS for one in leaders)
    if ours:
        _end_group(group, stop_seconds)
    record_path.unlink(missing_ok=True)
    return ours


def _write_record(path: Path, pid: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        path.write_text(json.dumps({"pid": pid, "create_time": psutil.Process(pid).create_time()}))


def _end_group(group: int, stop_seconds: float) -> None:
    _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + stop_seconds
    while _members(group) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal(group, signal.SIGKILL)
    while _members(group):  # nothing survives SIGKILL; it only may take a moment
        time.sleep(_POLL_SECONDS)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _members(group: int) -> list[psutil.Process]:
    """The group's living processes. Zombies are not: their parent has only not looked yet."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
