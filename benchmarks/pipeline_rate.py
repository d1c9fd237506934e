"""Images a second through the whole DAG against the bare resize core, on the same files and cores in the same run.

    python -m benchmarks.pipeline_rate [--images 1000] [--write]

The core: one decode process a core, files in, proxies out, nothing else. The DAG: scheduler, executor, S3 server,
catalog, all on this machine; once a laptop's (LocalExecutor, SQLite), once docker-compose.yaml's services as plain
processes (two Celery workers of one decode process each, PostgreSQL, Redis). A last part measures the Nova stage:
throughput against requests in flight, with answers that take 400 ms. Run it on an idle machine; only ratios of one run
mean anything.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from sqlalchemy import Engine, text

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.records import Outcome
from include.imaging import DecodeWorkers, ProxyOptions
from include.local.airflow import AirflowStack
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from include.local.samples import PHOTOGRAPHS
from include.local.statsd import StatsdReceiver
from include.pipeline.proxies import cores
from scripts.up import make_pool, unpause
from tests.distributed.topology import ENV_OVERRIDES, Topology

DAG_ID = "image_proxy_pipeline"
RESULTS = Path(__file__).parent / "results" / "pipeline_rate.md"
SIZES = ((4272, 2848), (4000, 3000))  # 12 MP
ANSWER_MS = 400
IN_FLIGHT = (1, 4, 8, 16, 32)
NOVA_IMAGES_PER_REQUEST = 12
WAIT_SECONDS = 1800
# Two workers, a core each: as many decode processes as the bare core has.
CELERY = {**ENV_OVERRIDES, "WORKER_CONCURRENCY": "1", "DECODE_WORKERS": "1", "LEASE_SECONDS": "300"}


_TASKS = """
{}, tasks of the run, in seconds since its start:

| task | instances | first start | last end |
|---|---|---|---|"""


def make_photographs(folder: Path, count: int) -> list[Path]:
    """`count` JPEG files of 12 MP: eight pictures, under many names (hard links, so that the disk is not measured)."""
    folder.mkdir(parents=True)
    originals = []
    for number, name in enumerate(("kleiber", "picosdeeuropa", "seeding", "sunset")):
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as image:
            picture = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), SIZES[number % 2])
        for suffix, version in (("", picture), ("-mirrored", ImageOps.mirror(picture))):
            path = folder.parent / f"{name}{suffix}.jpg"
            version.save(path, "JPEG", quality=92)
            originals.append(path)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        os.link(originals[number % len(originals)], path)
    return paths


def core_rate(paths: list[Path], folder: Path) -> dict[str, float]:
    """Images a second of the bare core, all cores, and its CPU seconds."""
    options, count = ProxyOptions(), cores()
    folder.mkdir()
    before = _children_cpu()
    with DecodeWorkers(count) as workers, ThreadPoolExecutor(count) as executor:
        started = time.monotonic()
        for _ in executor.map(lambda path: workers.create_proxy(path, folder / path.name, options), paths):
            pass
        seconds = time.monotonic() - started
    return {"rate": len(paths) / seconds, "seconds": seconds, "cpu": _children_cpu() - before}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def running_airflow(var: Path, extra: dict[str, str], options: tuple[str, ...] = ()) -> Iterator[tuple[Laptop, Any]]:
    """A laptop's Airflow with its scheduler, and a REST client."""
    with laptop(var, stand_in_options=options) as machine:
        machine.home.migrate(machine.env)
        stack = AirflowStack(machine.home, {**machine.env, **extra}, var / "logs")
        with stack, stack.client() as client:
            make_pool(client, "nova", max(IN_FLIGHT))
            unpause(client, (DAG_ID,))
            yield machine, client


