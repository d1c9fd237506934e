"""Measured and estimated savings: reports over the catalog's figures."""

from include.savings.report import RunReport, build_report, percentile, write_report

__all__ = ["RunReport", "build_report", "percentile", "write_report"]
