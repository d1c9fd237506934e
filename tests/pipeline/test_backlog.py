"""Runs that follow one another: a backlog drains without a person, and the chain stops when it should."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from benchmarks.backlog import HOUR, START, Assumptions, simulate
from include.catalog.catalog import Catalog
from include.catalog.records import MadeProxy, NewImage, NewProxy, Outcome, Stage
from include.pipeline.backlog import why_not_continue
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import PipelineParams, parse_params
from include.pipeline.plan import plan_run
from include.pipeline.settings import load_settings
from tests.catalog.migrated import migrated_catalog

LIMIT = 100
JUST_PROXIES = {"stages": ["proxy"]}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = migrated_catalog(tmp_path / "catalog.db")
    yield engine
    engine.dispose()


def test_a_backlog_drains_at_the_speed_of_the_work(engine: Engine) -> None:
    """12 full runs in the first hour rather than in 12; those that failed for a while come later, by their delays."""
    done = simulate(engine, 12 * LIMIT, Assumptions(images_per_second=10), most_hours=24, run_limit=LIMIT)
    assert done.left() == 0
    assert done.listed[:12] == [LIMIT] * 12
    with engine.connect() as connection:
        analysed = "SELECT count(*), count(DISTINCT file_id), min(created_at) FROM image_analyses"
        rows, images, _ = connection.execute(text(analysed)).one()
        early = connection.execute(
            text("SELECT count(*) FROM image_analyses WHERE created_at < :end"), {"end": str(START + 2 * HOUR)[:19]}
        ).scalar_one()
    assert rows == images > 0.95 * 12 * LIMIT
    assert early > 0.95 * 12 * LIMIT


def test_without_following_runs_it_takes_an_hour_a_limit(engine: Engine) -> None:
    assumed = Assumptions(images_per_second=10, follow_at_once=False, transient_ratio=0)
    done = simulate(engine, 3 * LIMIT, assumed, most_hours=24, run_limit=LIMIT)
    assert (done.runs, done.left()) == (3, 0)
    assert done.now > START + 3 * HOUR


# -- when no run follows ---------------------------------------------------------------------------------------------


class Ended:
    """A run over some images, each with a proxy made or put back, and the question whether another follows."""

    def __init__(self, engine: Engine, images: int) -> None:
        self.catalog = Catalog(engine)
        self.settings = load_settings(run_limit=2)
        self.catalog.register(
            [
                NewImage(f"s3://b/{n}.jpg", f"{n}.jpg", "image/jpeg", 10, "v", datetime(2026, 6, 1, n, tzinfo=UTC))
                for n in range(images)
            ]
        )

    def run(self, name: str = "run", run_type: str = "scheduled", outcome: Outcome = Outcome.PROXIED) -> None:
        self.identity = RunIdentity("dag", name, run_type=run_type)
        for batch in self.plan(self.identity):
            claimed = self.catalog.claim_batch(self.identity.run_id, batch, Stage.PROXY, name, 60)
            for item in claimed.items:
                self.decide(name, item.image.file_id, outcome)

    def plan(self, identity: RunIdentity) -> list[int]:
        plan = plan_run(
            *(self.catalog, identity, self.params, self.settings, Window()), nova_endpoint=None, max_batches=10
        )
        return [batch.batch_id for batch in plan.batches]

    def decide(self, owner: str, file_id: int, outcome: Outcome) -> None:
        run_id = self.identity.run_id
        if outcome is Outcome.RETURNED:
            self.catalog.record_return(run_id, owner, file_id, Stage.PROXY, code="throttled", message="later")
            return
        sizes: dict[str, Any] = {"width": 9, "height": 9, "original_width": 9, "original_height": 9}
        amounts: dict[str, Any] = {"original_bytes": 10, "proxy_bytes": 5, "bytes_uploaded": 5, "seconds": 1.0}
        proxy = NewProxy(outcome, "resized", f"s3://p/{file_id}", "jpeg", **sizes, **amounts)
        self.catalog.record_proxies(run_id, owner, [MadeProxy(file_id, proxy)])

    @property
    def params(self) -> PipelineParams:
        return parse_params(JUST_PROXIES)

    def why_not(self) -> str | None:
        return why_not_continue(self.catalog, self.identity, self.params, self.settings)


@pytest.mark.parametrize("run_type", ["scheduled", "asset_triggered"])
def test_a_full_run_that_left_work_is_followed(engine: Engine, run_type: str) -> None:
    ended = Ended(engine, images=3)
    ended.run(run_type=run_type)
    assert ended.why_not() is None


@pytest.mark.parametrize(
    ("images", "run_type", "outcome", "reason"),
    [
        (3, "manual", Outcome.PROXIED, "only runs that nobody started in person"),
        (3, "backfill", Outcome.PROXIED, "only runs that nobody started in person"),
        (1, "scheduled", Outcome.PROXIED, "was not full"),
        (2, "scheduled", Outcome.PROXIED, "nothing is left"),
        (3, "scheduled", Outcome.RETURNED, "no image got an outcome"),
    ],
)
def test_no_run_follows(engine: Engine, images: int, run_type: str, outcome: Outcome, reason: str) -> None:
    ended = Ended(engine, images)
    ended.run(run_type=run_type, outcome=outcome)
    assert reason in str(ended.why_not())


def test_the_run_that_ends_last_is_the_one_that_is_followed(engine: Engine) -> None:
    ended = Ended(engine, images=5)
    other = RunIdentity("dag", "other", run_type="asset_triggered")
    (batch,) = ended.plan(other)
    ended.catalog.claim_batch(other.run_id, batch, Stage.PROXY, "other", 60)
    ended.run()
    assert "another run is at work" in str(ended.why_not())
    ended.catalog.release_run(other.run_id)
    assert ended.why_not() is None


def test_what_waits_for_its_next_try_starts_no_run(engine: Engine) -> None:
    """Full runs, whose images all wait: one an hour, by the schedule, and none in between."""
    done = simulate(engine, 2, Assumptions(10, transient_ratio=1, permanent_ratio=0), most_hours=3, run_limit=2)
    assert done.runs == 3
