"""`make run` as a person has it: killed at any moment, in every way, and run again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import require_weed
from tests.dags.conftest import photograph

ROOT = Path(__file__).resolve().parents[2]
BATCH = 16  # new pictures before each run that is killed, so that it has something to be killed at
PICTURES = 4 * BATCH
DEADLINE_SECONDS = 120

pytestmark = pytest.mark.end_to_end


class Laptop:
    """A folder for `make run`, the pictures it is given, and what is seen of it from outside."""

    def __init__(self, folder: Path) -> None:
        self.var = folder / "var"
        self.pictures = folder / "pictures"

    def start(self) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        env |= {"VAR_DIR": str(self.var), "IMAGES": str(self.pictures)}
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.run"],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self) -> str:
        """Run to the end; return what was printed."""
        process = self.start()
        printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, printed
        return printed

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.var / 'catalog.db'}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()

    def count(self, table: str) -> int:
        try:
            return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608
        except sqlite3.OperationalError:  # not there yet
            return 0

    def processes(self) -> list[psutil.Process]:
        """Everything that runs on this folder: its name is in their command line or environment."""
        found = []
        for process in psutil.process_iter():
            try:
                own = process.environ().get("VAR_DIR") == str(self.var)
                if process.pid != os.getpid() and (own or str(self.var) in " ".join(process.cmdline())):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def calls(self) -> list[dict[str, Any]]:
        log = self.var / "nova_stand_in" / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.var / "reports" / "latest.json").read_text()))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far in time"
        time.sleep(0.02)


def of_command(processes: list[psutil.Process], words: str) -> psutil.Process | None:
    return next((process for process in processes if words in " ".join(process.cmdline())), None)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    require_weed()
    machine = Laptop(tmp_path_factory.mktemp("make run"))
    machine.pictures.mkdir()
    (machine.pictures / "sub folder").mkdir()
    (machine.pictures / "sub folder" / "notes.txt").write_text("not a picture")
    (machine.pictures / "sub folder" / "empty.jpg").touch()
    yield machine
    for process in machine.processes():
        process.kill()


@pytest.fixture(scope="module")
def killed_again_and_again(machine: Laptop) -> list[int]:
    """Four runs, each ended in another way after it has come further; return their exit codes."""
    codes = []
    for number, table, further in (
        (signal.SIGINT, "image_runs", 1),
        (signal.SIGTERM, "image_proxies", 6),
        (signal.SIGKILL, "image_proxies", 6),
    ):
        process = started_and_come(machine, table, further)
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_SECONDS)
        codes.append(process.returncode)
    process = started_and_come(machine, "image_analyses", 3)
    record = json.loads((machine.var / "airflow" / "processes" / "run.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)  # the process in which `airflow dags test` runs the tasks
    process.communicate(timeout=DEADLINE_SECONDS)
    return [*codes, process.returncode]


def started_and_come(machine: Laptop, table: str, further: int) -> subprocess.Popen[str]:
    """Add pictures, start a run, and return it when it has written so many rows more."""
    before = len(list(machine.pictures.glob("*.jpg")))
    for number in range(before, before + BATCH):
        photograph(machine.pictures / f"{number:02}.jpg", 1200, 1000)
    wanted = machine.count(table) + further
    process = machine.start()
    wait_until(lambda: machine.count(table) >= wanted)
    return process


@pytest.fixture(scope="module")
def finished(machine: Laptop, killed_again_and_again: list[int]) -> str:
    """The run after those, in which a decode worker is killed as well; return what it printed."""
    process = machine.start()
    if machine.count("image_proxies") < PICTURES:
        wait_until(lambda: of_command(machine.processes(), "include.imaging.worker") or process.poll() is not None)
        worker = of_command(machine.processes(), "include.imaging.worker")
        if worker is not None:
            worker.kill()
    printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, printed
    return printed


def test_each_end_has_its_exit_code(killed_again_and_again: list[int]) -> None:
    assert killed_again_and_again == [128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGKILL, 1]


def test_every_image_is_done_once(machine: Laptop, finished: str) -> None:
    for table, status in (("image_proxies", "proxied"), ("image_analyses", "analysed")):
        done = machine.rows(f"SELECT file_id FROM {table} WHERE status = '{status}'")  # noqa: S608
        assert len(done) == len(set(done)) == PICTURES
    failed = machine.rows("SELECT f.filename, p.code FROM image_proxies p JOIN files f ON f.id = p.file_id "
                          "WHERE p.status = 'failed'")  # fmt: skip
    assert failed == [("empty.jpg", "empty")]
    assert machine.count("image_claims") == 0


def test_no_answer_that_was_written_was_asked_for_again(machine: Laptop, finished: str) -> None:
    written = {
        uri: datetime.fromisoformat(created).replace(tzinfo=UTC)
        for uri, created in machine.rows(
            "SELECT p.uri, a.created_at FROM image_analyses a JOIN image_proxies p ON p.file_id = a.file_id"
        )
    }
    answered = [call for call in machine.calls() if call["status"] == 200]
    assert len(answered) >= PICTURES
    for call in answered:
        assert datetime.fromisoformat(call["started"]) <= written[call["s3_uri"]]


def test_a_run_after_that_finds_nothing_to_do_and_leaves_no_process(machine: Laptop, finished: str) -> None:
    calls = len(machine.calls())
    printed = machine.run()
    assert "Nothing to do" in printed
    assert (machine.report()["proxies_created"], machine.report()["nova_calls"]) == (0, 0)
    assert len(machine.calls()) == calls
    assert machine.processes() == []


def test_the_persons_files_are_untouched(machine: Laptop, finished: str) -> None:
    names = {path.name for path in machine.pictures.rglob("*") if path.is_file()}
    assert names == {"notes.txt", "empty.jpg"} | {f"{number:02}.jpg" for number in range(PICTURES)}


def test_two_runs_at_once_on_one_folder_are_refused(machine: Laptop, finished: str) -> None:
    first = machine.start()
    wait_until(lambda: (machine.var / "laptop.lock").read_text() == str(first.pid))
    second = machine.start()
    printed, _ = second.communicate(timeout=DEADLINE_SECONDS)
    first.communicate(timeout=DEADLINE_SECONDS)
    assert (second.returncode, first.returncode) == (2, 0)
    assert "is running on" in printed


def test_a_small_folder_with_more_bad_files_than_good_ones_is_no_failed_run(tmp_path: Path) -> None:
    require_weed()
    machine = Laptop(tmp_path)
    (machine.pictures / "sub folder").mkdir(parents=True)
    photograph(machine.pictures / "sub folder" / "good.jpg", 1200, 1000)
    (machine.pictures / "empty.jpg").touch()
    (machine.pictures / "notes.txt").write_text("not a picture")
    whole = photograph(machine.pictures / "cut short.jpg", 1200, 1000).read_bytes()
    (machine.pictures / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    printed = " ".join(machine.run().split())
    assert "3 listed, 1 proxies made, 0 kept, 2 failed, 1 analysed" in printed
    assert sorted(failure["code"] for failure in machine.report()["failures"]) == ["empty", "truncated"]


def test_a_folder_without_a_file_is_not_called_done(tmp_path: Path) -> None:
    require_weed()
    machine = Laptop(tmp_path)
    machine.pictures.mkdir()
    process = machine.start()
    printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert f"there is no file in {machine.pictures}" in printed


def test_a_folder_that_is_not_there_is_said_plainly(machine: Laptop) -> None:
    env = {**os.environ, "VAR_DIR": str(machine.var), "IMAGES": "/nowhere at all"}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.run"], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no such folder: /nowhere at all" in " ".join(done.stdout.split())
