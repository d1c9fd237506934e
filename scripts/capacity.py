"""What an archive takes: `python -m scripts.capacity --images 10000000 --workers 4 --requests-per-minute 2000`.

Every figure is an estimate from measured constants; docs/scaling.md explains them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys

from rich.console import Console
from rich.table import Table

from include.nova import NovaError
from include.pipeline.capacity import Archive, capacity_of
from scripts.words import complain

LEAST, MOST = 0.001, 10**12  # what is beyond is a slip of the hand


def main(arguments: list[str] | None = None) -> int:
    """Print the estimate; return 0, or 2 for a model or tier that is not known."""
    archive = _parsed(arguments)
    console = Console()
    try:
        found = capacity_of(archive)
    except NovaError as error:
        complain(console, error)
        return 2
    table = Table("estimate", "value", box=None)
    for name, value in (
        ("proxies an hour (cores)", f"{found.proxies_per_hour:,.0f}"),
        ("core-hours of proxies", f"{found.core_hours:,.0f}"),
        ("batches' images an hour (scheduler)", f"{found.scheduler_per_hour:,.0f}"),
        ("answers an hour (requests in flight)", _rate(found.answers_per_hour)),
        ("answers an hour (quota of requests)", _rate(found.requests_quota_per_hour)),
        ("answers an hour (quota of tokens)", _rate(found.tokens_quota_per_hour)),
        ("what breaks first", found.bottleneck),
        ("days for all", f"{found.days:,.2f}"),
        ("proxies in S3", f"{found.proxy_bytes / 1e9:,.1f} GB"),
        ("previews in S3", f"{found.preview_bytes / 1e9:,.1f} GB"),
        ("originals not stored there", f"{archive.images * archive.original_bytes / 1e9:,.1f} GB"),
        ("catalog", f"{found.catalog_bytes / 1e9:,.1f} GB"),
        ("S3 puts a second", f"{found.s3_puts_per_second:,.0f}"),
        (f"Nova, tier {archive.tier}", f"${found.cost_usd:,.2f}"),
        ("S3, requests", f"${found.s3_usd:,.2f}"),
        ("S3, storage a month", f"${found.s3_usd_month:,.2f}"),
    ):
        table.add_row(name, value)
    console.print(table)
    return 0


def _rate(images_per_hour: float) -> str:
    return f"{images_per_hour:,.0f}" if math.isfinite(images_per_hour) else "no limit of batch jobs"


def _parsed(arguments: list[str] | None) -> Archive:
    parser = argparse.ArgumentParser(prog="python -m scripts.capacity", description=__doc__)
    for field in dataclasses.fields(Archive):
        required = field.default is dataclasses.MISSING
        kind = {"int": _positive, "float": _positive_float, "str": str}[str(field.type)]
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            required=required,
            **({} if required else {"default": field.default, "help": f"default {field.default}"}),
        )
    return Archive(**vars(parser.parse_args(arguments)))


def _positive(value: str) -> int:
    try:
        number = int(value.replace("_", "").replace(",", ""))
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST:,}, in digits: {value!r}")
    return number


def _positive_float(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not LEAST <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be a number from {LEAST} to {MOST:,}: {value!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
