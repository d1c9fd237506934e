"""The results as a page that a person reads: goals, classes, the plan's rows."""

from __future__ import annotations

import statistics
import struct
from pathlib import Path
from typing import Any

# size in bytes, dimensions, proxy's dimensions and size as the plan expected them
PLAN = (
    (4_000_000, (4000, 3000), (1195, 896), 200_000),
    (3_000_000, (6000, 4000), (1344, 896), 250_000),
    (2_000_000, (3840, 2160), (1592, 896), 280_000),
    (1_000_000, (1920, 1080), (1592, 896), 280_000),
    (500_000, (1200, 800), (1200, 800), 500_000),
    (200_000, (800, 600), (800, 600), 200_000),
)
_MEGABYTES_A_WORKER = 150
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)


def jpeg_dimensions(path: Path) -> tuple[int, int]:
    """Width and height from a JPEG's frame header."""
    data, at = path.read_bytes(), 2
    while data[at + 1] not in _START_OF_FRAME:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    return width, height


def _goal(name: str, wanted: str, reached: str, met: bool) -> str:
    return f"| {name} | {wanted} | {reached} | {'met' if met else '**missed**'} |"


def goals(results: dict[str, Any]) -> list[str]:
    """A row of the table for each goal, as far as this run measured it."""
    classes = results["classes"]
    photos = {int(name.split()[1]): figures for name, figures in classes.items() if name.startswith("photo")}
    rows = []
    for megapixels, wanted in ((12, 2.7), (24, 4.0), (48, 4.0)):
        if megapixels in photos:
            faster = 1 / photos[megapixels]["workers"]["cpu_ratio_to_plain"]
            name = f"CPU, plain / core, {megapixels} MP"
            rows.append(_goal(name, f"at least {wanted}", f"{faster:.2f}", faster >= wanted))
    loss = statistics.mean(figures["core"]["below_ceiling"] for figures in photos.values())
    worst = max(figures["core"]["below_ceiling"] for figures in photos.values())
    name = "SSIMULACRA2 below the full decode, photographs"
    rows.append(_goal(name, "at most 0.5 on average", f"{loss:.2f}; worst class {worst:.2f}", loss <= 0.5))  # noqa: PLR2004
    for megapixels, figures in photos.items():
        wanted = 1.3 if megapixels == min(photos) else 1.0
        ratio = figures["workers"]["cpu_ratio_to_pyvips"]
        rows.append(_goal(f"CPU, core / pyvips, {megapixels} MP", f"at most {wanted}", f"{ratio:.2f}", ratio <= wanted))
    if 48 in photos:  # noqa: PLR2004
        peak = photos[48]["workers"]["peak_mb"]
        limit = _MEGABYTES_A_WORKER
        rows.append(_goal("Peak memory of a worker, 48 MP", f"under {limit} MB", f"{peak} MB", peak < limit))
    second = results["second_worker"]
    reached = f"{second['proxies']:.2f} (arithmetic: {second['arithmetic']:.2f})"
    rows.append(_goal("Two workers against one", "at least 1.9", reached, second["proxies"] >= 1.9))  # noqa: PLR2004
    cost = results["isolation_ms"]
    rows.append(_goal("Isolation, an image", "under 5 ms", f"{cost:.1f} ms", cost < 5))  # noqa: PLR2004
    return rows


def _plan_rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for (size, dimensions, expected, expected_size), row in zip(PLAN, rows, strict=True):
        original, proxy = row["original_bytes"], row["proxy_bytes"]
        width, height = row["proxy_dimensions"]
        lines.append(
            f"| {dimensions[0]} x {dimensions[1]}, {size / 1e6:g} MB ({original / 1e6:.2f}) "
            f"| {expected[0]} x {expected[1]} | {width} x {height} "
            f"| {expected_size // 1000} KB | {proxy // 1000} KB | {1 - expected_size / size:.0%} "
            f"| {1 - proxy / original:.0%} | {row['seconds']:.3f} s |"
        )
    return lines


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Benchmark results",
        "",
        f"{results['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}. "
        f"Load at the start {results['load_at_start']}; {results['minutes']} minutes. Made by `make bench`.",
        "",
        "## Goals",
        "",
        "The core as it is deployed, in a decode worker. Ratios are medians over files and turns of one run.",
        "",
        "| goal | wanted | reached | |",
        "|---|---|---|---|",
        *goals(results),
        "",
        "## By class",
        "",
        "CPU and wall in ms an image, medians; peak memory of the process; mean bytes; SSIMULACRA2 below the plain",
        "way's score (mean, worst file).",
        "",
        "| class | contender | CPU | / plain | / pyvips | wall | peak MB | KB | SSIMULACRA2 | below |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, contenders in results["classes"].items():
        for contender, own in contenders.items():
            lines.append(
                f"| {name} | {contender} | {own['cpu_ms']:.0f} | {own['cpu_ratio_to_plain']:.2f} "
                f"| {own['cpu_ratio_to_pyvips']:.2f} | {own['wall_ms']:.0f} | {own['peak_mb']} "
                f"| {own['bytes'] / 1000:.0f} | {statistics.mean(own['ssimulacra2']):.1f} "
                f"| {own['below_ceiling']:.2f} ({own['below_ceiling_worst']:.2f}) |"
            )
    lines += [
        "",
        "## The plan's rows",
        "",
        "One photograph in the plan's dimensions, at the JPEG quality that comes nearest to the plan's bytes (in",
        "brackets).",
        "",
        "| original | expected | measured | expected size | measured | expected saving | measured | wall |",
        "|---|---|---|---|---|---|---|---|",
        *_plan_rows(results["plan"]),
        "",
    ]
    return "\n".join(lines)
