"""Proxies are written in groups: each image keeps an outcome of its own, and nothing that was made is left unsaid."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from include.catalog.catalog import Catalog
from include.catalog.records import MadeProxy, Outcome, RecordedProxies, Stage
from include.pipeline import recording
from include.pipeline.recording import GROUP_IMAGES, ProxyRecorder
from include.pipeline.telemetry import NO_METRICS
from tests.catalog.making import new_proxy
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground


class CatalogOfGroups:
    """Takes groups as a catalog does, and keeps them; can be told to be away, or to hold the writer up."""

    def __init__(self, error: Exception | None = None) -> None:
        self.groups: list[list[int]] = []
        self.error, self.open = error, threading.Event()
        self.open.set()

    def record_proxies(self, _run_id: str, _owner: str, made: list[MadeProxy]) -> RecordedProxies:
        assert self.open.wait(60)
        self.groups.append([one.file_id for one in made])
        if self.error is not None:
            raise self.error
        return RecordedProxies(frozenset(self.groups[-1]), frozenset(), {})


def recorder(catalog: Any) -> ProxyRecorder:
    return ProxyRecorder(catalog, "dag/run", "owner", NO_METRICS)


def made(file_id: int) -> MadeProxy:
    return MadeProxy(file_id, new_proxy(uri=f"s3://proxies/{file_id}.jpg"))


def test_what_is_made_while_a_group_is_written_goes_into_one_transaction() -> None:
    catalog = CatalogOfGroups()
    catalog.open.clear()
    with recorder(catalog) as recording_:
        for file_id in range(2 * GROUP_IMAGES):
            recording_.add(made(file_id), time.monotonic())
        catalog.open.set()
    assert [len(group) for group in catalog.groups] == [GROUP_IMAGES, GROUP_IMAGES]
    assert [file_id for group in catalog.groups for file_id in group] == list(range(2 * GROUP_IMAGES))
    assert recording_.counts == {Outcome.PROXIED: 2 * GROUP_IMAGES}


def test_an_image_does_not_wait_for_a_full_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's slow images are written while others are still being made, so that progress is seen and kept."""
    monkeypatch.setattr(recording, "GROUP_SECONDS", 0.01)
    written = threading.Event()

    class Telling(CatalogOfGroups):
        def record_proxies(self, *arguments: Any) -> RecordedProxies:
            done = super().record_proxies(*arguments)
            written.set()
            return done

    with recorder(Telling()) as recording_:
        recording_.add(made(1), time.monotonic())
        assert written.wait(60)


def test_a_catalog_that_is_away_stops_the_batch_at_its_next_image() -> None:
    catalog = CatalogOfGroups(ConnectionError("the database is away"))

    def keep_adding() -> None:
        with recorder(catalog) as recording_:
            for file_id in range(100 * GROUP_IMAGES):
                recording_.add(made(file_id), time.monotonic())

    with pytest.raises(ConnectionError):
        keep_adding()
    assert len(catalog.groups) == 1


def test_a_catalog_that_is_away_for_the_last_group_is_said_too() -> None:
    catalog = CatalogOfGroups(ConnectionError("the database is away"))

    def add_one() -> None:
        with recorder(catalog) as recording_:
            recording_.add(made(1), time.monotonic())

    with pytest.raises(ConnectionError):
        add_one()


def test_a_cancelled_batch_writes_what_it_had_made(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    held = ground.catalog.claim_batch(ground.run_id, batch, Stage.PROXY, "owner", 60)

    def cancelled() -> None:
        with ProxyRecorder(ground.catalog, ground.run_id, "owner", NO_METRICS) as recording_:
            recording_.add(made(held.items[0].image.file_id), time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert ground.images()["a.jpg"].outcome is Outcome.PROXIED


def test_a_batch_is_written_in_fewer_transactions_than_it_has_images(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        photograph(ground.pictures / f"{number}.jpg", 1300, 1000)
    groups: list[int] = []
    record = Catalog.record_proxies

    def counted(self: Catalog, run_id: str, owner: str, entries: list[MadeProxy]) -> RecordedProxies:
        groups.append(len(entries))
        return record(self, run_id, owner, entries)

    monkeypatch.setattr(Catalog, "record_proxies", counted)
    monkeypatch.setattr(recording, "GROUP_SECONDS", 60)
    images = ground.make_proxies()
    assert groups == [8]
    assert {image.outcome for image in images.values()} == {Outcome.PROXIED}
