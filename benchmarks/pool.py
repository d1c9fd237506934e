"""What isolation costs and what a second worker brings: `python -m benchmarks.pool FOLDER TURNS`.

Beside the second worker, what a second process of plain arithmetic brings on this machine at this time: nothing can
bring more.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from include.imaging import DecodeWorkers, create_proxy

_SUM = "sum(i * i for i in range(5_000_000))"


def _seconds(pool: DecodeWorkers, count: int, sources: Sequence[Path], folder: Path) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        jobs = [threads.submit(pool.create_proxy, source, folder / f"{n}") for n, source in enumerate(sources)]
        for job in jobs:
            job.result()
    return time.perf_counter() - started


def _arithmetic(at_once: int) -> float:
    started = time.perf_counter()
    for _ in range(2 // at_once):
        running = [subprocess.Popen([sys.executable, "-c", _SUM]) for _ in range(at_once)]
        for process in running:
            process.wait()
    return time.perf_counter() - started


def _isolation_ms(pool: DecodeWorkers, folder: Path) -> float:
    """How much longer a worker takes for a picture that is next to no work, medians of calls in turn."""
    from PIL import Image

    source = folder / "tiny.jpg"
    Image.new("RGB", (64, 64), (90, 120, 60)).save(source)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(-5, 200):
        for isolated, make in ((False, create_proxy), (True, pool.create_proxy)):
            started = time.perf_counter()
            make(source, folder / "tiny-proxy.jpg")
            if turn >= 0:
                seconds[isolated].append(time.perf_counter() - started)
    return 1000 * (statistics.median(seconds[True]) - statistics.median(seconds[False]))


def main(sources: Sequence[Path], turns: int) -> None:
    """Print JSON: `isolation_ms`, and seconds for each turn: one worker, two; arithmetic one by one, two at once."""
    results = []
    with tempfile.TemporaryDirectory() as name, DecodeWorkers(1) as one, DecodeWorkers(2) as two:
        folder = Path(name)
        isolation_ms = _isolation_ms(one, folder)
        for pool, count in ((one, 1), (two, 2)):
            _seconds(pool, count, sources, folder)  # warm
        for _ in range(turns):
            proxies = [_seconds(pool, count, sources, folder) for pool, count in ((one, 1), (two, 2))]
            results.append([*proxies, _arithmetic(1), _arithmetic(2)])
    print(json.dumps({"isolation_ms": isolation_ms, "turns": results}))


if __name__ == "__main__":
    main(sorted(Path(sys.argv[1]).iterdir()) * 4, int(sys.argv[2]))
