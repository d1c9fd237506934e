"""Child processes that decode, so that a picture which crashes, hangs or devours memory costs one image and no more.

Plain subprocesses that talk JSON lines over pipes, not multiprocessing: Celery's and Airflow's workers are daemonic
processes, which multiprocessing forbids to have children.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from include.imaging.errors import DecoderCrashed, MemoryLimit, TimeLimit, WorkersStopped, error_for
from include.imaging.output import atomic_output
from include.imaging.recipe import Limits, PreviewRequest, ProxyOptions
from include.imaging.records import HeaderInfo, ImageInfo, Preview, ProxyResult

# The folder that holds `include`: children find it from any working directory and in any layout.
_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0  # a child needs 0.2 s to start; a machine that needs a minute has other troubles
_ATTEMPTS = 2
# For glibc. Every arena reserves 64 MB of the address space that is limited. What one picture took (Pillow asks for
# 16 MB at a time) is kept for the next, up to 64 MB: to have the kernel clear it anew is a tenth of the CPU.
_MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}
_READ_BYTES = 65536


class _ChildDied(Exception):
    """The child ended without an answer; `how` says by what."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode
        self.how = signal.Signals(-returncode).name if returncode < 0 else f"exit status {returncode}"
        super().__init__(self.how)


class _OutOfTime(Exception):
    """No answer within the time limit; the child has been killed."""


class _DoesNotStart(RuntimeError):
    """The child ended before it was ready: no image's fault."""


