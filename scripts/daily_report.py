"""What the work of each UTC day came to, over all runs: measured sums over the catalog's rows, and estimates beside.

``python -m scripts.daily_report --from 2026-11-01 --to 2026-11-30 --catalog postgresql://...`` prints a few lines a
day, with ``--json`` the whole report. Without ``--catalog`` it reads the one of `make run`; without days it takes the
last seven.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from rich.console import Console

from include.catalog.errors import CatalogError
from include.local.laptop import VAR
from include.pipeline.settings import SettingsError, load_settings
from include.savings import DayReport, build_day_report, storage_price
from scripts.connections import SetupError, reading_catalog
from scripts.run_view import size
from scripts.words import complain, day

DAYS = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0, or 2 when it cannot be made."""
    options = _options(arguments)
    console = Console()
    try:
        reports = daily_reports(options.catalog, options.first, options.last)
    except (CatalogError, SettingsError, SetupError, ValueError) as error:
        complain(console, error)
        return 2
    if options.json:
        print(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))
    else:
        shown = [report for report in reports if _worked(report)]
        for line in [line for report in shown for line in _lines(report)]:
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"{len(reports) - len(shown)} of {len(reports)} days without work (days are UTC)")
    return 0


def daily_reports(url: str, first: date, last: date) -> list[DayReport]:
    """Return a report for each UTC day of the catalog at ``url``, both ends inclusive."""
    price = storage_price(load_settings().storage_usd_per_gb_month)
    with reading_catalog(url) as catalog:
        return [build_day_report(day, price) for day in catalog.daily_figures(first, last)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    today = datetime.now(UTC).date()
    parser = argparse.ArgumentParser(prog="python -m scripts.daily_report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--catalog", default=f"sqlite:///{VAR.absolute() / 'catalog.db'}", help="the catalog's URL")
    parser.add_argument("--from", dest="first", metavar="DAY", type=day, default=today - timedelta(days=DAYS - 1))
    parser.add_argument("--to", dest="last", metavar="DAY", type=day, default=today)
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    return parser.parse_args(arguments)


def _lines(report: DayReport) -> list[str]:
    measured, estimated = report.measured, report.estimated
    lines = [
        f"[bold]{report.day}[/bold]  {measured['proxies_created']} proxies made, {measured['originals_kept']} kept, "
        f"{measured['analyses_written']} analysed, {measured['proxies_failed'] + measured['analyses_failed']} refused; "
        f"{size(measured['bytes_original'])} of originals, {size(measured['bytes_uploaded'])} uploaded"
    ]
    for call, projected in zip(measured["calls"], estimated["calls"], strict=True):
        paid = (
            f"nothing paid, about ${projected['cost_usd_projected'] or 0:.4f} on AWS (projected)"
            if call["cost_usd"] is None
            else f"${call['cost_usd']:.4f} paid"
        )
        lines.append(
            f"            {call['endpoint']}, tier {call['tier']}: {call['nova_calls']} calls, {call['input_tokens']} "
            f"tokens in, {call['output_tokens']} out, {size(call['request_bytes'])} sent; {paid}"
        )
    lines.append(
        f"            S3 storage a month by estimate: ${estimated['storage_usd_month_avoided']:.6f} avoided, "
        f"${estimated['storage_usd_month_added']:.6f} added"
    )
    return lines


def _worked(report: DayReport) -> bool:
    return bool(report.measured["calls"]) or any(
        value for name, value in report.measured.items() if name not in ("calls", "storage")
    )


if __name__ == "__main__":
    sys.exit(main())
