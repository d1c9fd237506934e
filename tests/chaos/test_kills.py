"""Each component killed with SIGKILL in the middle of a run, on the topology of docker-compose.yaml.

What is killed is started again as compose's restart policy does. Then the run ends by itself, or one more run ends what
it left; and the books are balanced: `Books.check` says how.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from tests.distributed.components import family, stopped
from tests.distributed.ledger import RUN_SECONDS, Books, Shipment, photograph
from tests.distributed.topology import DAG_ID, WORKERS, Topology

IMAGES = 24
BATCH = 4
MOMENTS = 50  # at which a worker is frozen, to have it hang at a good one
POOL_SLOTS = 8  # requests to Nova in flight over all workers: NOVA_POOL_SLOTS of the topology
STUCK = "Task stuck in queued; will try to requeue"
WORKER_NAMES = [f"worker-{number}" for number in range(1, WORKERS + 1)]

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [photograph() for _ in range(4)]


@pytest.fixture
def shipment(books: Books, topology: Topology, pictures: list[bytes]) -> Iterator[Shipment]:
    """New images; and whatever the test broke is whole again after it."""
    yield books.ship([pictures[number % len(pictures)] for number in range(IMAGES)])
    topology.until_ready()


def balance(
    broke: str,
    books: Books,
    shipment: Shipment,
    runs: list[str],
    in_flight: int = 0,
    failed: Mapping[int, str] | None = None,
) -> dict[str, int]:
    """Balance the books and say what was broken and counted. ``in_flight``: what the kill may have made unknown, of the
    answers that were paid for."""
    figures = books.check(shipment, runs, in_flight=in_flight, failed=failed)
    states = [books.state(run) for run in runs]
    books.tell(f"{broke}: runs {states}, {figures}")
    return figures


def strike(books: Books, topology: Topology, shipment: Shipment, run: str, name: str) -> None:
    """Kill a component while a task of the run is running and images are not done; it is started again."""
    starts, left = len(topology.components[name].sessions), list[int]()
    topology.until(lambda: "running" in _states(books, run), RUN_SECONDS, "a running task")
    topology.kill(name)
    books.engine.dispose()
    topology.until(lambda: left.append(IMAGES - books.done(shipment)) or left, RUN_SECONDS, "a count of what is left")
    assert left[0] > 0, "all was done before anything could be broken"
    topology.until(lambda: len(topology.components[name].sessions) > starts, RUN_SECONDS, f"a new start of {name}")


def hit(books: Books, run: str, find: Callable[[], list[psutil.Process]]) -> set[tuple[str, int]]:
    """Kill processes at a moment when a task of the run is in them; return which tasks.

    They are stopped while Airflow is asked, so that no task ends between the look and the kill.
    """
    caught: set[tuple[str, int]] = set()

    def look() -> bool:
        processes = find()
        with stopped(processes):
            caught.update(books.running(run, [process.pid for process in processes]))
            for process in processes if caught else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        return bool(caught)

    books.topology.until(look, RUN_SECONDS, "a task in what is to be killed")
    return caught


def test_a_celery_worker_with_all_its_tasks(books: Books, topology: Topology, shipment: Shipment) -> None:
    worker, restarts = topology.components["worker-1"], len(topology.restarts)
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 4)
    tasks = hit(books, run, lambda: family(worker.pid))
    assert books.done(shipment) < IMAGES
    runs = books.settle(shipment, run)
    assert "worker-1" in topology.restarts[restarts:]
    tries = books.tries(run)
    assert all(tries[task] > 1 for task in tasks), "a task that was killed was not tried again"
    balance(f"killed worker-1 with {sorted(tasks)}", books, shipment, runs, in_flight=POOL_SLOTS)


def test_a_celery_worker_that_hangs_and_goes_on(books: Books, topology: Topology, pictures: list[bytes]) -> None:
    """Nothing tells it from a dead one, so the other worker does its images. It wakes up with answers that it has paid
    for, of images that are not its own any more: they are booked, and change nothing.

    Its tasks wake up first: else the supervisors, which hear that the tasks were given up, might end them before.
    """
    shipment = books.ship([pictures[number % len(pictures)] for number in range(2 * IMAGES)])
    restarts = len(topology.restarts)
    run = books.trigger(shipment, batch_size=3 * BATCH)
    books.come_to(shipment, 1)
    with _hanging(books, topology, run) as hung:
        runs = books.settle(shipment, run)
        assert books.done(shipment) == 2 * IMAGES, "worker-2 has done them all"
        assert not {row.owner for row in books.rows("SELECT owner FROM image_claims")} & hung.owners
        assert {row.file_id for row in _analyses(books, shipment) if row.created_at > hung.since} >= hung.held
        before, woke_up = _outcomes(books, shipment), datetime.now(UTC)
        hung.wake_tasks()
        topology.until(lambda: _booked(books, shipment, woke_up) >= hung.asked, RUN_SECONDS, "the late answers")
    topology.until(lambda: not list(_tasks(topology, "worker-1")), RUN_SECONDS, "the end of what woke up")
    assert "worker-1" not in topology.restarts[restarts:]
    assert _outcomes(books, shipment) == before, "what woke up has written outcomes"
    assert _booked(books, shipment, woke_up) <= hung.held
    assert _paid_twice(books, topology, shipment) <= hung.held, "paid again, and was not in flight"
    figures = balance(f"froze worker-1 with {hung}", books, shipment, runs, in_flight=POOL_SLOTS)
    assert figures["paid_twice"] >= len(hung.asked), "an answer that nobody could read"


def test_a_task_process(books: Books, topology: Topology, shipment: Shipment) -> None:
    """What the out-of-memory killer does to the process that holds a batch: its decode workers end with it."""
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2, "image_proxies")
    decoders: list[psutil.Process] = []

    def holder() -> list[psutil.Process]:
        decoders[:] = list(_decoders(topology))[:1]
        return [task for decoder in decoders if (task := decoder.parent())]

    tasks = hit(books, run, holder)
    decoders[0].wait(30)
    runs = books.settle(shipment, run)
    assert len(runs) == 1, "a retry of the task was enough"
    tries = books.tries(run)
    assert [tries[task] > 1 for task in tasks] == [True], "the task that was killed was not tried again"
    balance(f"killed the process of {tasks}, which was making proxies", books, shipment, runs)


def test_decode_workers(books: Books, topology: Topology) -> None:
    """Three of them, each over an image of its own: that image is asked of a fresh one, no task is tried again."""
    shipment = books.ship([photograph(6000, 4500)] * IMAGES)
    run = books.trigger(shipment, batch_size=BATCH, stages=["proxy"])
    killed: set[str] = set()
    while len(killed) < 3:
        decoder, image = _busy_decoder(topology, killed)
        with contextlib.suppress(psutil.NoSuchProcess):
            decoder.kill()
            killed.add(image)
    assert books.done(shipment, "image_proxies") < IMAGES, "all was done before anything could be broken"
    assert books.ended(run) == "success"
    assert {item["try_number"] for item in books.tasks(run) if item["task_id"] == "images.proxy"} == {1}
    assert books.done(shipment, "image_proxies") == IMAGES
    runs = [run, books.trigger(shipment)]
    books.ended(runs[-1])
    figures = balance(f"killed {len(killed)} decode workers", books, shipment, runs, in_flight=0)
    assert figures["image_proxies:proxied"] == IMAGES


def test_an_image_that_kills_its_decoder_each_time(books: Books, topology: Topology, pictures: list[bytes]) -> None:
    """It is refused, by its code; its batch and everybody else's go on. A later run over the same images leaves it
    alone."""
    poison = photograph(7000, 5200)
    shipment = books.ship([*pictures, poison, *pictures], label="poisoned-")
    late = books.ship([photograph()], uploaded_at=shipment.uploaded_from + timedelta(hours=1))
    everything = Shipment((*shipment.ids, *late.ids), shipment.uploaded_from)
    with _killer(topology, len(poison)) as killed:
        runs = [books.trigger(shipment, batch_size=5, file_ids=shipment.ids)]
        assert books.ended(runs[0]) == "success", "one of nine is below the threshold of failures"
        assert len(killed) == 2
        runs.append(books.trigger(everything))
        assert books.ended(runs[1]) == "success"
    assert len(killed) == 2, "the later run tried it again"
    assert books.done(late) == 1, "the later run did nothing at all"
    broke = f"poisoned image: {len(killed)} decoders died of it in two runs"
    figures = balance(broke, books, everything, runs, failed={shipment.ids[4]: "decoder_crashed"})
    assert (figures["image_proxies:failed"], figures["image_analyses:analysed"]) == (1, 9)


def test_the_scheduler(books: Books, topology: Topology, shipment: Shipment) -> None:
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2, "image_proxies")
    strike(books, topology, shipment, run, "scheduler")
    runs = books.settle(shipment, run)
    assert len(runs) == 1, "the next scheduler takes the run over"
    balance("killed the scheduler", books, shipment, runs)


def test_the_api_server(books: Books, topology: Topology, shipment: Shipment) -> None:
    """Tasks that run go on without it, and report when it is back. What they paid for is in the catalog by then, so
    one that is tried again pays nothing anew."""
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2, "image_proxies")
    with topology.without("api-server"):
        before = books.done(shipment, "image_proxies")
        topology.until(
            lambda: books.done(shipment, "image_proxies") > before, RUN_SECONDS, "work without the API server"
        )
    runs = books.settle(shipment, run)
    balance("killed the API server", books, shipment, runs)


def test_the_s3_server(books: Books, topology: Topology, shipment: Shipment) -> None:
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2, "image_proxies")
    with topology.without_s3():
        topology.until(lambda: _states(books, run) & {"up_for_retry", "failed"}, RUN_SECONDS, "a task that notices")
    runs = books.settle(shipment, run)
    balance("killed the S3 server", books, shipment, runs)


def test_the_stand_in(books: Books, topology: Topology, shipment: Shipment) -> None:
    """Images whose call did not get through are pending again. One whose answer was cut off may have been paid: it
    waits for its next try, and who does not want to wait asks for it."""
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2)
    with topology.without("nova-stand-in"):
        topology.until(lambda: _returned(books, run), RUN_SECONDS, "an image that was put back")
    topology.until_ready()
    runs = books.settle(shipment, run)
    query = "SELECT file_id FROM image_analyses WHERE superseded_at IS NULL AND next_try_at IS NOT NULL"
    waiting = [row.file_id for row in books.rows(query) if row.file_id in shipment.ids]
    assert len(waiting) <= POOL_SLOTS
    cut_off = dict.fromkeys(waiting, "connection_lost")
    balance("killed the Nova stand-in", books, shipment, runs, failed=cut_off)
    if cut_off:
        runs.append(books.trigger(shipment, stages=["analyse"], force=True, file_ids=waiting))
        assert books.ended(runs[-1]) == "success"
        balance(f"asked again for the {len(waiting)} that were cut off", books, shipment, runs, in_flight=len(waiting))


def test_postgresql(books: Books, topology: Topology, shipment: Shipment) -> None:
    """Airflow's database and the catalog at once: every component loses its connections, some end and come back."""
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 4)
    strike(books, topology, shipment, run, "postgres")
    topology.until_ready()
    runs = books.settle(shipment, run)
    balance("killed PostgreSQL", books, shipment, runs, in_flight=POOL_SLOTS)