class _Child:
    """One decode process and the two pipes to it. Used by one thread at a time, except for `kill`."""

    def __init__(self, limits: Limits) -> None:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # -P: the working directory may hold an `include` of somebody else's.
        command = [sys.executable, "-P", "-W", "ignore", "-m", "include.imaging.worker", json.dumps(asdict(limits))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **_MALLOC}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        self._unread = b""
        self.spent = False  # to be replaced after this answer

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> None:
        """Returns once the child has imported all it needs. Raises _ChildDied or _OutOfTime."""
        self._receive(time.monotonic() + seconds)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The child's answer. Raises _ChildDied or _OutOfTime; the child is dead then."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        deadline = time.monotonic() + seconds
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._death() from None
        answer = self._receive(deadline)
        # What is left of a heap that was filled to the limit is in pieces: the next large picture would not fit.
        self.spent = answer.get("code") == MemoryLimit.code
        return answer

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        readable = select.poll()
        readable.register(self._process.stdout, select.POLLIN)
        while b"\n" not in self._unread:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not readable.poll(remaining * 1000):
                self.kill()
                raise _OutOfTime("out of time")
            received = os.read(self._process.stdout.fileno(), _READ_BYTES)
            if not received:
                raise self._death()
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> _ChildDied:
        """What the child died of. Its pipe is closed; should it live on, it is of no use."""
        with suppress(subprocess.TimeoutExpired):
            return _ChildDied(self._process.wait(1))
        self.kill()
        return _ChildDied(-signal.SIGKILL)

    def kill(self) -> None:
        """End the child, whatever it is doing, and reap it. Safe while another thread talks to it: that one sees the
        end of the pipe, which stays open until its owner discards it."""
        self._process.kill()
        self._process.wait()

    def discard(self) -> None:
        """Kill, and close the pipes. Only for the thread that has this child, or when nobody has."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class DecodeWorkers:
    """A pool of `count` decode processes, started when first needed and kept warm. Thread-safe.

    Use it as a context manager, and call its methods from up to `count` threads; more threads wait their turn. Each
    call blocks until its image is done and raises the errors of the function of the same name, and:

    - `TimeLimit` after `limits.seconds`: the child is killed and replaced.
    - `DecoderCrashed` when a child died on the image, and a fresh one did again.
    - `WorkersStopped` once `stop()` or `close()` was called, whatever it was doing: no verdict on the image.
    - `RuntimeError` when a child cannot be started at all.
    """

    def __init__(self, count: int, limits: Limits | None = None) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self._limits = limits or Limits()
        self._free: list[_Child | None] = [None] * count  # None is a place whose child is not running
        self._busy: set[_Child] = set()
        self._stopped = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inspect(self, path: str | Path) -> ImageInfo:
        """`inspect_image` in a child."""
        return ImageInfo(**self._call({"do": "inspect", "source": str(Path(path).absolute())}))

    def read_header(self, path: str | Path) -> HeaderInfo:
        """`read_header` in a child: of a file's first bytes, which are as hostile as the rest."""
        return HeaderInfo(**self._call({"do": "header", "source": str(Path(path).absolute())}))

    def create_proxy(
        self,
        source_path: str | Path,
        output_path: str | Path,
        options: ProxyOptions | None = None,
        preview: PreviewRequest | None = None,
        *,
        max_pixels: int | None = None,
    ) -> ProxyResult:
        """`create_proxy` in a child; `max_pixels` is what this one image may have, where that is less than the limit.

        The child writes a temporary file; only this process moves it into place, so that a child killed at the worst
        moment leaves nothing behind. A preview that is asked for beside it costs no second decode, and its failing is
        no refusal: the result says whether there is one.
        """
        with atomic_output(output_path) as temporary:
            result = self._call(
                {
                    "do": "create_proxy",
                    "source": str(Path(source_path).absolute()),
                    "output": str(temporary.absolute()),
                    "options": asdict(options or ProxyOptions()),
                    "preview": asdict(preview) if preview else None,
                    "max_pixels": max_pixels,
                }
            )
        result["original"] = ImageInfo(**result["original"])
        result["preview"] = Preview(**result["preview"]) if result["preview"] else None
        result["proxy_dimensions"] = tuple(result["proxy_dimensions"])
        return ProxyResult(**result)

    def create_preview(self, source_path: str | Path, preview: PreviewRequest) -> Preview:
        """Only a preview, in a child, by a decode of its own."""
        source = str(Path(source_path).absolute())
        return Preview(**self._call({"do": "create_preview", "source": source, "preview": asdict(preview)}))

    def stop(self) -> None:
        """Kill every child now. Calls in progress and to come raise WorkersStopped. Safe from any thread, and twice."""
        with self._changed:
            self._stopped = True
            busy, idle = list(self._busy), list(filter(None, self._free))
            self._free = [None for _ in self._free]
            self._changed.notify_all()
        for child in busy:
            child.kill()
        for child in idle:
            child.discard()

    def close(self) -> None:
        """End the pool and leave no process behind. There is nothing gentler than `stop`: an idle child has nothing to
        lose, and a busy one is somebody's call that the owner of the pool has given up."""
        self.stop()

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result of a request, asked of a fresh child once more if the first one died on it, or while starting: the
        machine's out-of-memory killer takes that one as well."""
        deaths = failed_starts = 0
        while True:
            try:
                with self._child() as child:
                    answer = child.ask(request, self._limits.seconds)
            except _OutOfTime:
                self._raise_if_stopped()
                raise TimeLimit(f"not done within {self._limits.seconds:g} s; the decoder was stopped") from None
            except _ChildDied as death:
                self._raise_if_stopped()
                if death.returncode == -signal.SIGALRM:
                    raise TimeLimit(f"not done within {self._limits.seconds:g} s") from None
                deaths += 1
                if deaths == _ATTEMPTS:
                    raise DecoderCrashed(f"the decoder died on this image, twice ({death.how})") from None
                continue
            except _DoesNotStart:
                failed_starts += 1
                if failed_starts == _ATTEMPTS:
                    raise
                continue
            if "code" in answer:
                raise error_for(answer["code"], answer["message"])
            result: dict[str, Any] = answer["result"]
            return result

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            raise WorkersStopped("the decode workers were stopped")

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        """A running child for this thread alone. It goes back to the pool, or is killed when the block failed: a child
        with half an exchange behind it would answer the wrong question next."""
        child, is_new = self._take()
        healthy = False
        try:
            if is_new:
                self._wait_until_ready(child)
            yield child
            healthy = not child.spent
        finally:
            self._give_back(child, healthy)

    def _take(self) -> tuple[_Child, bool]:
        """A child, and whether it has only just been started. The place given back last comes first: after a death that
        is the empty one, so that a retry gets a fresh child."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._free)
            self._raise_if_stopped()
            child = self._free.pop()
            if child is not None and child.running:
                self._busy.add(child)
                return child, False
            if child is not None:  # it was killed while idle: no image's fault
                child.discard()
            try:
                child = _Child(self._limits)  # under the lock, so that stop() misses none
            except BaseException:
                self._free.append(None)
                self._changed.notify()
                raise
            self._busy.add(child)
            return child, True

    def _wait_until_ready(self, child: _Child) -> None:
        """Raises RuntimeError when the child cannot start: that is no image's fault, and nothing to retry."""
        try:
            child.wait_until_ready(_START_SECONDS)
        except _ChildDied as error:
            self._raise_if_stopped()
            raise _DoesNotStart(f"the decode worker does not start ({error}); its stderr says why") from error
        except _OutOfTime as error:
            self._raise_if_stopped()
            raise RuntimeError(f"the decode worker does not start ({error}); its stderr says why") from error

    def _give_back(self, child: _Child, healthy: bool) -> None:
        with self._changed:
            self._busy.discard(child)
            reusable = healthy and not self._stopped
            self._free.append(child if reusable else None)
            self._changed.notify()
        if not reusable:
            child.discard()
