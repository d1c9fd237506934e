"""Make the proxies of one batch and print the most memory that it took: `-m tests.pipeline.peak_memory FOLDER IMAGES`.

A process of its own, since a peak is a whole process's. Linux only, as decode workers' limits are.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

from include.catalog.records import Outcome
from include.imaging import DecodeWorkers
from include.local.cloud import BUCKET
from include.local.laptop import laptop
from include.local.registration import register_folders
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, proxy_options
from include.pipeline.proxies import ProxyStage
from include.pipeline.settings import load_settings
from tests.dags.conftest import photograph

RUN = RunIdentity("dag", "run")
PICTURES, WIDTH, HEIGHT = 8, 1000, 900


def make_pictures(folder: Path, images: int) -> None:
    """Eight pictures under as many names as are wanted."""
    folder.mkdir(parents=True)
    for number in range(images):
        path = folder / f"{number}.jpg"
        if number < PICTURES:
            photograph(path, WIDTH, HEIGHT)
        else:
            path.hardlink_to(folder / f"{number % PICTURES}.jpg")


def peak_megabytes(pid: int) -> float:
    """The most memory that a living process ever held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


class Watched(DecodeWorkers):
    """Decode workers whose memory is read before they end."""

    peaks: list[float] = []  # noqa: RUF012 - of all of them, for one batch

    def close(self) -> None:
        """End the pool."""
        children = psutil.Process().children()
        self.peaks += [peak_megabytes(one.pid) for one in children if "include.imaging.worker" in one.cmdline()]
        super().close()


def main(folder: Path, images: int) -> None:
    """Print the peaks in megabytes, as one line of JSON."""
    from include.pipeline import proxies

    proxies.DecodeWorkers = Watched  # type: ignore[misc]
    make_pictures(folder / "pictures", images)
    with laptop(folder / "var") as machine:
        register_folders(machine.catalog, [folder / "pictures"], datetime.now(UTC))
        settings, params = load_settings(bucket=BUCKET, workers=2), parse_params({"stages": ["proxy"]})
        window = Window(None, datetime.now(UTC))
        plan = plan_run(machine.catalog, RUN, params, settings, window, nova_endpoint=None, max_batches=1)
        stage = ProxyStage(machine.catalog, machine.cloud.s3.client(), settings, proxy_options(params))
        counts = stage.run(RUN.run_id, plan.batches[0].batch_id)
        assert counts == {Outcome.PROXIED: images}, counts
        found = {"task": peak_megabytes(psutil.Process().pid), "decode worker": max(Watched.peaks)}
        sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