def test_redis(books: Books, topology: Topology, shipment: Shipment) -> None:
    """The queue between scheduler and workers; what was in it is on its disk. A message that comes twice pays nothing
    twice: the API server does not let a task that is running begin again."""
    run = books.trigger(shipment, batch_size=BATCH)
    books.come_to(shipment, 2, "image_proxies")
    before = {name: _lost_brokers(topology, name) for name in WORKER_NAMES}
    strike(books, topology, shipment, run, "redis")
    runs = books.settle(shipment, run)
    assert all(_lost_brokers(topology, name) > before[name] for name in WORKER_NAMES), "a worker did not notice"
    balance("killed Redis", books, shipment, runs)


def test_a_message_that_redis_lost(books: Books, topology: Topology, pictures: list[bytes]) -> None:
    """A task that was handed to Celery and never comes to a worker: Airflow holds it for queued, until it does not any
    more. While no worker is there it is in Redis, and all that Redis has is lost."""
    shipment, dropped = books.ship(pictures), list[int]()
    noticed = topology.log("scheduler").count(STUCK)
    with contextlib.ExitStack() as away:
        for name in WORKER_NAMES:
            away.enter_context(topology.without(name))
        run = books.trigger(shipment)
        topology.until(lambda: "queued" in _states(books, run), RUN_SECONDS, "a queued task")
        topology.until(lambda: dropped.append(_flush(topology)) or dropped[-1], RUN_SECONDS, "its message")
    runs = books.settle(shipment, run)
    assert len(runs) == 1
    assert topology.log("scheduler").count(STUCK) > noticed, "the message came through"
    balance(f"Redis lost {dropped[-1]} messages", books, shipment, runs)


