"""An S3 server that answers 500 or 503, stalls, or garbles bytes on their way: four runs at once, a fault each."""

from __future__ import annotations

import pytest

from tests.distributed.ledger import Books, Shipment, photograph
from tests.distributed.s3_proxy import Fault
from tests.distributed.topology import Topology

IMAGES = 10

pytestmark = pytest.mark.distributed

FAULTS = {
    # Every second upload and download is refused: the client's own retries get through.
    "status500-": [Fault("PUT", status=500, every=2, times=12), Fault("GET", status=500, every=2, times=6)],
    # More than the client tries: the task fails and is retried, images that are done stay done.
    "status503-": [Fault("PUT", status=503, code="SlowDown", times=40)],
    "slow-": [Fault("PUT", delay_seconds=2, every=3), Fault("GET", delay_seconds=2, every=3)],
    "corrupt-": [Fault("PUT", corrupt=True, times=3), Fault("GET", corrupt=True, times=3)],
}


@pytest.fixture(scope="module")
def suffered(books: Books, topology: Topology) -> dict[str, tuple[Shipment, list[str]]]:
    """A shipment for each fault, and the runs that it took."""
    pictures = [photograph() for _ in range(4)]
    shipments = {label: books.ship([pictures[number % 4] for number in range(IMAGES)], label=label) for label in FAULTS}
    for label, faults in FAULTS.items():
        for fault in faults:
            fault.key_contains = label
    with topology.proxy.suffering(*(fault for faults in FAULTS.values() for fault in faults)):
        first = {label: books.trigger(shipment, batch_size=5) for label, shipment in shipments.items()}
        for run in first.values():
            books.ended(run)
    return {label: (shipment, books.settle(shipment, first[label])) for label, shipment in shipments.items()}


@pytest.mark.parametrize("label", FAULTS)
def test_nothing_is_lost_doubled_or_half_written(
    books: Books, suffered: dict[str, tuple[Shipment, list[str]]], label: str
) -> None:
    shipment, runs = suffered[label]
    hit = [(fault.method, fault.hit) for fault in FAULTS[label]]
    figures = books.check(shipment, runs, in_flight=0)
    tries = max(item["try_number"] for run in runs for item in books.tasks(run))
    books.tell(f"S3 {label} {hit}: runs {[books.state(run) for run in runs]}, at most {tries} tries, {figures}")
    assert all(count for _, count in hit), "the fault never struck"
    assert figures["image_proxies:proxied"] == figures["image_analyses:analysed"] == IMAGES
    assert tries > 1 or label != "status503-"


def test_a_corrupted_upload_is_refused_by_its_checksum(suffered: dict[str, tuple[Shipment, list[str]]]) -> None:
    """The server was sent our SHA-256 with other bytes: had it kept them, the object would differ from its row."""
    corrupted = FAULTS["corrupt-"][0]
    assert len(corrupted.answers) == corrupted.hit == 3
    assert min(corrupted.answers) >= 400
