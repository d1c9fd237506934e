"""`make bench`: measure all contenders on the same files, in turn, and write `benchmarks/results/`.

Work is done in processes of its own, each importing only what it needs, so that this one stays small: on Linux a child
inherits its parent's peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.report import PLAN, jpeg_dimensions, markdown

HERE = Path(__file__).parent
ROOT = HERE.parent
SHARP = HERE / "node_modules" / "sharp" / "package.json"


@dataclass(frozen=True)
class Sample:
    """One proxy made once."""

    contender: str
    name: str
    turn: int
    cpu: float
    wall: float


class Child:
    """A contender's process; asked for one proxy at a time."""

    def __init__(self, contender: str) -> None:
        self.peak_kb = 0
        command = [sys.executable, "-m", "benchmarks.contenders", contender]
        if contender == "sharp":
            command = ["node", str(HERE / "sharp.mjs")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def ask(self, source: Path, output: Path, size: tuple[int, int]) -> dict[str, float]:
        """Seconds of CPU and wall for one proxy."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        request = {"source": str(source), "output": str(output), "width": size[0], "height": size[1]}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        self.peak_kb = int(answer.pop("peak_kb"))
        return answer

    def close(self) -> None:
        """End it by the end of its input."""
        self._process.communicate()


def _png_size(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(24)
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _measure(sources: Path, gold: Path, made: Path, contenders: list[str], turns: int) -> dict[str, Any]:
    """All contenders on all files of a class, interleaved; each turn begins with another contender."""
    children = {contender: Child(contender) for contender in contenders}
    files = sorted(path for path in sources.iterdir())
    samples: list[Sample] = []
    for turn in range(-1, turns):  # the first is for warming up
        for file in files:
            size = _png_size(gold / f"{file.name}.png")
            first = turn % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                output = made / contender / file.name
                output.parent.mkdir(parents=True, exist_ok=True)
                answer = children[contender].ask(file, output, size)
                if turn >= 0:
                    samples.append(Sample(contender, file.name, turn, **answer))
    for child in children.values():
        child.close()
    return {
        contender: {
            "cpu_ms": _mean_of_medians(samples, contender, "cpu"),
            "wall_ms": _mean_of_medians(samples, contender, "wall"),
            "cpu_ratio_to_plain": _ratio(samples, contender, "plain"),
            "cpu_ratio_to_pyvips": _ratio(samples, contender, "pyvips"),
            "peak_mb": round(children[contender].peak_kb * 1024 / 1e6),
            "bytes": round(statistics.mean((made / contender / file.name).stat().st_size for file in files)),
        }
        for contender in contenders
    }


def _mean_of_medians(samples: list[Sample], contender: str, field: str) -> float:
    """Milliseconds an image: the median of a file's turns, the mean over files."""
    names = {sample.name for sample in samples}
    turns = [[getattr(s, field) for s in samples if (s.contender, s.name) == (contender, name)] for name in names]
    return round(1000 * statistics.mean(map(statistics.median, turns)), 1)


def _ratio(samples: list[Sample], contender: str, other: str) -> float:
    """The median over files and turns of CPU against another contender's, in the same turn on the same file."""
    cpu = {(s.contender, s.name, s.turn): s.cpu for s in samples}
    ratios = [cpu[key] / cpu[other, *key[1:]] for key in cpu if key[0] == contender]
    return round(statistics.median(ratios), 3)


def _python(module: str, *arguments: str, stdin: str | None = None) -> str:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, input=stdin, stdout=subprocess.PIPE, text=True).stdout