@dataclass(frozen=True)
class _Hung:
    """What a worker had in its hands at the moment since when it hangs."""

    since: datetime
    tasks: frozenset[int]  # their processes
    owners: frozenset[str]  # of claims
    held: frozenset[int]  # images that it was analysing
    asked: frozenset[int]  # of these, those whose answer was under way to it

    def wake_tasks(self) -> None:
        for pid in self.tasks:
            psutil.Process(pid).resume()

    def __str__(self) -> str:
        return f"{len(self.held)} images in {len(self.tasks)} tasks, {len(self.asked)} of them asked"


@contextlib.contextmanager
def _hanging(books: Books, topology: Topology, run: str) -> Iterator[_Hung]:
    """Worker 1 frozen while answers of Nova's are under way to it. At a bad moment it goes on, and is frozen again."""
    for _ in range(MOMENTS):
        topology.until(lambda: books.rows("SELECT 1 FROM image_claims WHERE stage = 'analyse'"), RUN_SECONDS, "a claim")
        with topology.frozen("worker-1"):
            hung = _in_hand(books, topology, run)
            if hung.asked:
                yield hung
                return
    pytest.fail("worker-1 never had an answer under way to it")


def _in_hand(books: Books, topology: Topology, run: str) -> _Hung:
    since = datetime.now(UTC)
    processes = {
        process.pid for process in psutil.Process(topology.components["worker-1"].pid).children(recursive=True)
    }
    tasks = {
        int(task["pid"]): int(task["map_index"])
        for task in books.tasks(run)
        if task["task_id"] == "images.analyse" and task["state"] == "running" and task["pid"] in processes
    }
    query = """SELECT file_id, owner FROM image_claims JOIN image_run_items USING (run_id, file_id)
        WHERE run_id = :run AND stage = 'analyse' AND batch_id = ANY(:batches)"""
    claims = books.rows(query, run=f"{DAG_ID}/{run}", batches=list(tasks.values()))
    held = frozenset(row.file_id for row in claims)
    booked = {row.file_id for row in books.rows("SELECT file_id FROM image_attempts WHERE called")}
    asked = {file_id for file_id, call in _answers(books, topology) if datetime.fromisoformat(call["started"]) <= since}
    return _Hung(since, frozenset(tasks), frozenset(row.owner for row in claims), held, held & asked - booked)


