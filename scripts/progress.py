"""A progress bar with rate and time left, for a command that works through batches in its own process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from include.catalog.records import Outcome

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

_RECORDING = (
    "record_proxies",
    "record_analysis",
    "record_failure",
    "record_skip",
    "record_return",
    "record_missing_proxy",
)


class _Rate(ProgressColumn):
    """Steps a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class BatchProgress:
    """Shows how many steps (an image at a stage) are decided.

    Give `catalog` to the stages in place of the real one: it tells of each outcome.
    """

    def __init__(self, console: Console, catalog: Catalog, steps: int, stop: threading.Event) -> None:
        self._lock, self._stop = threading.Lock(), stop
        self._ended, self._of_this_batch = 0, 0
        self._steps, self._failed = steps, 0
        self.catalog: Catalog = _Telling(catalog, self._step)  # type: ignore[assignment]
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("working", total=steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def ended(self, counts: Mapping[Outcome, int], *, another_follows: bool) -> None:
        """A stage of a batch came to its end; what it counted is exact. What failed is not seen by the next stage."""
        with self._lock:
            if another_follows:
                self._steps -= counts.get(Outcome.FAILED, 0) + counts.get(Outcome.RETURNED, 0)
            self._ended += sum(counts.values())
            self._of_this_batch = 0
            self._show()

    def _step(self, recording: str, images: int) -> None:
        with self._lock:
            self._of_this_batch += images
            self._failed += recording == "record_failure"
            self._show()

    def _show(self) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        what = "finishing what is in flight" if self._stop.is_set() else "working"
        done = self._ended + self._of_this_batch
        self._bar.update(self._task, total=self._steps, completed=done, description=f"{what}{failed}")


class _Telling:
    """A catalog that says when an outcome was written."""

    def __init__(self, catalog: Catalog, tell: Any) -> None:
        self._catalog, self._tell = catalog, tell

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._catalog, name)
        if name not in _RECORDING:
            return method

        def recording(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named)
            self._tell(name, len(result.written | result.gone) if name == "record_proxies" else 1)
            return result

        return recording
