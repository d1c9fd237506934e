"""CPU an image of the proxy stage without Airflow, by process, against the bare core on the same files.

    python -m benchmarks.stage_cpu [--images 400]

The first part of `benchmarks.pipeline_rate`, in two minutes: what a change to a task's own work gains.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.cores import layouts
from benchmarks.pipeline_runs import Work, bare_core, make_photographs, stage_alone
from include.pipeline.settings import load_settings


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stage_cpu", description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="stage-cpu-") as name:
        base = Path(name)
        paths = make_photographs(base / "pictures", images)
        for layout in layouts():
            folder = base / layout.name
            folder.mkdir()
            core = bare_core(paths, folder / "core", layout)
            same = bare_core(paths, folder / "same", layout, preview_side=load_settings().preview_side)
            stage = stage_alone(base / "pictures", folder / "var", images, layout)
            print(f"{layout.name}: the stage makes {stage.rate / core.rate:.2f} of the core's images a second,")
            print(f"  {stage.rate / same.rate:.2f} of those of a core that makes the same files, proxies and previews")
            for title, work in (("core", core), ("core with previews", same), ("stage", stage)):
                print(f"  {title}, ms of CPU an image: {_cpu(work)}")


def _cpu(work: Work) -> str:
    return ", ".join(f"{name} {seconds / work.images * 1000:.1f}" for name, seconds in work.cpu.items())


if __name__ == "__main__":
    main()