def _answers(books: Books, topology: Topology) -> list[tuple[int, dict[str, Any]]]:
    """Every answer that the stand-in gave, with the image that it was asked about."""
    rows = books.rows("SELECT file_id, uri FROM image_proxies WHERE superseded_at IS NULL AND uri IS NOT NULL")
    images = {row.uri: row.file_id for row in rows}
    calls = [call for call in topology.calls() if call["status"] == 200 and call["s3_uri"] in images]
    return [(images[call["s3_uri"]], call) for call in calls]


def _paid_twice(books: Books, topology: Topology, shipment: Shipment) -> set[int]:
    counts = Counter(file_id for file_id, _ in _answers(books, topology))
    return {file_id for file_id in shipment.ids if counts[file_id] > 1}


def _booked(books: Books, shipment: Shipment, since: datetime) -> set[int]:
    """Images of which a request was booked since then."""
    rows = books.rows("SELECT file_id FROM image_attempts WHERE called AND recorded_at >= :since", since=since)
    return {row.file_id for row in rows} & set(shipment.ids)


def _analyses(books: Books, shipment: Shipment) -> list[Any]:
    rows = books.rows("SELECT file_id, created_at FROM image_analyses WHERE superseded_at IS NULL")
    return [row for row in rows if row.file_id in shipment.ids]


