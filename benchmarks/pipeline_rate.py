"""Images a second through the whole DAG against the bare resize core, on the same files and cores in the same run.

    python -m benchmarks.pipeline_rate [--images 1000] [--write]

The core: one decode process a core, files in, proxies out, nothing else. The stage: what a task does, without Airflow.
The DAG: once a laptop's (LocalExecutor, SQLite), once docker-compose.yaml's services as plain processes (two Celery
workers of one decode process each, PostgreSQL, Redis). All of it is measured twice. *Apart*: what does the work
(Celery's workers; LocalExecutor's tasks with what runs them) has half of the cores, as the bare core has then, and the
rest (S3 server, databases, scheduler and the rest of Airflow) has the other half. *Shared*: everything on all cores.

The stage and the runs of the DAG are compared with the core right before and right after them. A machine may be a tenth
faster now than a minute ago, so a run of the DAG is compared with the core in pauses of that run, too (`CorePauses`). A
preview of each original is made besides, but not by the core: how much slower it is when it makes them too is measured
as well, and so a last ratio says what the pipeline costs without work that the core was not given.

A last part measures the Nova stage: throughput against requests in flight, with answers that take 400 ms, of a stand-in
that looks at no picture: Nova takes none of these cores. Run it on an idle machine; only ratios of one run mean
anything.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from benchmarks.cores import Layout, cpu_seconds, layouts
from benchmarks.pipeline_runs import (
    PAUSE_EVERY_SECONDS,
    PAUSE_IMAGES,
    DagWork,
    Work,
    bare_core,
    make_photographs,
    run_dag,
    running_airflow,
    stage_alone,
    stage_span,
    through_celery,
    through_local_executor,
)
from include.local.registration import register_folders
from include.pipeline.proxies import cores
from include.pipeline.settings import Settings

RESULTS = Path(__file__).parent / "results" / "pipeline_rate.md"
ANSWER_MS = 400
IN_FLIGHT = (1, 4, 8, 16, 32)
CORE_PART = 3  # of the files, each time
NOVA_ANSWERS = 30  # of each request in flight, one after another: 12 s at the least
WAYS = {"LocalExecutor": through_local_executor, "two Celery workers": through_celery}
HOW_TO_READ = """
Ratios are against the core on the same cores: *around it*, right before and right after; *in its pauses*, while every
{pause:.0f} s all of the run's processes stand still and the core takes {images} of the same files a core. Seconds of a
run are without its pauses. *There, with previews*: divided by what the core that makes them, too, has of the core right
before it (the last two).""".lstrip()
TITLES = {
    "apart": "Apart: workers on {workers} of {all} cores, S3 server, databases and the rest of Airflow on the others",
    "shared": "Shared: everything on the same {all} cores",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured with one layout of cores: the stage and runs of the DAG, the core before and after each of
    them; and the core once more, with previews."""

    layout: Layout
    cores: tuple[Work, ...]
    whole_core: Work
    stage: Work
    dags: dict[str, DagWork]

    def core_rate(self, number: int) -> float:
        """The core's images a second around the stage (0) or around one of the runs (1 and more)."""
        return (self.cores[number].rate + self.cores[number + 1].rate) / 2

    @property
    def whole_share(self) -> float:
        """The core's rate with previews, of its rate without."""
        return self.whole_core.rate / self.cores[-1].rate


