"""What `make run` shows: progress while images are decided, and the summary that a person reads at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from include.catalog.records import ImageReport, Outcome
from include.savings import RunReport
from scripts.words import shown

STYLES = {
    Outcome.ANALYSED: "green",
    Outcome.PROXIED: "green",
    Outcome.KEPT: "cyan",
    Outcome.SKIPPED: "dim",
    Outcome.RETURNED: "yellow",
    Outcome.FAILED: "red",
}
MOST_ROWS = 40
MB = 1_000_000


class Progress:
    """A bar over the run's images; each failure is said as it happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("Airflow is planning the run", total=None)
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, images: Sequence[ImageReport]) -> None:
        """Show how far the run has come."""
        decided = [image for image in images if image.outcome is not None]
        analysed = sum(image.outcome is Outcome.ANALYSED for image in images)
        proxied = sum(image.action is not None for image in images)
        self._bar.update(
            self._task,
            description=f"{proxied} proxies, {analysed} analyses",
            total=2 * len(images),
            completed=len(decided) + sum(image.outcome is not Outcome.PROXIED for image in decided),
        )
        for image in decided:
            if image.outcome is Outcome.FAILED and image.file_id not in self._told:
                self._told.add(image.file_id)
                self._console.print(Text(shown(f"  {image.filename}: {image.message}"), style="red"))


def show_summary(console: Console, report: RunReport, images: Sequence[ImageReport], places: Mapping[str, str]) -> None:
    """Print the table of images, the totals and where things are."""
    console.print()
    if images:
        console.print(_table(images))
    else:
        console.print("[green]Nothing to do:[/green] no registered image has work left.")
    for line in _totals(report):
        console.print(line, highlight=False)
    console.print()
    for name, place in places.items():
        console.print(Text.assemble("  ", (f"{name:<8}", "dim"), f" {shown(place)}"), soft_wrap=True)


def _table(images: Sequence[ImageReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("image", overflow="fold")
    for heading in ("original", "", "proxy", "", "saving"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for image in images[:MOST_ROWS]:
        table.add_row(
            Text(shown(image.filename)),
            size(image.original_bytes),
            dimensions(image.original_width, image.original_height),
            size(image.proxy_bytes),
            dimensions(image.width, image.height),
            _saving(image),
            _outcome(image),
        )
    if len(images) > MOST_ROWS:
        table.add_row(f"… and {len(images) - MOST_ROWS} more", "", "", "", "", "", "")
    return table


def _totals(report: RunReport) -> list[str]:
    lines = [
        f"[bold]{report.images_listed}[/bold] listed, [bold]{report.proxies_created}[/bold] proxies made, "
        f"[bold]{report.originals_kept}[/bold] kept, [bold]{report.failed}[/bold] failed, "
        f"[bold]{report.analyses_written}[/bold] analysed with {report.nova_calls} calls"
        + (f" in {report.seconds:.1f} s" if report.seconds is not None else "")
    ]
    rest = {"skipped": report.skipped, "put back to pending": report.returned, "without an outcome": report.undecided}
    lines += [f"[yellow]{count} {what}[/yellow]" for what, count in rest.items() if count]
    if report.savings_percent is not None:
        large = report.savings_percent_over_1mb
        lines.append(
            f"{size(report.bytes_original)} of originals became {size(report.bytes_served)}: "
            f"[bold green]{report.savings_percent:.1f} % less[/bold green]"
            + ("" if large is None else f" ({large:.1f} % over 1 MB)")
        )
    if report.proxy_seconds_p50 is not None:
        lines.append(f"{report.proxy_seconds_p50:.2f} s a proxy (p95 {report.proxy_seconds_p95:.2f} s)")
    if report.nova_calls and report.nova_endpoint != "aws":
        lines.append("[yellow]The Nova stand-in answered, not Amazon Nova[/yellow]")
    lines += [f"[yellow]{escape(note)}[/yellow]" for note in report.notes]
    lines += [escape(line) for line in report.cost_lines()]
    lines += [f"target: {TARGET_STYLES[target.met].format(escape(target.text()))}" for target in report.targets]
    return lines


TARGET_STYLES = {True: "[green]{}[/green]", False: "[red]{}[/red]", None: "[dim]{}[/dim]"}


def _saving(image: ImageReport) -> str:
    if image.proxy_bytes is None or not image.original_bytes:
        return ""
    return f"{100 * (1 - image.proxy_bytes / image.original_bytes):.1f} %"


def _outcome(image: ImageReport) -> Text:
    if image.outcome is None:
        return Text("no outcome", style="bold red")
    said = f"{image.outcome}: {image.code}" if image.code else f"{image.outcome}"
    if image.action == "kept" and image.outcome is Outcome.ANALYSED:
        said = f"kept, {said}"
    return Text(said, style=STYLES[image.outcome])


def size(count: int | None) -> str:
    """Return bytes for a person: decimal units, as S3 bills and disks are sold."""
    if count is None:
        return ""
    return f"{count / MB:.2f} MB" if count >= MB else f"{count / 1000:.0f} kB" if count >= 1000 else f"{count} B"  # noqa: PLR2004


def dimensions(width: int | None, height: int | None) -> str:
    """Return pixels, or nothing where they are not known."""
    return f"{width}x{height}" if width and height else ""
