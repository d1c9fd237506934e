"""Inside a batch: transfers and resizing overlap, pixels are budgeted, and time is told apart by what it went into."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.catalog.records import NewImage, Outcome
from include.imaging import DecodeWorkers, TooManyPixels
from include.pipeline import proxies
from include.pipeline.telemetry import NO_METRICS
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground

WAIT_SECONDS = 60
LARGE, SMALL = (1600, 1200), (1000, 900)


class Decodes:
    """Stands before `DecodeWorkers.create_proxy`: notes when each decode was in progress, and can wait in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._spans: list[tuple[float, float]] = []
        self.refused = 0
        self.begun = threading.Event()
        self.wait: Any = lambda: None
        real = DecodeWorkers.create_proxy

        def create_proxy(workers: DecodeWorkers, *arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            self.begun.set()
            self.wait()
            try:
                result = real(workers, *arguments, **options)
            except TooManyPixels:  # than it was let in for: none was decoded
                self.refused += 1
                raise
            self._spans.append((began, time.monotonic()))
            return result

        monkeypatch.setattr(DecodeWorkers, "create_proxy", create_proxy)

    @property
    def most(self) -> int:
        """How many were in progress at the same moment, at most."""
        return max(sum(began <= moment < ended for began, ended in self._spans) for moment, _ in self._spans)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    return Decodes(monkeypatch)


def add(ground: Ground, count: int, size: tuple[int, int]) -> None:
    for number in range(count):
        photograph(ground.pictures / f"{number}.jpg", *size)


def test_no_more_pixels_are_decoded_at_once_than_are_budgeted(ground: Ground, decodes: Decodes) -> None:
    add(ground, 6, LARGE)
    ground.make_proxies(max_pixels_in_flight=LARGE[0] * LARGE[1])
    assert decodes.most == 1


@pytest.mark.parametrize(("missing", "looks"), [(0, 0), (2, 4)])
def test_of_unknown_size_only_what_is_more_than_its_share_is_looked_at_before_its_turn(
    missing: int, looks: int, ground: Ground, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open the file of a 12-megapixel photograph twice takes 3 % of its CPU."""
    looked, real = [], DecodeWorkers.inspect
    monkeypatch.setattr(DecodeWorkers, "inspect", lambda *given: (looked.append(given), real(*given))[1])
    add(ground, 4, SMALL)
    for path in ground.pictures.iterdir():
        ground.s3.upload_file(str(path), ground.bucket, path.name)
        ground.register_object(path.name)
    images = ground.make_proxies_of_what_is_registered(max_pixels_in_flight=2 * SMALL[0] * SMALL[1] - missing)
    assert {image.outcome for image in images.values()} == {Outcome.PROXIED}
    assert len(looked) == looks
    assert bool(decodes.refused) == bool(looks)


def test_a_file_that_is_larger_than_registered_waits_for_all_of_its_pixels(ground: Ground, decodes: Decodes) -> None:
    add(ground, 4, LARGE)
    told = {"resolution_width": SMALL[0], "resolution_height": SMALL[1]}
    for path in ground.pictures.iterdir():
        size = path.stat().st_size
        image = NewImage(path.as_uri(), path.name, "image/jpeg", size, "v1", datetime.now(UTC), **told)
        ground.catalog.register([image])
    images = ground.make_proxies_of_what_is_registered(max_pixels_in_flight=LARGE[0] * LARGE[1])
    assert {image.outcome for image in images.values()} == {Outcome.PROXIED}
    assert decodes.refused == 4
    assert decodes.most == 1


def test_with_room_for_them_images_are_decoded_together(ground: Ground, decodes: Decodes) -> None:
    """What the test above would also show if a batch knew one image at a time only."""
    add(ground, 2, LARGE)
    decodes.wait = threading.Barrier(2, timeout=WAIT_SECONDS).wait
    ground.make_proxies(max_pixels_in_flight=2 * LARGE[0] * LARGE[1])
    assert decodes.most == 2


def test_an_upload_does_not_keep_others_from_being_resized(
    ground: Ground, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ground, 2, SMALL)
    real, first = proxies.upload_object, threading.Lock()
    uploading, resizing = threading.Event(), threading.Event()

    def upload(*arguments: Any, **options: Any) -> Any:
        uploading.set()
        assert resizing.wait(WAIT_SECONDS), "the other image waits for this upload"
        return real(*arguments, **options)

    def second_while_the_first_is_uploaded() -> None:
        if not first.acquire(blocking=False):
            assert uploading.wait(WAIT_SECONDS)
            resizing.set()

    decodes.wait = second_while_the_first_is_uploaded
    monkeypatch.setattr(proxies, "upload_object", upload)
    assert {image.outcome for image in ground.make_proxies().values()} == {Outcome.PROXIED}


def test_a_download_does_not_keep_others_from_being_resized(
    ground: Ground, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ground, 2, SMALL)
    real, fetched = proxies.fetch_source, []

    def fetch(*arguments: Any, **options: Any) -> Any:
        fetched.append(arguments)
        if len(fetched) == 1:
            assert decodes.begun.wait(WAIT_SECONDS), "the other image waits for this download"
        return real(*arguments, **options)

    monkeypatch.setattr(proxies, "fetch_source", fetch)
    assert {image.outcome for image in ground.make_proxies().values()} == {Outcome.PROXIED}


class Timings:
    """Metrics that keep the sum of each timer."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.count, self.gauge = NO_METRICS.count, NO_METRICS.gauge

    def timing(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds


def test_seconds_of_resizing_are_the_decoders_and_waiting_has_a_name_of_its_own(ground: Ground) -> None:
    """One image at a time is decoded: the sum of their seconds cannot be more than a clock on the wall shows."""
    add(ground, 12, LARGE)
    batch = ground.plan(stages=["proxy"])
    stage, timings = ground.stage(max_pixels_in_flight=1), Timings()
    object.__setattr__(stage, "metrics", timings)
    started = time.monotonic()
    stage.run(ground.run_id, batch)
    elapsed = time.monotonic() - started
    assert 0 < timings.seconds["proxy.resize"] < elapsed
    assert timings.seconds["proxy.wait"] > timings.seconds["proxy.resize"], "three of four images wait at any time"


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    """Twelve times as many images in a batch: the task and its decode workers reach the same peak."""
    few, many = peaks(tmp_path / "few", 10), peaks(tmp_path / "many", 120)
    assert many["task"] - few["task"] < 24, (few, many)
    assert many["decode worker"] - few["decode worker"] < 24, (few, many)


def peaks(folder: Path, images: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.pipeline.peak_memory", str(folder), str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))
