"""One bad picture must cost one picture: not the pool, not the batch, and not the task that Airflow runs it in."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from include.imaging import (
    DecodeWorkers,
    Limits,
    ProxyError,
    ProxyOptions,
    WorkersStopped,
    create_proxy,
    inspect_image,
    workers,
)
from include.imaging.jxl import extension
from tests.imaging.fuzz import seeds
from tests.imaging.pictures import photo, raw_png, saved, tiff_bytes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds for what takes a fraction of one


def _until(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition that is about to hold."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came about"
        threading.Event().wait(0.01)
    return value


def _is_worker(child: psutil.Process) -> bool:
    try:
        return "include.imaging.worker" in child.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it ended just now
        return False


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_worker(child)]


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    assert _children() == []


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return saved(tmp_path / "photo.jpg", photo(1200, 900), quality=90)


# -- what a pool does --------------------------------------------------------------------------------------------------


def test_the_same_results_as_in_this_process(tmp_path: Path, picture: Path) -> None:
    options = ProxyOptions(target_short_side=300)
    with DecodeWorkers(1) as pool:
        assert pool.inspect(picture) == inspect_image(picture)
        remote = pool.create_proxy(picture, tmp_path / "remote", options)
    local = create_proxy(picture, tmp_path / "local", options)
    assert replace(remote, seconds=0) == replace(local, seconds=0)
    assert (tmp_path / "remote").read_bytes() == (tmp_path / "local").read_bytes()


def test_children_are_started_when_needed_and_kept(picture: Path) -> None:
    with DecodeWorkers(2) as pool:
        assert _children() == []
        pool.inspect(picture)
        first = [child.pid for child in _children()]
        pool.inspect(picture)
        assert [child.pid for child in _children()] == first
        assert len(first) == 1


def test_many_threads_share_few_children(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(2) as pool, ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: pool.create_proxy(picture, tmp_path / f"{n}.out"), range(40)))
        assert 1 <= len(_children()) <= 2
    assert {result.proxy_dimensions for result in results} == {(1195, 896)}
    assert len(list(tmp_path.glob("*.out"))) == 40
    assert len({path.read_bytes() for path in tmp_path.glob("*.out")}) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"text", "unsupported_format"), (b"", "empty"), (b"\xff\xd8\xff\xe0", "truncated"), (None, "unreadable")],
)
def test_refusals_keep_their_type_and_the_child(
    tmp_path: Path, picture: Path, content: bytes | None, code: str
) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        before = _children()
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(bad, tmp_path / "out")
        assert caught.value.code == code
        assert _children() == before
        assert not (tmp_path / "out").exists()


def test_paths_with_any_bytes(tmp_path: Path, picture: Path) -> None:
    source = picture.rename(tmp_path / os.fsdecode(b"new\nline \xff\xe4 \xf0\x9f\x93\xb7.jpg"))
    with DecodeWorkers(1) as pool:
        assert pool.create_proxy(source, tmp_path / "out").proxy_dimensions == (1195, 896)


def test_relative_paths_are_the_callers(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        monkeypatch.chdir(tmp_path)  # after the child has started elsewhere
        pool.create_proxy("photo.jpg", "out.jpg")
    assert (tmp_path / "out.jpg").exists()


_FOREIGN = """
import sys
sys.path.insert(0, sys.argv[1])
from include.imaging import DecodeWorkers
with DecodeWorkers(1) as pool:
    print(pool.create_proxy(sys.argv[2], sys.argv[3]).action)