def measure(pictures: Path, paths: list[Path], base: Path, layout: Layout) -> Measured:
    """The core, the stage and the DAG, one after the other."""
    images, part = len(paths), paths[: max(8, len(paths) // CORE_PART)]
    cores = [bare_core(part, base / "core-0", layout)]
    stage = stage_alone(pictures, base / "stage", images, layout)
    cores.append(bare_core(part, base / "core-1", layout))
    dags = {}
    for number, (name, through) in enumerate(WAYS.items()):
        dags[name] = through(pictures, base / f"dag-{number}", images, layout)
        cores.append(bare_core(part, base / f"core-{number + 2}", layout))
    whole = bare_core(part, base / "core-previews", layout, preview_side=Settings().preview_side)
    return Measured(layout, tuple(cores), whole, stage, dags)


def nova_rates(folder: Path, var: Path) -> list[dict[str, float]]:
    """Answers a second against requests in flight of one task; the stand-in takes ANSWER_MS for each."""
    rates = []
    for in_flight in IN_FLIGHT:
        count = NOVA_ANSWERS * in_flight
        extra = {"IMAGE_PROXY_NOVA_CONCURRENCY": str(in_flight)}
        options = ("--latency-ms", str(ANSWER_MS), "--without-looking")
        with running_airflow(var / str(in_flight), extra, options, max(IN_FLIGHT)) as (machine, stack, client):
            pictures = folder / str(in_flight)
            _small_pictures(pictures, count)
            register_folders(machine.catalog, [pictures], datetime.now(UTC))
            run_dag(client, stages=["proxy"])
            tasks = {"tasks": stack.servers["scheduler"].pid}
            before = cpu_seconds(tasks)
            run_id, seconds = run_dag(client, stages=["analyse"], batch_size=count)
            busy = (cpu_seconds(tasks)["tasks"] - before["tasks"]) / seconds
            rate = count / stage_span(machine.engine, run_id, "analysis")
        rates.append({"in_flight": in_flight, "rate": rate, "ideal": in_flight * 1000 / ANSWER_MS, "busy": busy})
        print(f"{in_flight} in flight: {rate:.1f} answers a second, {busy:.2f} cores", flush=True)
    return rates


def _small_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        shade = (number % 256, number // 256, 128)
        Image.new("RGB", (900, 900), shade).save(folder / f"{number:04}.jpg", "JPEG", quality=80)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_rate", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--skip-nova", action="store_true")
    parser.add_argument("--layout", choices=("apart", "shared"), help="only this one")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pipeline-rate-") as name:
        base = Path(name)
        paths = make_photographs(base / "pictures", options.images)
        found = []
        for layout in (one for one in layouts() if options.layout in (None, one.name)):
            folder = base / layout.name
            folder.mkdir()
            found.append(measure(base / "pictures", paths, folder, layout))
            print("\n".join(_section(found[-1])), flush=True)
        nova = [] if options.skip_nova else nova_rates(base / "small", base / "nova")
        if options.write:
            RESULTS.write_text(_page(options.images, found, nova), encoding="utf-8")


def _page(images: int, found: list[Measured], nova: list[dict[str, float]]) -> str:
    lines = [
        "# Through the DAG\n",
        f"`python -m benchmarks.pipeline_rate --images {images} --write`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{platform.machine()}, {cores()} cores, {images} photographs of 12 MP. Goal: 0.85 of the bare core.\n",
        HOW_TO_READ.format(pause=PAUSE_EVERY_SECONDS, images=PAUSE_IMAGES),
        *(line for measured in found for line in _section(measured)),
        f"\n## Nova stage\n\nOne task, answers after {ANSWER_MS} ms (the stand-in). Cores: what scheduler and tasks "
        "use on average, from the run's start to its end.\n",
        "| in flight | answers a second | ideal | cores |",
        "|---|---|---|---|",
        *(f"| {row['in_flight']} | {row['rate']:.1f} | {row['ideal']:.1f} | {row['busy']:.2f} |" for row in nova),
    ]
    return "\n".join(lines) + "\n"


def _section(measured: Measured) -> Iterator[str]:
    layout, seconds = measured.layout, [work.seconds for work in measured.cores]
    title = TITLES[layout.name].format(workers=len(layout.workers), all=len(layout.workers | layout.others))
    yield f"\n## {title}\n"
    yield "| | images a second | of the core around it | in its pauses | there, with previews | seconds |"
    yield "|---|---|---|---|---|---|"
    rates = ", ".join(f"{work.rate:.1f}" for work in measured.cores)
    yield f"| resize core alone, before and after each of the following | {rates} | | | | {sum(seconds):.1f} |"
    whole, share = measured.whole_core, measured.whole_share
    yield f"| resize core with previews, last | {whole.rate:.1f} | {share:.2f} | | | {whole.seconds:.1f} |"
    yield _row("proxy stage, without Airflow", measured.stage, measured.core_rate(0))
    for number, (name, dag) in enumerate(measured.dags.items(), start=1):
        core = dag.core
        yield f"| resize core alone, in pauses of the next | {core.rate:.1f} | | | | {core.seconds:.1f} |"
        for what, work in (
            ("first image's start to last outcome", dag.working),
            ("start to end of the run", dag.whole),
        ):
            in_pauses = work.rate / core.rate
            compared = f"{in_pauses:.2f} | {in_pauses / share:.2f}"
            yield _row(f"DAG, {name}: {what}", work, measured.core_rate(number), compared)
    yield "\nCPU, ms an image, by process with all that it starts:\n\n| | |\n|---|---|"
    for name, work in (
        *(("resize core alone", core) for core in measured.cores),
        ("resize core with previews", measured.whole_core),
        ("proxy stage", measured.stage),
        *((f"DAG, {name}", dag.whole) for name, dag in measured.dags.items()),
    ):
        yield f"| {name} | {', '.join(_cpu(work))} |"
    for name, dag in measured.dags.items():
        yield f"\n{name}, tasks, in seconds since the run's start, pauses and all:\n"
        yield "| task | instances | first start | last end |\n|---|---|---|---|"
        for task in dag.tasks:
            yield f"| {task.task_id} | {task.instances} | {task.first_start:.1f} | {task.last_end:.1f} |"


def _row(name: str, work: Work, core_rate: float, more_cells: str = "|") -> str:
    return f"| {name} | {work.rate:.1f} | {work.rate / core_rate:.2f} | {more_cells} | {work.seconds:.1f} |"


def _cpu(work: Work) -> Iterator[str]:
    for name, seconds in sorted(work.cpu.items(), key=lambda item: -item[1]):
        yield f"{name} {seconds / work.images * 1000:.1f}"


if __name__ == "__main__":
    main()
