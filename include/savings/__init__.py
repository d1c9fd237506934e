"""Measured and estimated savings: reports over the catalog's figures."""

from include.savings.daily import DayReport, build_day_report
from include.savings.report import ImageTokens, RunReport, build_report, percentile, write_report
from include.savings.storage import StoragePrice, storage_price
from include.savings.targets import Target

__all__ = [
    "DayReport",
    "ImageTokens",
    "RunReport",
    "StoragePrice",
    "Target",
    "build_day_report",
    "build_report",
    "percentile",
    "storage_price",
    "write_report",
]
