"""The report of a UTC day over all runs: what was measured, and what follows from it by estimate, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from include.catalog.records import DayFigures
from include.savings.storage import StoragePrice, bytes_added, bytes_avoided


@dataclass(frozen=True, slots=True)
class DayReport:
    """One UTC day. Every value of `measured` is a sum over rows; those of `estimated` carry a price's date."""

    day: str
    measured: dict[str, Any]
    estimated: dict[str, Any]


def build_day_report(figures: DayFigures, price: StoragePrice) -> DayReport:
    """Turn one day's figures into its report. Dollars of the stand-in's calls are estimates: nobody was billed."""
    measured = asdict(figures)
    day, calls = measured.pop("day").isoformat(), measured.pop("calls")
    estimated_of = ("cost_usd_projected", "billed_input_tokens")
    measured["calls"] = [{name: value for name, value in call.items() if name not in estimated_of} for call in calls]
    who = ("endpoint", "tier")
    estimated = {
        "calls": [{name: call[name] for name in (*who, *estimated_of)} for call in calls],
        "storage_usd_month_avoided": price.usd_month(bytes_avoided(figures.storage)),
        "storage_usd_month_added": price.usd_month(bytes_added(figures.storage)),
        "storage_price_usd_per_gb_month": price.usd_per_gb_month,
        "storage_price_date": price.date,
    }
    return DayReport(day, measured, estimated)
