"""CPU an image of the proxy stage without Airflow, by process, against the bare core on the same files.

    python -m benchmarks.stage_cpu [--images 400]

The stage runs in this process, with its decode workers and the S3 server as children: what each of them used, in ms an
image. Says why `benchmarks.pipeline_rate` gives what it gives.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.pipeline_rate import core_rate, make_photographs
from include.local.cloud import BUCKET
from include.local.laptop import laptop
from include.local.registration import register_folders
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, proxy_options
from include.pipeline.proxies import ProxyStage
from include.pipeline.settings import load_settings

RUN = RunIdentity("image_proxy_pipeline", "stage_cpu")


def measure(base: Path, pictures: Path, images: int) -> dict[str, float]:
    """Plan one run, do its batches; seconds of wall clock, and of CPU by process."""
    with laptop(base / "var") as machine:
        register_folders(machine.catalog, [pictures], datetime.now(UTC))
        settings, params = load_settings(bucket=BUCKET), parse_params({"stages": ["proxy"], "limit": images})
        window = Window(None, datetime.now(UTC))
        plan = plan_run(machine.catalog, RUN, params, settings, window, nova_endpoint=None, max_batches=100)
        stage = ProxyStage(machine.catalog, machine.cloud.s3.client(), settings, proxy_options(params))
        server = psutil.Process(machine.cloud.s3.pid)
        me, started = psutil.Process(), time.monotonic()
        own, children, served = me.cpu_times(), _children(me), _used(server)
        for batch in plan.batches:
            stage.run(RUN.run_id, batch.batch_id)
        now = me.cpu_times()
        return {
            "wall": time.monotonic() - started,
            "task": now.user + now.system - own.user - own.system,
            "decode workers": _children(me) - children,
            "S3 server": _used(server) - served,
        }


def _children(process: psutil.Process) -> float:
    """CPU seconds of children that have ended: decode workers end with their batch."""
    times = process.cpu_times()
    return float(times.children_user + times.children_system)


def _used(process: psutil.Process) -> float:
    """CPU seconds of a process and its living children."""
    return float(sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True))))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stage_cpu", description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="stage-cpu-") as name:
        base = Path(name)
        paths = make_photographs(base / "pictures", images)
        core = core_rate(paths, base / "core")
        stage = measure(base, base / "pictures", images)
    wall = stage.pop("wall")
    print(f"bare core: {core['rate']:.1f} images a second, {core['cpu'] / images * 1000:.1f} ms of CPU an image")
    print(f"stage: {images / wall:.1f} images a second, {images / wall / core['rate']:.2f} of the core")
    for process, seconds in stage.items():
        print(f"  {process}: {seconds / images * 1000:.1f} ms of CPU an image")


if __name__ == "__main__":
    main()