def run_dag(client: Any, **conf: Any) -> tuple[str, float]:
    """Trigger a run, wait for it; its id in the catalog, and seconds from its start to its end.

    `client` speaks to Airflow's REST API: of httpx and of the laptop's stack alike.
    """
    answer = client.post(f"/dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": conf})
    answer.raise_for_status()
    dag_run_id = answer.json()["dag_run_id"]
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        run = client.get(f"/dags/{DAG_ID}/dagRuns/{dag_run_id}").json()
        if run["state"] == "success":
            started, ended = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
            return f"{DAG_ID}/{dag_run_id}", (ended - started).total_seconds()
        if run["state"] == "failed":
            raise SystemExit(f"the run {dag_run_id} failed")
        time.sleep(1)
    raise SystemExit(f"the run {dag_run_id} was not done after {WAIT_SECONDS} s")


def stage_span(engine: Engine, run_id: str, prefix: str) -> float:
    """Seconds from the first image's start to the last image's outcome at a stage, from the catalog's rows."""
    query = f"""SELECT min({prefix}_started_at), max({prefix}_decided_at)
                FROM image_run_items WHERE run_id = :run"""  # noqa: S608 - one of two names
    with engine.connect() as connection:
        first, last = connection.execute(text(query), {"run": run_id}).one()
    return float((datetime.fromisoformat(str(last)) - datetime.fromisoformat(str(first))).total_seconds())


@dataclass(frozen=True, slots=True)
class TaskTime:
    """All instances of one task: how many, and seconds from the run's start to their first start and last end."""

    task_id: str
    instances: int
    first_start: float
    last_end: float


@dataclass(frozen=True, slots=True)
class Rates:
    """One run that makes proxies: seconds of the run, and from its first image's start to its last outcome."""

    images: int
    seconds: float
    span: float
    tasks: tuple[TaskTime, ...]

    @property
    def whole(self) -> float:
        return self.images / self.seconds

    @property
    def working(self) -> float:
        return self.images / self.span


def task_times(client: Any, run_id: str) -> tuple[TaskTime, ...]:
    """When each task of a run started and ended."""
    url = f"/dags/{DAG_ID}/dagRuns/{run_id.partition('/')[2]}"
    began = datetime.fromisoformat(client.get(url).json()["start_date"])
    times: dict[str, list[tuple[float, float]]] = {}
    for task in client.get(f"{url}/taskInstances", params={"limit": 500}).json()["task_instances"]:
        if task["start_date"] and task["end_date"]:
            start, end = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
            times.setdefault(task["task_id"], []).append(
                ((start - began).total_seconds(), (end - began).total_seconds())
            )
    found = [TaskTime(name, len(all_), min(all_)[0], max(end for _, end in all_)) for name, all_ in times.items()]
    return tuple(sorted(found, key=lambda task: task.first_start))


def proxies_only(engine: Engine, client: Any, images: int) -> Rates:
    """Run the DAG for proxies alone, over everything that is registered."""
    run_id, seconds = run_dag(client, stages=["proxy"])
    counts = Catalog(engine).run_counts(run_id)
    if counts.by_outcome.get(Outcome.PROXIED, 0) != images or counts.undecided:
        raise SystemExit(f"{images} images went in, and came out as {counts}")
    span = stage_span(engine, run_id, "proxy")
    return Rates(images, seconds, span, task_times(client, run_id))


def through_local_executor(folder: Path, var: Path, images: int) -> tuple[Rates, dict[str, float]]:
    """The rates of a laptop's Airflow, and where the time goes: seconds by step in all threads."""
    with StatsdReceiver() as sent, running_airflow(var, sent.environment) as (machine, client):
        register_folders(machine.catalog, [folder], datetime.now(UTC))
        rates = proxies_only(machine.engine, client, images)
    steps = {
        name.removeprefix("image_proxy.proxy."): total / 1000
        for name, total in sent.sums.items()
        if name.startswith("image_proxy.proxy.")
    }
    return rates, steps


def through_celery(folder: Path, var: Path, images: int) -> Rates:
    """The rates of the compose file's topology."""
    var.mkdir()
    with Topology(var, CELERY).running() as topology:
        engine = create_catalog_engine(topology.catalog_url())
        register_folders(Catalog(engine), [folder], datetime.now(UTC))
        return proxies_only(engine, topology.client, images)


