"""What `benchmarks.pipeline_rate` measures: the bare core, the proxy stage without Airflow, whole runs of the DAG.

A run of the DAG is compared with the bare core in pauses of that run: every few seconds all of its processes stand
still for as long as the core takes for some of the same files, on the same cores. A machine that is faster now than a
minute ago is so for both.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from PIL import Image, ImageOps
from sqlalchemy import Engine, text

from benchmarks.cores import Layout, children_on, confine, cpu_seconds, on_cores, standing_still
from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.records import Outcome
from include.imaging import DecodeWorkers, PreviewRequest, ProxyOptions
from include.local.airflow import AirflowStack
from include.local.cloud import BUCKET
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from include.local.samples import PHOTOGRAPHS
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, proxy_options
from include.pipeline.proxies import ProxyStage, cores
from include.pipeline.settings import load_settings
from scripts.up import make_pool, unpause
from tests.distributed.topology import Topology
from tests.quiet_schedule import quiet_schedule

DAG_ID = "image_proxy_pipeline"
SIZES = ((4272, 2848), (4000, 3000))  # 12 MP
WAIT_SECONDS = 1800
LOOK_SECONDS = 1.0
PAUSE_EVERY_SECONDS = 6.0
PAUSE_IMAGES = 24  # for each core: three times each of the eight pictures
WARMING_IMAGES = 2  # before them, for caches that the run has filled
MOST_IN_FLIGHT = 120  # whose outcomes may not be written yet: of two tasks, each a group of 32 and what is being made
# The compose file's own sizes, but for a decode process and an api-server process where it has several.
CELERY = {"DECODE_WORKERS": "1", "API_WORKERS": "1"}


@dataclass(frozen=True, slots=True)
class Work:
    """One way to make proxies of some images: wall clock seconds, and CPU seconds by process."""

    images: int
    seconds: float
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True, slots=True)
class TaskTime:
    """All instances of one task: how many, and seconds from the run's start to their first start and last end."""

    task_id: str
    instances: int
    first_start: float
    last_end: float


@dataclass(frozen=True, slots=True)
class DagWork:
    """One run of the DAG, from its start to its end; and from its first image's start to its last outcome. Both without
    its pauses, in which the core was measured."""

    whole: Work
    working: Work
    core: Work
    tasks: tuple[TaskTime, ...]


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


def bare_core(paths: list[Path], folder: Path, layout: Layout, *, preview_side: int = 0) -> Work:
    """Files in, proxies out (and previews of a longest side, if wanted): a decode process for each of the workers'
    cores, and nothing else. They have started when the clock does."""
    options = ProxyOptions()
    folder.mkdir()

    def make(workers: DecodeWorkers, path: Path) -> None:
        preview = PreviewRequest(str(folder / f"{path.stem}.preview"), preview_side) if preview_side else None
        workers.create_proxy(path, folder / path.name, options, preview)

    with on_cores(layout.workers):
        before, count = _ended_children(), cores()
        with DecodeWorkers(count) as workers, ThreadPoolExecutor(count) as executor:
            list(executor.map(partial(make, workers), paths[:count]))
            started = time.monotonic()
            list(executor.map(partial(make, workers), paths))
            seconds = time.monotonic() - started
        return Work(len(paths), seconds, {"decode workers": _ended_children() - before})


class CorePauses:
    """Measures the bare core in pauses of a run, as long as the run has images left to begin; a context manager.

    Nothing of the run's short tasks is behind a pause: they wait for clocks, which do not stand still.
    """

    def __init__(self, engine: Engine, pids: Mapping[str, int], paths: list[Path], layout: Layout) -> None:
        self._engine, self._pids, self._paths, self._layout = engine, pids, paths, layout
        self.paused = 0.0
        self._images, self._seconds = 0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="core")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def core(self) -> Work:
        """All pauses together."""
        return Work(self._images, self._seconds, {})

    def _measure(self) -> None:
        count = len(self._layout.workers)
        part = self._paths[: PAUSE_IMAGES * count]
        with (
            tempfile.TemporaryDirectory(prefix="core-") as name,
            on_cores(self._layout.workers),
            DecodeWorkers(count) as workers,
            ThreadPoolExecutor(count) as executor,
        ):

            def make(path: Path) -> None:
                workers.create_proxy(path, Path(name) / path.name, ProxyOptions())

            list(executor.map(make, part))  # they have started, and grown their heaps
            while not self._ended.wait(PAUSE_EVERY_SECONDS):
                if not 0 < self._decided() < len(self._paths) - MOST_IN_FLIGHT:
                    continue
                began = time.monotonic()
                with standing_still(self._pids):
                    list(executor.map(make, part[: WARMING_IMAGES * count]))
                    started = time.monotonic()
                    list(executor.map(make, part))
                    self._seconds += time.monotonic() - started
                self._images += len(part)
                self.paused += time.monotonic() - began

    def _decided(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text("SELECT count(proxy_decided_at) FROM image_run_items")).scalar_one())