"""


def test_from_another_folder_with_an_include_of_its_own(tmp_path: Path, picture: Path) -> None:
    """As in a DAGs folder, where Airflow has put ours on sys.path and not in PYTHONPATH."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "include" / "imaging").mkdir(parents=True)
    (elsewhere / "include" / "__init__.py").touch()
    (elsewhere / "include" / "imaging" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    script = tmp_path / "script.py"
    script.write_text(_FOREIGN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, ROOT, picture, tmp_path / "out"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("resized", 0), done.stderr


def test_a_child_imports_only_what_it_needs(picture: Path) -> None:
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        mapped = {Path(entry.path).name for entry in _children()[0].memory_maps()}
    assert not any("sqlalchemy" in name or "psycopg" in name or "pydantic" in name for name in mapped)
    code = (
        "import sys; import include.imaging.proxy, include.imaging.worker;"
        "print([name for name in ('airflow', 'sqlalchemy', 'boto3', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inside_a_daemonic_process(tmp_path: Path, picture: Path) -> None:
    """Celery's and Airflow's task processes may not have multiprocessing children; ours are none."""
    process = multiprocessing.get_context("fork").Process(
        target=_in_a_daemon, args=(picture, tmp_path / "out"), daemon=True
    )
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert (tmp_path / "out").exists()


def _in_a_daemon(picture: Path, output: Path) -> None:
    for method in ("fork", "spawn", "forkserver"):
        with pytest.raises(AssertionError, match="not allowed to have children"):
            multiprocessing.get_context(method).Process(target=print).start()
    with DecodeWorkers(1) as pool:
        pool.create_proxy(picture, output)


_PARENTS_PILLOW = """
import sys
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin
Image.init()

def state():
    numbers = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK, Image.WARN_POSSIBLE_FORMATS,
               PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, TiffImagePlugin.READ_LIBTIFF)
    registered = (Image.OPEN, Image.SAVE, Image.SAVE_ALL, Image.MIME, Image.EXTENSION, Image.DECODERS, Image.ENCODERS)
    return numbers, [dict(each) for each in registered], list(Image.ID)

before, modules = state(), set(sys.modules)
from include.imaging import DecodeWorkers, ProxyError
with DecodeWorkers(1) as pool:
    for number, source in enumerate(sys.argv[2:]):
        pool.inspect(source)
        pool.create_proxy(source, f"{sys.argv[1]}/{number}")
assert state() == before
print(sorted(name for name in set(sys.modules) - modules if name.startswith(("PIL", "pillow"))))
"""


def test_the_parents_pillow_stays_as_it_was(tmp_path: Path, picture: Path) -> None:
    """Whatever the children set for themselves: a task shares its process with what else a deployment loads."""
    sources = [picture]
    for name in ("jpeg-progressive", "png-16", "heif", "jp2", "jxl-plain", "ico", "tiff-lzw"):
        sources.append(tmp_path / name)
        sources[-1].write_bytes(seeds()[name])
    (tmp_path / "proxies").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PARENTS_PILLOW, tmp_path / "proxies", *sources],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert len(list((tmp_path / "proxies").iterdir())) == len(sources)


# -- what a picture can do to it ---------------------------------------------------------------------------------------


def _scan_bomb(side: int, scans: int) -> bytes:
    """A JPEG of a few kilobytes that is minutes of work, inside every limit on pixels and bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "gray").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    scan = data[start : data.index(b"\xff\xda", start + 2)]
    return data[:-2] + scan * scans + b"\xff\xd9"


PATIENT = Limits(seconds=PATIENCE, max_scans=1_000_000)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    source = tmp_path / "bomb.jpg"
    source.write_bytes(_scan_bomb(4000, 20_000))
    return source


def _stop_children(pool: DecodeWorkers, picture: Path) -> list[int]:
    """Warm up one child and suspend it: whatever it is asked next, it does not answer."""
    pool.inspect(picture)
    pids = [child.pid for child in _children()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def test_a_hang_costs_its_time_limit_and_no_more(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(1, Limits(seconds=1)) as pool:
        (hung,) = _stop_children(pool, picture)
        started = time.monotonic()
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(picture, tmp_path / "out")
        assert caught.value.code == "time_limit"
        assert 0.9 < time.monotonic() - started < PATIENCE
        assert not psutil.pid_exists(hung)
        assert pool.create_proxy(picture, tmp_path / "out").action == "resized"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photo.jpg"]


def test_a_slow_decode_is_stopped_in_the_middle(tmp_path: Path, bomb: Path) -> None:
    with DecodeWorkers(1, Limits(seconds=1, max_scans=1_000_000)) as pool:
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(bomb, tmp_path / "out")
        assert caught.value.code == "time_limit"
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.jpg"]


def test_a_child_killed_while_idle_is_nobodys_fault(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(2) as pool, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: pool.inspect(picture), range(8)))
        for child in _children():
            child.kill()
        assert (
            list(threads.map(lambda n: pool.create_proxy(picture, tmp_path / str(n)).action, range(6)))
            == ["resized"] * 6
        )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_one_death_is_forgiven(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, how: int) -> None:
    """The machine's out-of-memory killer picks the largest process, which need not be the guilty one."""
    killed: list[int] = []
    ask = workers._Child.ask

    def ask_the_dying(child: workers._Child, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        if not killed:
            killed.append(child.pid)
            os.kill(child.pid, how)
        return ask(child, request, seconds)

    monkeypatch.setattr(workers._Child, "ask", ask_the_dying)
    with DecodeWorkers(1) as pool:
        assert pool.create_proxy(picture, tmp_path / "out").action == "resized"
        assert len(killed) == 1
        assert killed[0] not in {child.pid for child in _children()}


def test_a_death_while_starting_is_forgiven_once(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it was ready, it has not seen the image; when the next one dies as well, starting is broken."""
    started: list[int] = []
    wait_until_ready = workers._Child.wait_until_ready

    def wait_for_the_dying(child: workers._Child, seconds: float) -> None:
        started.append(child.pid)
        if len(started) in (1, 3, 4):
            os.kill(child.pid, signal.SIGKILL)
        wait_until_ready(child, seconds)

    monkeypatch.setattr(workers._Child, "wait_until_ready", wait_for_the_dying)
    with DecodeWorkers(1) as pool:
        assert pool.create_proxy(picture, tmp_path / "out").action == "resized"
        assert len(started) == 2
    with DecodeWorkers(1) as pool, pytest.raises(RuntimeError, match="does not start"):
        pool.create_proxy(picture, tmp_path / "out")
    assert len(started) == 4


def _working(except_for: set[int]) -> psutil.Process | None:
    """The child that has been computing for a while, and is not one of those."""
    for child in _children():
        if child.pid not in except_for and sum(child.cpu_times()[:2]) > 0.8:  # starting takes about 0.2
            return child
    return None


def test_a_picture_that_kills_two_decoders_is_refused(tmp_path: Path, picture: Path, bomb: Path) -> None:
    with DecodeWorkers(1, PATIENT) as pool, ThreadPoolExecutor(1) as threads:
        doomed = threads.submit(pool.create_proxy, bomb, tmp_path / "out")
        dead: set[int] = set()
        for _ in range(2):
            child = _until(lambda: _working(dead))
            dead.add(child.pid)
            child.send_signal(signal.SIGSEGV)
        with pytest.raises(ProxyError, match="SIGSEGV") as caught:
            doomed.result(PATIENCE)
        assert caught.value.code == "decoder_crashed"
        assert pool.create_proxy(picture, tmp_path / "good").action == "resized"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.jpg", "good", "photo.jpg"]


def test_a_memory_bomb_costs_one_picture(tmp_path: Path, picture: Path) -> None:
    """25 kB that decode to 196 MB, and again as much to resize."""
    source = tmp_path / "bomb.png"
    source.write_bytes(raw_png((14_000, 14_000), 1, 0, bytes(1751 * 14_000)))
    with DecodeWorkers(1, Limits(memory_bytes=300 * 1024**2)) as pool:
        pool.inspect(picture)
        (before,) = _children()
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(source, tmp_path / "out")
        assert caught.value.code == "memory_limit"
        assert not before.is_running()  # its heap is in pieces
        assert pool.create_proxy(picture, tmp_path / "out").action == "resized"


def test_a_progressive_jpeg_that_needs_too_much_memory_is_not_called_corrupt(tmp_path: Path) -> None:
    """libjpeg holds all coefficients of such a picture; the pipeline may send the original instead, which is fine."""
    source = saved(tmp_path / "a.jpg", Image.new("RGB", (8000, 6000), "gray"), progressive=True, subsampling=0)
    with DecodeWorkers(1, Limits(memory_bytes=300 * 1024**2)) as pool:
        with pytest.raises(ProxyError, match="274 MB") as caught:
            pool.create_proxy(source, tmp_path / "out")
        assert caught.value.code == "memory_limit"
    with DecodeWorkers(1, Limits(memory_bytes=600 * 1024**2)) as pool:
        assert pool.create_proxy(source, tmp_path / "out").action == "resized"


def test_a_tiff_that_needs_too_much_memory_is_not_called_corrupt(tmp_path: Path) -> None:
    """One strip of 182 MB, which libtiff unpacks at once."""
    source = tmp_path / "a"
    source.write_bytes(tiff_bytes((5500, 5500), 3, [zlib.compress(bytes(181_500_000))], depth=16, compression=8))
    with DecodeWorkers(1, Limits(memory_bytes=300 * 1024**2)) as pool:
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(source, tmp_path / "b")
        assert caught.value.code == "memory_limit"


def test_a_jpeg_xl_that_needs_too_much_memory_is_not_a_crash(tmp_path: Path) -> None:
    """Its decoder ends the process when it gets none."""
    encoder = extension().Encoder(mode="RGB", lossless=False, quality=80.0, effort=1, num_threads=0)
    source = tmp_path / "a.jxl"
    source.write_bytes(encoder(bytes(4000 * 3000 * 3), 4000, 3000, jpeg_encode=False))
    with DecodeWorkers(1, Limits(memory_bytes=300 * 1024**2)) as pool:
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(source, tmp_path / "out")
        assert caught.value.code == "memory_limit"
    with DecodeWorkers(1) as pool:
        assert pool.create_proxy(source, tmp_path / "out").proxy_dimensions == (1195, 896)


def test_a_child_cannot_fill_a_disk(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        soft, hard = resource.prlimit(_children()[0].pid, resource.RLIMIT_FSIZE)
    assert soft == hard
    assert 2048 * 8000 * 4 < soft < 2**30


def test_an_error_that_nobody_foresaw_is_typed(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(1) as pool, pytest.raises(ProxyError, match="target_short_side") as caught:
        options = ProxyOptions()
        object.__setattr__(options, "target_short_side", 1)  # what no honest caller can do
        pool.create_proxy(picture, tmp_path / "out", options)
    assert caught.value.code == "decoder_crashed"


_NOISY = """
import os, sys
from include.imaging import worker
perform = worker._perform
def noisy(request, limits):
    print("a warning from Python")
    os.write(1, b"a warning from C\\n")
    os.write(2, b"an error from C\\n")
    if request["do"] == "fail":
        raise RuntimeError("nobody foresaw this")
    return perform(request, limits)
worker._perform = noisy
worker.main()
"""


def _talk(picture: Path, *requests: str) -> tuple[list[dict[str, Any]], str]:
    """What a child that prints a lot answers, and what arrives on its stderr."""
    command = [sys.executable, "-c", _NOISY, json.dumps(asdict(Limits()))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:  # type: ignore[call-overload]
        for what in requests:
            child.stdin.write(json.dumps({"do": what, "source": str(picture)}) + "\n")
        child.stdin.flush()
        ready, *answers = [json.loads(child.stdout.readline()) for _ in range(1 + len(requests))]
        _, errors = child.communicate()
    assert ready == {"ready": True}
    return answers, errors


def test_what_libraries_print_reaches_neither_the_protocol_nor_the_log(picture: Path) -> None:
    """libtiff prints a line for each bad line of a picture: a small file could fill a task's log."""
    answers, errors = _talk(picture, "inspect", "inspect")
    assert [answer["result"]["width"] for answer in answers] == [1200, 1200]
    assert errors == ""


def test_what_nobody_foresaw_is_in_the_log(picture: Path) -> None:
    answers, errors = _talk(picture, "fail")
    assert answers[0]["code"] == "decoder_crashed"
    assert "Traceback" in errors
    assert "nobody foresaw this" in errors


def test_a_crash_says_in_the_log_where_it_was(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        (child,) = _children()
        child.send_signal(signal.SIGSEGV)
        _until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert "Segmentation fault" in capfd.readouterr().err


# -- ending ------------------------------------------------------------------------------------------------------------


def test_stop_is_no_verdict_on_the_picture(tmp_path: Path, picture: Path) -> None:
    with DecodeWorkers(1) as pool, ThreadPoolExecutor(3) as threads:
        (hung,) = _stop_children(pool, picture)
        calls = [threads.submit(pool.create_proxy, picture, tmp_path / f"{n}.out") for n in range(3)]
        _until(lambda: pool._busy)  # one has the child, the others wait for it
        pool.stop()
        for call in calls:
            with pytest.raises(WorkersStopped):
                call.result(PATIENCE)
        assert not psutil.pid_exists(hung)
        with pytest.raises(WorkersStopped):
            pool.inspect(picture)
        pool.stop()
    assert list(tmp_path.glob("*.out")) == []
    assert list(tmp_path.glob(".*")) == []
    assert not issubclass(WorkersStopped, ProxyError)


def test_close_leaves_no_process(picture: Path) -> None:
    pool = DecodeWorkers(1)
    pool.inspect(picture)
    (child,) = _children()
    pool.close()
    assert not child.is_running()
    with pytest.raises(WorkersStopped):
        pool.inspect(picture)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_are_for_the_parent(picture: Path, number: int) -> None:
    with DecodeWorkers(1) as pool:
        pool.inspect(picture)
        (child,) = _children()
        child.send_signal(number)
        pool.inspect(picture)
        assert [other.pid for other in _children()] == [child.pid]
        assert os.getpgid(child.pid) == os.getpgid(0)


_PARENT = """
import sys
from include.imaging import DecodeWorkers, Limits
with DecodeWorkers(1, Limits(seconds=60, max_scans=1_000_000)) as pool:
    pool.inspect(sys.argv[1])
    print("warm", flush=True)
    pool.create_proxy(sys.argv[1], sys.argv[2])
"""


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path, bomb: Path) -> None:
    """Also in the middle of a picture that takes minutes."""
    command = [sys.executable, "-c", _PARENT, bomb, tmp_path / "out"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "warm\n"
        (child,) = psutil.Process(parent.pid).children()
        _until(lambda: sum(child.cpu_times()[:2]) > 0.8)
        parent.kill()
    _until(lambda: not child.is_running())


def test_a_worker_that_cannot_start_is_nobodys_picture(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DecodeWorkers(1) as pool:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            for _ in range(3):  # and gives its place back
                with pytest.raises(RuntimeError, match="does not start"):
                    pool.inspect(picture)
        assert pool.inspect(picture).width == 1200


def test_a_pool_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DecodeWorkers(0)