def _outcomes(books: Books, shipment: Shipment) -> dict[str, list[Any]]:
    """Every row of an outcome, and every decision of a run."""
    queries = {
        "proxies": "SELECT * FROM image_proxies ORDER BY id",
        "analyses": "SELECT id, file_id, description, run_id, superseded_at FROM image_analyses ORDER BY id",
        "decisions": """SELECT run_id, file_id, proxy_outcome, proxy_id, analysis_outcome, analysis_id
            FROM image_run_items WHERE analysis_outcome <> 'returned' ORDER BY run_id, file_id""",
    }
    found = {name: books.rows(query) for name, query in queries.items()}
    return {name: [row for row in rows if row.file_id in shipment.ids] for name, rows in found.items()}


def _busy_decoder(topology: Topology, except_for: set[str]) -> tuple[psutil.Process, str]:
    """A decode worker with an original open, and that one's path: none of those that are known."""
    found: list[tuple[psutil.Process, str]] = []

    def look() -> bool:
        for process in _decoders(topology):
            with contextlib.suppress(psutil.Error, OSError):
                found.extend((process, file.path) for file in process.open_files() if _is_original(file))
        found[:] = [(process, path) for process, path in found if path not in except_for]
        return bool(found)

    topology.until(look, RUN_SECONDS, "a decode worker that is busy")
    return found[0]


def _is_original(file: Any) -> bool:
    return "/image-proxy-" in file.path and file.mode == "r"


def _tasks(topology: Topology, worker: str) -> Iterator[psutil.Process]:
    """Processes of tasks that a Celery worker has started."""
    for process in psutil.Process(topology.components[worker].pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "include.imaging.worker" in process.cmdline() or "airflow worker --" in " ".join(process.cmdline()):
                yield process


def _decoders(topology: Topology) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "include.imaging.worker" in process.cmdline() and process.environ().get("TOPOLOGY_ID") == topology.id:
                yield process


@contextlib.contextmanager
def _killer(topology: Topology, size: int) -> Iterator[list[int]]:
    """Whoever decodes a file of this many bytes dies of it, as of a fault in its codec."""
    killed: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.01):
            for process in _decoders(topology):
                with contextlib.suppress(psutil.Error, OSError):
                    if process.pid not in killed and any(_size(file.path) == size for file in process.open_files()):
                        killed.append(process.pid)
                        process.send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _states(books: Books, run: str) -> set[str]:
    return {item["state"] for item in books.tasks(run)}


def _returned(books: Books, run: str) -> int:
    query = "SELECT count(*) AS n FROM image_run_items WHERE run_id = :run AND analysis_outcome = 'returned'"
    return int(books.rows(query, run=f"{DAG_ID}/{run}")[0].n)


def _lost_brokers(topology: Topology, worker: str) -> int:
    """How often a Celery worker has lost its connection to Redis since it was started."""
    return topology.log(worker).count("Connection to broker lost")


def _flush(topology: Topology) -> int:
    """Empty Redis when a message for a worker is in it; return how many there were."""
    with Redis(port=topology.ports["redis"], password=topology.variables["REDIS_PASSWORD"]) as server:
        waiting = int(server.llen("default"))
        if waiting:
            server.flushall()
        return waiting