def nova_rates(folder: Path, var: Path) -> list[dict[str, float]]:
    """Answers a second against requests in flight of one task; the stand-in takes ANSWER_MS for each."""
    rates = []
    for in_flight in IN_FLIGHT:
        count = NOVA_IMAGES_PER_REQUEST * in_flight
        extra = {"IMAGE_PROXY_NOVA_CONCURRENCY": str(in_flight)}
        with running_airflow(var / str(in_flight), extra, ("--latency-ms", str(ANSWER_MS))) as (machine, client):
            pictures = folder / str(in_flight)
            _small_pictures(pictures, count)
            register_folders(machine.catalog, [pictures], datetime.now(UTC))
            run_dag(client, stages=["proxy"])
            run_id, _ = run_dag(client, stages=["analyse"], batch_size=count)
            span = stage_span(machine.engine, run_id, "analysis")
        rates.append({"in_flight": in_flight, "rate": count / span, "ideal": in_flight * 1000 / ANSWER_MS})
        print(f"{in_flight} in flight: {count / span:.1f} answers a second, ideal {in_flight * 1000 / ANSWER_MS:.1f}")
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
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pipeline-rate-") as name:
        base = Path(name)
        paths = make_photographs(base / "pictures", options.images)
        core = core_rate(paths, base / "core")
        print(f"core: {core['rate']:.1f} images a second ({core['seconds']:.1f} s, {core['cpu']:.1f} CPU s)")
        local, steps = through_local_executor(base / "pictures", base / "var", options.images)
        for step, seconds in sorted(steps.items(), key=lambda item: -item[1]):
            print(f"  {step}: {seconds:.1f} s in all threads")
        dags = {"LocalExecutor": local}
        dags["two Celery workers"] = through_celery(base / "pictures", base / "celery", options.images)
        for executor, rates in dags.items():
            print("\n".join(_rows(executor, rates, core["rate"])))
            print("\n".join(_timeline(rates)))
        nova = [] if options.skip_nova else nova_rates(base / "small", base / "nova")
        if options.write:
            RESULTS.write_text(_page(options.images, core, dags, steps, nova), encoding="utf-8")


def _page(
    images: int,
    core: dict[str, float],
    dags: dict[str, Rates],
    steps: dict[str, float],
    nova: list[dict[str, float]],
) -> str:
    lines = [
        "# Through the DAG\n",
        f"`python -m benchmarks.pipeline_rate --images {images} --write`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{platform.machine()}, {cores()} cores, {images} photographs of 12 MP, all on one machine. Goal: a run at "
        "0.85 of the bare core.\n",
        "| | images a second | of the core | seconds |",
        "|---|---|---|---|",
        f"| resize core alone | {core['rate']:.1f} | 1 | {core['seconds']:.1f} |",
        *(row for name, rates in dags.items() for row in _rows(name, rates, core["rate"])),
        *(line for name, rates in dags.items() for line in (_TASKS.format(name), *_timeline(rates))),
        "\nLocalExecutor, seconds by step, summed over threads that work at the same time:\n",
        "| step | seconds |",
        "|---|---|",
        *(f"| {step} | {seconds:.1f} |" for step, seconds in sorted(steps.items(), key=lambda item: -item[1])),
        f"\nNova stage, one task, answers after {ANSWER_MS} ms (the stand-in):\n",
        "| in flight | answers a second | ideal |",
        "|---|---|---|",
        *(f"| {row['in_flight']} | {row['rate']:.1f} | {row['ideal']:.1f} |" for row in nova),
    ]
    return "\n".join(lines) + "\n"


def _rows(name: str, rates: Rates, core: float) -> list[str]:
    whole, working = rates.whole, rates.working
    return [
        f"| DAG run, {name}, start to end | {whole:.1f} | {whole / core:.2f} | {rates.seconds:.1f} |",
        f"| its first image's start to its last outcome | {working:.1f} | {working / core:.2f} | {rates.span:.1f} |",
    ]


def _timeline(rates: Rates) -> list[str]:
    return [
        f"| {task.task_id} | {task.instances} | {task.first_start:.1f} | {task.last_end:.1f} |" for task in rates.tasks
    ]


if __name__ == "__main__":
    main()
