"""What the work of each UTC day came to, over all runs: measured sums over the catalog's rows, and estimates beside.

``python -m scripts.daily_report --from 2026-11-01 --to 2026-11-30 --catalog postgresql://...`` prints a table, with
``--json`` the whole report. Without ``--catalog`` it reads the one of `make run`; without days it takes the last seven.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from rich import box
from rich.console import Console
from rich.table import Table

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.errors import CatalogError
from include.catalog.migrate import require_migrated
from include.local.laptop import VAR
from include.pipeline.settings import SettingsError, load_settings
from include.savings import DayReport, build_day_report, storage_price
from scripts.run_view import size

DAYS = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0, or 2 when it cannot be made."""
    options = _options(arguments)
    console = Console()
    try:
        reports = daily_reports(options.catalog, options.first, options.last)
    except (CatalogError, SettingsError, ValueError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 2
    if options.json:
        print(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))
    else:
        console.print(_table(reports))
    return 0


def daily_reports(url: str, first: date, last: date) -> list[DayReport]:
    """Return a report for each UTC day of the catalog at ``url``, both ends inclusive."""
    price = storage_price(load_settings().storage_usd_per_gb_month)
    engine = create_catalog_engine(url)
    try:
        require_migrated(engine)
        return [build_day_report(day, price) for day in Catalog(engine).daily_figures(first, last)]
    finally:
        engine.dispose()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    today = datetime.now(UTC).date()
    parser = argparse.ArgumentParser(prog="python -m scripts.daily_report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--catalog", default=f"sqlite:///{VAR.absolute() / 'catalog.db'}", help="the catalog's URL")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=today - timedelta(days=DAYS - 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=today)
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    return parser.parse_args(arguments)


def _table(reports: Sequence[DayReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption="* by estimate; a stand-in's dollars were paid by nobody")
    for heading in (
        "day (UTC)",
        "proxies",
        "kept",
        "analysed",
        "failed",
        "originals",
        "uploaded",
        "calls to",
        "tokens",
    ):
        table.add_column(heading, justify="left" if heading in ("day (UTC)", "calls to") else "right")
    for heading in ("Nova $", "Nova $*", "S3 $/month avoided*", "added*"):
        table.add_column(heading, justify="right")
    for report in reports:
        measured, estimated, calls = report.measured, report.estimated, report.measured["calls"]
        paid = [call["cost_usd"] for call in calls if call["cost_usd"] is not None]
        table.add_row(
            report.day,
            str(measured["proxies_created"]),
            str(measured["originals_kept"]),
            str(measured["analyses_written"]),
            str(measured["proxies_failed"] + measured["analyses_failed"]),
            size(measured["bytes_original"]),
            size(measured["bytes_uploaded"]),
            ", ".join(f"{call['nova_calls']} {call['endpoint']} {call['tier']}" for call in calls),
            str(sum(call["input_tokens"] + call["output_tokens"] for call in calls)),
            f"{sum(paid):.4f}" if paid else "-",
            f"{sum(call['cost_usd_projected'] or 0 for call in estimated['calls']):.4f}",
            f"{estimated['storage_usd_month_avoided']:.6f}",
            f"{estimated['storage_usd_month_added']:.6f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