def _add_quality(classes: dict[str, Any], work: Path) -> None:
    """SSIMULACRA2 for every proxy but the workers', which are the core's to the byte (checked)."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, contenders in classes.items():
        for contender in contenders:
            for made in sorted((work / "made" / name / contender).iterdir()):
                if contender == "workers":
                    if made.read_bytes() != (made.parents[1] / "core" / made.name).read_bytes():
                        raise SystemExit(f"{made}: a worker's proxy is not the core's")
                    continue
                pair = (str(work / "gold" / name / f"{made.name}.png"), str(made))
                pairs.setdefault((name, contender), []).append(pair)
    scores = iter(json.loads(_python("benchmarks.quality", stdin=json.dumps(list(chain(*pairs.values()))))))
    for (name, contender), files in pairs.items():
        classes[name][contender]["ssimulacra2"] = [round(next(scores), 2) for _ in files]
    for contenders in classes.values():
        contenders["workers"]["ssimulacra2"] = contenders["core"]["ssimulacra2"]
        ceiling = contenders["plain"]["ssimulacra2"]
        for figures in contenders.values():
            losses = [best - own for best, own in zip(ceiling, figures["ssimulacra2"], strict=True)]
            figures["below_ceiling"] = round(statistics.mean(losses), 2)
            figures["below_ceiling_worst"] = round(max(losses), 2)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _machine(with_sharp: bool) -> dict[str, Any]:
    names = ("Pillow", "pillow-heif", "pyvips", "pyvips-binary", "ssimulacra2")
    versions = {"Python": platform.python_version(), **{name: version(name) for name in names}}
    if with_sharp:
        versions["sharp"] = json.loads(SHARP.read_text())["version"]
    cores = os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return {"cpu": _cpu_model(), "cores": cores, "system": system, "versions": versions}


def main() -> int:
    """Measure, judge, write and print. Returns 0 also when a goal is missed: the figures say so."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two photographs of 2 and 12 megapixels, two turns")
    quick = parser.parse_args().quick
    started = time.monotonic()
    work = ROOT / "var" / "benchmarks" / ("quick" if quick else "full")
    shutil.rmtree(work, ignore_errors=True)
    print("Making the pictures", flush=True)
    _python("benchmarks.corpus", str(work), *(["--quick"] if quick else []))
    with_sharp = SHARP.exists() and shutil.which("node") is not None
    if not with_sharp:
        print("sharp is left out: node and npm are not at hand, or its installation failed")
    contenders = ["plain", "core", "workers", "pyvips", *(["sharp"] if with_sharp else [])]
    load = os.getloadavg()[0]
    classes: dict[str, Any] = {}
    folders = sorted((work / "sources").iterdir(), key=lambda path: (path.name[:5] != "photo", len(path.name), path))
    for folder in folders:
        print(f"Measuring: {folder.name}", flush=True)
        turns = 2 if quick else 5
        gold, made = work / "gold" / folder.name, work / "made" / folder.name
        classes[folder.name] = _measure(folder, gold, made, contenders, turns)
    print("Measuring: isolation and a second worker", flush=True)
    photographs = str(work / "sources" / "photo 12 MP")
    pool = json.loads(_python("benchmarks.pool", photographs, "2" if quick else "5"))
    print("Measuring: the plan's rows", flush=True)
    child, rows = Child("core"), []
    for index in range(len(PLAN)):
        source, output = work / "plan" / f"{index}.jpg", work / f"plan-{index}"
        child.ask(source, output, (0, 0))
        seconds = statistics.median(child.ask(source, output, (0, 0))["wall"] for _ in range(3))
        sizes = {"original_bytes": source.stat().st_size, "proxy_bytes": output.stat().st_size}
        rows.append({**sizes, "proxy_dimensions": jpeg_dimensions(output), "seconds": round(seconds, 3)})
    child.close()
    print("Judging quality (SSIMULACRA2)", flush=True)
    _add_quality(classes, work)
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "quick": quick,
        "machine": _machine(with_sharp),
        "load_at_start": round(load, 2),
        "classes": classes,
        "second_worker": {
            "proxies": round(statistics.median(one / two for one, two, _, _ in pool["turns"]), 2),
            "arithmetic": round(statistics.median(one / two for _, _, one, two in pool["turns"]), 2),
        },
        "isolation_ms": round(pool["isolation_ms"], 2),
        "plan": rows,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    text = markdown(results)
    target = work if quick else HERE / "results"
    target.mkdir(exist_ok=True)
    (target / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (target / "results.md").write_text(text)
    print(f"\n{text}\nWritten to {target.relative_to(ROOT)}/results.md and results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