def stage_alone(pictures: Path, var: Path, images: int, layout: Layout) -> Work:
    """The proxy stage in this process, with its decode workers and the S3 server as children; no Airflow."""
    identity = RunIdentity(DAG_ID, "stage")
    with laptop(var) as machine:
        confine(machine.cloud.s3.pid, layout.others)
        register_folders(machine.catalog, [pictures], datetime.now(UTC))
        settings, params = load_settings(bucket=BUCKET), parse_params({"stages": ["proxy"], "limit": images})
        window = Window(None, datetime.now(UTC))
        plan = plan_run(machine.catalog, identity, params, settings, window, nova_endpoint=None, max_batches=100)
        stage = ProxyStage(machine.catalog, machine.cloud.s3.client(), settings, proxy_options(params))
        served = {"S3 server": machine.cloud.s3.pid}
        with on_cores(layout.workers):
            before, children, own, started = (
                cpu_seconds(served),
                _ended_children(),
                time.process_time(),
                time.monotonic(),
            )
            for batch in plan.batches:
                stage.run(identity.run_id, batch.batch_id)
            return Work(
                images,
                time.monotonic() - started,
                {
                    "decode workers": _ended_children() - children,  # they end with their batch
                    "task": time.process_time() - own,
                    **_since(before, served),
                },
            )


def through_local_executor(pictures: Path, var: Path, images: int, layout: Layout) -> DagWork:
    """A laptop's Airflow. Its tasks, which are the scheduler's children, are the workers."""
    with on_cores(layout.others), running_airflow(var, {}) as (machine, stack, client):
        pids = {name: server.pid for name, server in stack.servers.items()} | {"S3 server": machine.cloud.s3.pid}
        register_folders(machine.catalog, [pictures], datetime.now(UTC))
        with children_on(pids["scheduler"], layout.workers):
            pids["scheduler and tasks"] = pids.pop("scheduler")
            paths = sorted(pictures.iterdir())[:images]
            return proxies_only(machine.engine, client, pids, paths, layout)


def through_celery(pictures: Path, var: Path, images: int, layout: Layout) -> DagWork:
    """The compose file's services, with two Celery workers."""
    var.mkdir()
    with on_cores(layout.others), Topology(var, CELERY, through_proxy=False).running() as topology:
        pids = {name: component.pid for name, component in topology.components.items()} | {"S3 server": topology.s3.pid}
        for name in ("worker-1", "worker-2"):
            confine(pids[name], layout.workers)
        engine = create_catalog_engine(topology.catalog_url())
        register_folders(Catalog(engine), [pictures], datetime.now(UTC))
        return proxies_only(engine, topology.client, pids, sorted(pictures.iterdir())[:images], layout)


@contextmanager
def running_airflow(
    var: Path, extra: Mapping[str, str], options: tuple[str, ...] = (), slots: int = 8
) -> Iterator[tuple[Laptop, AirflowStack, Any]]:
    """A laptop's Airflow that has nothing to do, and a REST client."""
    with laptop(var, stand_in_options=options) as machine:
        machine.home.migrate(machine.env)
        env = {**machine.env, "IMAGE_PROXY_SCHEDULE": quiet_schedule(), **extra}
        stack = AirflowStack(machine.home, env, var / "logs")
        with stack, stack.client() as client:
            make_pool(client, "nova", slots)
            unpause(client, (DAG_ID,))
            _until_idle(client)
            yield machine, stack, client


def _until_idle(client: Any) -> None:
    """Unpausing starts the run of the last interval: it is not to share the cores with what is measured."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        answer = client.get(f"/dags/{DAG_ID}/dagRuns", params={"run_type": "scheduled"}).raise_for_status()
        if {run["state"] for run in answer.json()["dag_runs"]} == {"success"}:
            return
        time.sleep(LOOK_SECONDS)
    raise SystemExit("the scheduled run did not end well")


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
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"the run {dag_run_id} was not done after {WAIT_SECONDS} s")


def proxies_only(engine: Engine, client: Any, pids: Mapping[str, int], paths: list[Path], layout: Layout) -> DagWork:
    """Run the DAG for proxies alone, over everything that is registered: the images at ``paths``."""
    before, images = cpu_seconds(pids), len(paths)
    with CorePauses(engine, pids, paths, layout) as pauses:
        run_id, seconds = run_dag(client, stages=["proxy"])
    used = _since(before, pids)
    counts = Catalog(engine).run_counts(run_id)
    if counts.by_outcome.get(Outcome.PROXIED, 0) != images or counts.undecided:
        raise SystemExit(f"{images} images went in, and came out as {counts}")
    if not pauses.core.images:
        raise SystemExit(f"a run of {images} images is over before it can be paused: take 400 or more")
    whole = Work(images, seconds - pauses.paused, used)
    working = Work(images, stage_span(engine, run_id, "proxy") - pauses.paused, {})
    return DagWork(whole, working, pauses.core, task_times(client, run_id))


def stage_span(engine: Engine, run_id: str, prefix: str) -> float:
    """Seconds from the first image's start to the last image's outcome at a stage, from the catalog's rows."""
    query = f"""SELECT min({prefix}_started_at), max({prefix}_decided_at)
                FROM image_run_items WHERE run_id = :run"""  # noqa: S608 - one of two names
    with engine.connect() as connection:
        first, last = connection.execute(text(query), {"run": run_id}).one()
    return float((datetime.fromisoformat(str(last)) - datetime.fromisoformat(str(first))).total_seconds())


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


def _ended_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _since(before: Mapping[str, float], pids: Mapping[str, int]) -> dict[str, float]:
    return {name: used - before[name] for name, used in cpu_seconds(pids).items()}
