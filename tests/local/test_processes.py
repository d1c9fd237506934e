"""Servers start or say why not, and none outlives the run, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from include.local.processes import ChildServer, ServerFailed, free_ports, reap

ROOT = Path(__file__).parents[2]

# A server with a child of its own; both note their process ids. Argument 1: a folder; 2: what SIGTERM does to them.
FAMILY = """
import os, pathlib, signal, sys, time
folder, manner = pathlib.Path(sys.argv[1]), sys.argv[2]
if manner == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
name = "parent" if os.fork() else "child"
(folder / f"{name}.draft").write_text(str(os.getpid()))
(folder / f"{name}.draft").rename(folder / f"{name}.pid")
while True:
    time.sleep(60)
"""


def family(folder: Path, manner: str = "tame", stop_seconds: float = 5.0, record: bool = False) -> ChildServer:
    return ChildServer(
        "family",
        [sys.executable, "-c", FAMILY, str(folder), manner],
        log_path=folder / "family.log",
        ready=lambda: len(list(folder.glob("*.pid"))) == 2,
        record_path=folder / "family.json" if record else None,
        stop_seconds=stop_seconds,
    )


def pids(folder: Path) -> list[int]:
    """Of the child and of the parent, in this order."""
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(("manner", "stop_seconds"), [("tame", 5.0), ("deaf", 0.3)])
def test_stopping_ends_the_whole_group(tmp_path: Path, manner: str, stop_seconds: float) -> None:
    with family(tmp_path, manner, stop_seconds) as server:
        started = pids(tmp_path)
        assert server.running
        assert all(alive(pid) for pid in started)
        assert {os.getpgid(pid) for pid in started} == {server.pid}
        assert server.pid != os.getpgid(0), "a Ctrl-C meant for us would reach it before we can stop it in order"
    assert not any(alive(pid) for pid in started)
    assert not server.running


def test_the_log_of_a_server_that_is_started_again_goes_on(tmp_path: Path) -> None:
    """What ended it is read afterwards."""
    server = ChildServer(
        "short",
        [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(60)"],
        log_path=tmp_path / "short.log",
        ready=lambda: "started" in (tmp_path / "short.log").read_text(),
    )
    (tmp_path / "short.log").write_text("of an earlier run\n")
    with server:
        os.killpg(server.pid, signal.SIGKILL)
        server.stop()
        server.start()
        wait_until(lambda: (tmp_path / "short.log").read_text() == "started\nstarted\n")


def test_an_error_inside_the_block_ends_it_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), family(tmp_path):
        raise KeyboardInterrupt
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import sys; print('x' * 9000); sys.exit('port 80 is taken')"
    server = ChildServer("web", [sys.executable, "-c", script], log_path=tmp_path / "a" / "log", ready=lambda: False)
    with pytest.raises(ServerFailed, match="port 80 is taken") as caught:
        server.start()
    assert caught.value.code == "server_exited"
    assert len(str(caught.value)) < 3000


def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    def never() -> bool:
        raise ConnectionRefusedError

    script = "import time; print('still thinking', flush=True); time.sleep(60)"
    server = ChildServer(
        "web", [sys.executable, "-c", script], log_path=tmp_path / "log", ready=never, ready_seconds=0.5
    )
    with pytest.raises(ServerFailed, match=r"not ready after 0.5 s[^$]*still thinking") as caught:
        server.start()
    assert caught.value.code == "server_not_ready"
    assert not server.running


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    server = ChildServer("web", ["/no/such/program"], log_path=tmp_path / "log", ready=lambda: True)
    with pytest.raises(ServerFailed, match="/no/such/program") as caught:
        server.start()
    assert caught.value.code == "server_missing"
    assert not server.running


RUN = """
import pathlib, sys, threading
from tests.local.test_processes import family
folder = pathlib.Path(sys.argv[1])
starting = threading.Thread(target=lambda: family(folder, record=True).start())
if sys.argv[2] == "thread":
    starting.start(); starting.join()
else:
    starting.run()
print("ready", flush=True)
threading.Event().wait()
"""


def killed_run(folder: Path, where: str) -> list[int]:
    """Start the family in a run of its own and kill that run; the process ids of child and parent."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), where], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
            started = pids(folder)
            assert all(alive(pid) for pid in started)
        finally:
            run.send_signal(signal.SIGKILL)
    return started


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_run_takes_its_server_along(tmp_path: Path) -> None:
    child, parent = killed_run(tmp_path, "main")
    wait_until(lambda: not alive(parent))
    assert reap(tmp_path / "family.json"), "the server's own child is left to the next start"
    assert not alive(child)


def test_the_next_start_ends_what_a_killed_run_left(tmp_path: Path) -> None:
    left = killed_run(tmp_path, "thread")
    assert all(alive(pid) for pid in left), "started from a thread that ended, it lives on: else nothing is tested"
    for path in tmp_path.glob("*.pid"):
        path.unlink()
    with family(tmp_path, record=True):
        assert not any(alive(pid) for pid in left)
        assert not set(left) & set(pids(tmp_path))
    assert not (tmp_path / "family.json").exists()


def test_a_stranger_with_the_recorded_number_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "old.json"
    with family(tmp_path) as stranger:
        created = psutil.Process(stranger.pid).create_time()
        record.write_text(json.dumps({"pid": stranger.pid, "create_time": created - 3600}))
        assert not reap(record)
        assert stranger.running
    assert not record.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": "x", "create_time": 1}'])
def test_a_broken_record_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "record").write_text(text)
    assert not reap(tmp_path / "record")


def test_ports_come_without_repeats() -> None:
    assert len(set(free_ports(50))) == 50


def test_a_server_started_from_a_passing_thread_stays(tmp_path: Path) -> None:
    server = family(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    with server:
        assert server.running
        assert all(alive(pid) for pid in pids(tmp_path))
