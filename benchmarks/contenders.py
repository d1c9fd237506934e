"""The ways to make a proxy that are compared. A process of its own each: `python -m benchmarks.contenders NAME`.

Reads a JSON object with `source` and `output` a line, answers with seconds of CPU and wall and the peak memory so far.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from include.imaging.geometry import calculate_target_dimensions

Contender = Callable[[Path, Path], object]


def plain() -> Contender:
    """What one writes first: decode all, convert, Lanczos, quality 85, optimize."""
    from PIL import Image

    def run(source: Path, output: Path) -> None:
        with Image.open(source) as opened:
            image = opened.convert("RGB")
            image = image.resize(calculate_target_dimensions(*image.size), Image.Resampling.LANCZOS)
            if source.suffix == ".png":
                image.save(output, format="PNG", optimize=True)
            else:
                image.save(output, format="JPEG", quality=85, optimize=True)

    return run


def core() -> Contender:
    """`create_proxy` in this process."""
    from include.imaging import create_proxy

    return create_proxy


def workers() -> Contender:
    """`create_proxy` in one decode worker."""
    from include.imaging import DecodeWorkers

    pool = DecodeWorkers(1)
    return pool.create_proxy


def pyvips() -> Contender:
    """libvips' `thumbnail` in one thread: scaled-down decode, Lanczos, SIMD."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips as vips

    vips.cache_set_max(0)  # or the second time is a look-up

    def run(source: Path, output: Path) -> None:
        header = vips.Image.new_from_file(str(source), access="sequential")
        width, height = calculate_target_dimensions(header.width, header.height)
        image = vips.Image.thumbnail(str(source), width, height=height, size="force")
        if source.suffix == ".png":
            image.pngsave(str(output), compression=6, keep="none")
        else:
            image.jpegsave(str(output), Q=85, keep="none")

    return run


def _children() -> list[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]


def _cpu() -> float:
    """Seconds of CPU of this process, and of the main threads of its children to the nanosecond."""
    schedules = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in _children()]
    return time.process_time() + sum(map(int, schedules)) / 1e9


def _peak_kilobytes() -> int:
    """Of the decode worker where there is one, of this process where there is none."""
    for pid in _children():
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Serve requests until stdin ends."""
    run = {"plain": plain, "core": core, "workers": workers, "pyvips": pyvips}[sys.argv[1]]()
    for line in sys.stdin:
        request = json.loads(line)
        source, output = Path(request["source"]), Path(request["output"])
        cpu, wall = _cpu(), time.perf_counter()
        run(source, output)
        wall = time.perf_counter() - wall
        answer = {"cpu": _cpu() - cpu, "wall": wall, "peak_kb": _peak_kilobytes()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
