"""How much of a 4K screenshot's text survives in its proxy: recall at the original, at 896 and at `detail="auto"`.

    python -m benchmarks.ocr_recall [--set held-out | fitting] [--windows 2] [--processes 2] [--only NAME]

`make bench-ocr` installs what it needs and runs it. Writes benchmarks/results/ocr_recall.md and .json (for the held-out
set, whole runs only).
"""

# ruff: noqa: E501, PLR2004 - measures of drawings, and tables

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from benchmarks.screens import FITTING, HELD_OUT, Spec
from include.imaging import ProxyOptions, create_proxy
from include.imaging.detail import READABLE_X_HEIGHT, small_text

RESULTS = Path(__file__).parent / "results"
SETS = {"held-out": HELD_OUT, "fitting": FITTING}


def measure(spec: Spec, window_count: int) -> dict[str, Any]:
    """Recall and bytes of one screenshot at its three sizes."""
    from benchmarks import ocr

    started = time.perf_counter()
    screen = spec.draw()
    boxes = ocr.windows(screen, spec.seed, window_count)
    row: dict[str, Any] = {"name": spec.name, "x_height": small_text(screen.image)}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.png")
        screen.image.save(source, compress_level=6)
        hit, grams = ocr.recall(screen, screen.image, boxes)
        row |= {"grams": grams, "original": {"short_side": 2160, "bytes": source.stat().st_size, "recall": hit / grams}}
        for name, options in (("896", ProxyOptions()), ("auto", ProxyOptions(detail="auto"))):
            result = create_proxy(source, Path(folder, name), options)
            row[name] = {
                "short_side": min(result.proxy_dimensions),
                "bytes": result.proxy_size_bytes,
                "format": result.format,
                "action": result.action,
            }
            if result.action == "stripped":  # the original's pixels, read already
                row[name]["recall"] = row["original"]["recall"]
            elif name == "auto" and row["896"]["short_side"] == row["auto"]["short_side"]:
                row[name]["recall"] = row["896"]["recall"]
            else:
                with Image.open(Path(folder, name)) as proxy:
                    row[name]["recall"] = ocr.recall(screen, proxy, boxes)[0] / grams
    row["seconds"] = time.perf_counter() - started
    return row


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the pictures, and the picture that loses most."""
    worst = max(rows, key=lambda row: row["original"]["recall"] - row["auto"]["recall"])
    return {
        "pictures": len(rows),
        "grams": sum(row["grams"] for row in rows),
        "recall": {size: mean(row[size]["recall"] for row in rows) for size in ("original", "896", "auto")},
        "bytes": {size: sum(row[size]["bytes"] for row in rows) for size in ("original", "896", "auto")},
        "worst": worst["name"],
        "worst_loss": worst["original"]["recall"] - worst["auto"]["recall"],
        "over_0.02": sum(row["original"]["recall"] - row["auto"]["recall"] > 0.02 for row in rows),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The pictures, those that lose most at 896 first."""
    lines = [
        "| screenshot | x-height px | 4-grams | recall original | 896 | auto | auto short side | format | kB original | 896 | auto |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["896"]["recall"] - row["original"]["recall"]):
        recalls = " | ".join(f"{row[size]['recall']:.3f}" for size in ("original", "896", "auto"))
        sizes = " | ".join(f"{row[size]['bytes'] / 1000:,.0f}" for size in ("original", "896", "auto"))
        auto = row["auto"]
        how = f"{auto['format']}{', untouched' if auto['action'] == 'stripped' else ''}"
        lines.append(
            f"| {row['name']} | {row['x_height']} | {row['grams']} | {recalls} | {auto['short_side']} | {how} | {sizes} |"
        )
    return "\n".join(lines)


def report(summary: dict[str, Any], rows: list[dict[str, Any]], machine: str, command: str, window_count: int) -> str:
    recall, size = summary["recall"], summary["bytes"]
    return f"""# Text recall at 4K, 896 and auto

Made by `{command}` on {machine}. {summary["pictures"]} drawn 4K screenshots (`benchmarks/screens.py`, `HELD_OUT`) whose
layouts, seeds and faces played no part in fitting the rule; {summary["grams"]:,} 4-grams.

| | original | 896 | auto |
|---|---|---|---|
| recall, mean over screenshots | {recall["original"]:.3f} | {recall["896"]:.3f} | {recall["auto"]:.3f} |
| bytes, all screenshots, MB | {size["original"] / 1e6:.2f} | {size["896"] / 1e6:.2f} | {size["auto"] / 1e6:.2f} |

Auto loses {recall["original"] - recall["auto"]:.3f} against the original on average. The worst is {summary["worst"]}, which loses
{summary["worst_loss"]:.3f}; {summary["over_0.02"]} of {summary["pictures"]} lose more than .02. Auto costs
{size["auto"] / size["896"]:.2f} times the bytes of 896 and {size["auto"] / size["original"]:.2f} times the originals'.

{table(rows)}

A name says layout, font, font size in pixels, dark or light, and contrast (share of full ink).

## Method

- Recall: of the known text's 4-grams (runs of 4 characters within a line, spaces left out, counted with repetition), the
  share that the engine's lines have too.
- Read are {window_count} windows of 960 x 540 of each screenshot (in pixels of the original), chosen by its seed among
  those with at least 200 characters of text, and the same windows of the proxies; words cut by a window do not count.
- Engine: rapidocr-onnxruntime 1.4.4 (PP-OCRv4 mobile, models inside the wheel). Its own rescaling is off, for it would
  enlarge small pictures and reduce large ones before looking: `det_limit_type="max"`, `max_side_len=100000`. It still
  scales each line that it found to 48 pixels for reading. Direction classifier off: all text is upright.
- An OCR engine stands in for Nova here. It tells what is legible; it does not tell what Nova reads.
- Rule fitted on `FITTING` ({len(FITTING)} screenshots, 29 other layouts, other faces): readable x-height {READABLE_X_HEIGHT} px.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, default="held-out")
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="part of a name")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    specs = [spec for spec in SETS[asked.set] if asked.only in spec.name]
    rows = []
    with ProcessPoolExecutor(asked.processes) as pool:
        for row in pool.map(partial(measure, window_count=asked.windows), specs):
            rows.append(row)
            recalls = " ".join(f"{size} {row[size]['recall']:.3f}" for size in ("original", "896", "auto"))
            print(
                f"{row['name']}: {recalls}, short side {row['auto']['short_side']}, {row['seconds']:.0f} s", flush=True
            )
    summary = summarise(rows)
    print(json.dumps(summary, indent=1))
    if asked.set == "held-out" and not asked.only:
        machine = f"{platform.machine()}, {asked.processes} processes, Python {platform.python_version()}"
        command = f"python -m benchmarks.ocr_recall --windows {asked.windows}"
        RESULTS.mkdir(exist_ok=True)
        kept = {"command": command, "machine": machine, **summary, "screenshots": rows}
        (RESULTS / "ocr_recall.json").write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "ocr_recall.md").write_text(report(summary, rows, machine, command, asked.windows))


if __name__ == "__main__":
    main()
