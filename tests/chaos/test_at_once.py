"""Two runs by hand and a backfill over the same images at the same time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.distributed.ledger import RUN_SECONDS, Books, Shipment, photograph
from tests.distributed.topology import DAG_ID, Topology

HOURS = 4
DAY = datetime(2026, 1, 5, tzinfo=UTC)  # inside what the schedule covers: a backfill takes its hours one by one

pytestmark = pytest.mark.distributed


def test_two_runs_and_a_backfill(books: Books, topology: Topology) -> None:
    """Six images in each of four hours. Whoever comes second finds them claimed or done; nobody pays twice."""
    pictures = [photograph() for _ in range(6)]
    hours = [DAY + timedelta(hours=hour, minutes=topology.minute) for hour in range(HOURS)]
    ids = [file_id for at in hours for file_id in books.ship(pictures, uploaded_at=at).ids]
    shipment = Shipment(tuple(ids), DAY)
    backfill = {
        "dag_id": DAG_ID,
        "from_date": hours[0].isoformat(),
        "to_date": hours[-1].isoformat(),
        "max_active_runs": 2,
        "reprocess_behavior": "completed",
        "dag_run_conf": {"batch_size": 3},
    }
    answer = topology.client.post("/backfills", json=backfill)
    assert answer.status_code == httpx.codes.OK, answer.text
    runs = [books.trigger(shipment, batch_size=4) for _ in range(2)]
    topology.until(lambda: len(_backfill_runs(topology)) == HOURS, RUN_SECONDS, "the runs of the backfill")
    filled = _backfill_runs(topology)
    for run in [*runs, *filled]:
        assert books.ended(run) == "success", books.tasks(run)
    spans = {run: _span(books.run(run)) for run in [*runs, *filled]}
    assert any(_at_once(*(spans[run] for run in [*runs, hour])) for hour in filled), f"one after the other: {spans}"
    working = [pair for pair in itertools.combinations(spans, 2) if _worked_at_once(books, *pair)]
    assert working, "no two of them were at work on images at the same moment"
    figures = books.check(shipment, [*runs, *filled], in_flight=0)
    books.tell(
        f"two runs and a backfill of four hours at once ({len(working)} pairs of them worked at the same moment): "
        f"{figures}; analysed by {_analysts(books, shipment)}"
    )
    assert figures["image_analyses:analysed"] == figures["answers"] == len(ids)


def _backfill_runs(topology: Topology) -> list[str]:
    answer = topology.client.get(f"/dags/{DAG_ID}/dagRuns", params={"run_type": "backfill"})
    return [run["dag_run_id"] for run in answer.raise_for_status().json()["dag_runs"]]


def _span(of: Mapping[str, Any]) -> tuple[str, str]:
    """When a run or a task began and ended, in a form that sorts by time."""
    return of["start_date"], of["end_date"]


def _at_once(*spans: tuple[str, str]) -> bool:
    """Whether there was a moment that lies in each of the spans."""
    return max(start for start, _ in spans) < min(end for _, end in spans)


def _worked_at_once(books: Books, one: str, other: str) -> bool:
    """Whether a batch of one run was worked on beside one of the other; a run that found nothing to do has none."""
    mine, theirs = (
        [_span(task) for task in books.tasks(run) if task["task_id"].startswith("images.") and task["start_date"]]
        for run in (one, other)
    )
    return any(_at_once(*pair) for pair in itertools.product(mine, theirs))


def _analysts(books: Books, shipment: Shipment) -> dict[str, int]:
    """How many of the analyses each run wrote."""
    query = "SELECT run_id, count(*) AS n FROM image_analyses WHERE file_id BETWEEN :a AND :b GROUP BY run_id"
    rows = books.rows(query, a=shipment.ids[0], b=shipment.ids[-1])
    return {row.run_id.removeprefix(f"{DAG_ID}/"): row.n for row in rows}
