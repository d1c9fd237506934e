"""`make run`: the main job from end to end on the embedded cloud, watched in a terminal.

Starts S3 and the Nova stand-in, registers pictures, runs the DAG `image_proxy_pipeline` through Airflow, shows each
image as it is decided, and prints and writes what the run measured. ``IMAGES=folder`` takes your own pictures.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from include.local.cloud import BUCKET
from include.local.laptop import VAR, Laptop, LaptopBusy, LaptopUnusable, laptop, picture_folders
from include.local.processes import ChildServer, ServerFailed
from include.local.registration import register_folders
from include.pipeline.settings import SettingsError, load_settings
from include.pipeline.summary import report_of
from include.savings import write_report
from include.storage.errors import StorageError
from scripts.interrupts import Interrupted, raise_on_signals
from scripts.run_view import Progress, show_summary
from scripts.words import complain, shown

DAG_ID = "image_proxy_pipeline"
# As many as one run takes; and a folder of five pictures with two bad ones is no failed run where a person sees each
# failure in the table. The ratio guards runs that nobody watches.
CONF = {"limit": 100_000, "max_failure_ratio": 1.0}
POLL_SECONDS = 0.3
WATCHING = 20  # times as long as asking for progress takes, it is not asked again
# Long enough for an answer that is on its way to be written, for it has been paid; `dags test` itself would go on
# with the next task after a signal.
GRACE_SECONDS = 2.0


def main() -> int:
    """Run the main job; return 0 when the run was green, 1 when it was red, 2 when it could not begin."""
    console = Console()
    raise_on_signals()
    try:
        load_settings()  # a wrong one is said here, not in a task's log
        with laptop(VAR) as machine:
            console.print(f"S3 at {machine.cloud.s3.endpoint_url}, Nova stand-in at {machine.cloud.nova_url}")
            return _run(machine, picture_folders(machine.var), console)
    except (SettingsError, LaptopBusy, LaptopUnusable, ServerFailed, StorageError) as error:
        complain(console, error)
        return 2
    except Interrupted as interrupted:
        console.print("[yellow]Stopped. What was decided is kept; the next run takes the rest.[/yellow]")
        return interrupted.exit_code


def _run(machine: Laptop, folders: list[Path], console: Console) -> int:
    with console.status("Registering pictures in the catalog"):
        counts = register_folders(machine.catalog, folders, datetime.now(UTC))
    console.print(f"Catalog: {counts.new} new, {counts.changed} changed, {counts.unchanged} known files")
    if counts.new + counts.changed + counts.unchanged == 0:
        complain(console, f"there is no file in {', '.join(map(str, folders))}: put pictures there, or name another")
        return 2
    with console.status("Preparing Airflow's own database (only the first time)"):
        machine.home.migrate(machine.env)
    before = machine.catalog.latest_run_id(DAG_ID)
    with _airflow_run(machine) as process, Progress(console) as progress:
        pause = POLL_SECONDS
        while (code := process.wait(pause)) is None:
            asked = time.monotonic()
            run_id = machine.catalog.latest_run_id(DAG_ID)
            if run_id is not None and run_id != before:
                progress.show(machine.catalog.run_images(run_id))
            # Watching a run of 100,000 images must not slow it down.
            pause = max(POLL_SECONDS, WATCHING * (time.monotonic() - asked))
    run_id = machine.catalog.latest_run_id(DAG_ID)
    if run_id is None or run_id == before:
        return _complain(machine, console, "The run ended before it was planned.")
    report = report_of(machine.catalog, run_id)
    path = machine.var / "reports" / "latest.json"
    write_report(report, path)
    show_summary(console, report, machine.catalog.run_images(run_id), _places(machine, path))
    return 0 if code == 0 else _complain(machine, console, "Airflow marked the run as failed.")


def _airflow_run(machine: Laptop) -> ChildServer:
    conf = json.dumps(CONF)
    return ChildServer(
        "Airflow's run",
        [sys.executable, "-m", "airflow", "dags", "test", DAG_ID, "--conf", conf],
        env={**machine.env, "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False"},
        log_path=machine.var / "logs" / "run.log",
        ready=lambda: True,
        record_path=machine.home.path / "processes" / "run.json",
        stop_seconds=GRACE_SECONDS,
    )


def _places(machine: Laptop, report: Path) -> dict[str, str]:
    return {
        "report": str(report),
        "catalog": str(machine.var / "catalog.db"),
        "proxies": f"s3://{BUCKET}/proxy_image/ (kept in {machine.var / 'seaweedfs'})",
        "log": str(machine.var / "logs" / "run.log"),
    }


def _complain(machine: Laptop, console: Console, what: str) -> int:
    log = machine.var / "logs" / "run.log"
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines
    complain(console, f"{what} The whole log is {log}; its last errors:")
    for line in errors[-3:]:
        console.print(f"  {shown(line.strip())}", highlight=False, markup=False, emoji=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
