"""How a backlog of 1,000,000 images drains without a person: the real catalog and planner, in simulated time.

Run with ``python -m benchmarks.backlog`` (some minutes); the last result is in `results/backlog.md`. Registration,
selection, limits, the failure ledger and the decision whether a run follows at once are the deployed code on SQLite.
Simulated are the clock, Airflow (a scheduled run each hour, a follow-up run when the decision says so, one after the
other, each with a fixed overhead) and the work itself: rows are written as the stages would write them, at a rate that
is an assumption and no measurement.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select, text, update

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate
from include.catalog.records import NewImage
from include.catalog.results import retry_delay
from include.catalog.store import chunks
from include.catalog.tables import image_analyses, image_proxies, image_run_items
from include.pipeline.backlog import why_not_continue
from include.pipeline.identity import RunIdentity, window_of
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, work_key
from include.pipeline.settings import Settings, load_settings

RESULTS = Path(__file__).parent / "results" / "backlog.md"
START = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN_OVERHEAD = timedelta(seconds=20)  # from one run's end to the first image of the next, on two cores
MAX_BATCHES = 1024


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the simulation takes for granted."""

    images_per_second: float
    follow_at_once: bool = True
    transient_ratio: float = 0.02
    permanent_ratio: float = 0.01
    uploads_an_hour: int = 0  # pictures that arrive meanwhile


@dataclass
class Simulation:
    """One deployment in simulated time; `now` is its clock."""

    engine: Engine
    settings: Settings
    assumed: Assumptions
    now: datetime = START
    runs: int = 0
    listed: list[int] = field(default_factory=list)
    _next_hour: datetime = START + HOUR
    _chance: random.Random = field(default_factory=lambda: random.Random(2))  # noqa: S311 - no secret

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.engine, clock=lambda: self.now)
        self.params = parse_params({})

    def upload(self, count: int, uploaded_at: datetime) -> None:
        """Register pictures, one a second from this time on."""
        named = f"{uploaded_at:%Y%m%d%H%M%S}"
        images = (
            NewImage(
                uri=f"s3://archive/{named}/{number}.jpg",
                filename=f"{number}.jpg",
                media_type="image/jpeg",
                size_bytes=3_000_000,
                content_version="1",
                uploaded_at=uploaded_at + timedelta(seconds=number),
                format="jpeg",
                resolution_width=4000,
                resolution_height=3000,
            )
            for number in range(count)
        )
        for some in chunks(list(images), 20_000):
            self.catalog.register(some)

    def drain(self, most_hours: int) -> None:
        """Run until nothing is left that is not given up, or this many hours have passed."""
        until = self.now + most_hours * HOUR
        follow = False
        while self.now < until and (follow or self.left()):
            if not follow and self.now < self._next_hour:
                self.now = self._next_hour
            if self.now >= self._next_hour:
                self._hour_passes()
                run_type = "scheduled"
            else:
                run_type = "asset_triggered"
            follow = self._run(run_type) and self.assumed.follow_at_once

    def left(self) -> int:
        """Images of the backlog without an analysis that are not given up."""
        query = (
            "SELECT count(*) FROM files f WHERE NOT f.is_proxy AND f.uploaded_at < :start "
            "AND NOT EXISTS (SELECT 1 FROM image_analyses a WHERE a.file_id = f.id AND a.superseded_at IS NULL) "
            "AND NOT EXISTS (SELECT 1 FROM image_proxies p WHERE p.file_id = f.id AND p.superseded_at IS NULL "
            "AND p.status = 'failed' AND p.next_try_at IS NULL)"
        )
        with self.engine.connect() as connection:
            return int(connection.execute(text(query), {"start": str(START)[:19]}).scalar_one())

    def _hour_passes(self) -> None:
        while self._next_hour <= self.now:
            if self.assumed.uploads_an_hour:
                self.upload(self.assumed.uploads_an_hour, self._next_hour - HOUR)
            self._next_hour += HOUR

    def _run(self, run_type: str) -> bool:
        """One run from its plan to its decision; return whether another follows at once."""
        self.runs += 1
        identity = RunIdentity("simulated", f"run {self.runs}", run_type=run_type)
        window = window_of(run_type, None, self._next_hour - HOUR, self.now)
        self.now += RUN_OVERHEAD
        plan_run(
            self.catalog,
            identity,
            self.params,
            self.settings,
            window,
            nova_endpoint="stand-in",
            max_batches=MAX_BATCHES,
        )
        ids = self._members(identity.run_id)
        self.listed.append(len(ids))
        self.now += timedelta(seconds=len(ids) / self.assumed.images_per_second)
        self._decide(identity.run_id, ids)
        self.catalog.finish_run(identity.run_id)
        return why_not_continue(self.catalog, identity, self.params, self.settings) is None

    def _members(self, run_id: str) -> list[int]:
        query = select(image_run_items.c.file_id).where(image_run_items.c.run_id == run_id)
        with self.engine.connect() as connection:
            return list(connection.scalars(query.order_by(image_run_items.c.file_id)))

    def _decide(self, run_id: str, ids: list[int]) -> None:
        """Write what the stages would have written, many rows at once."""
        tried = self._tried(ids)
        dice = {file_id: self._chance.random() for file_id in ids}
        bad = [
            file_id for file_id in ids if dice[file_id] < self.assumed.transient_ratio + self.assumed.permanent_ratio
        ]
        good = sorted(set(ids) - set(bad))
        item = image_run_items.c
        with self.engine.begin() as connection:
            _supersede(connection, ids, self.now)
            self._insert(connection, run_id, good, bad, dice, tried)
            for some in chunks(good):
                these = (item.run_id == run_id, item.file_id.in_(some))
                values = {"proxy_outcome": "proxied", "analysis_outcome": "analysed"}
                connection.execute(update(image_run_items).where(*these).values(values))
            for some in chunks(bad):
                these = (item.run_id == run_id, item.file_id.in_(some))
                connection.execute(update(image_run_items).where(*these).values(proxy_outcome="failed"))

    def _tried(self, ids: list[int]) -> dict[int, int]:
        p = image_proxies.c
        found: dict[int, int] = {}
        with self.engine.connect() as connection:
            for some in chunks(ids):
                query = select(p.file_id, p.attempts).where(p.file_id.in_(some), p.superseded_at.is_(None))
                found.update({row.file_id: row.attempts for row in connection.execute(query)})
        return found

    def _insert(
        self,
        connection: Connection,
        run_id: str,
        good: list[int],
        bad: list[int],
        dice: dict[int, float],
        tried: dict[int, int],
    ) -> None:
        key = work_key(self.params, self.settings)
        own = {"content_version": "1", "recipe_version": key.recipe_version, "run_id": run_id, "created_at": self.now}
        with_key = own | {"model_id": key.model_id, "prompt_version": key.prompt_version}
        proxies = [{"file_id": file_id, "status": "proxied", "attempts": 1} for file_id in good]
        analyses = [{"file_id": file_id, "status": "analysed", "attempts": 1} for file_id in good]
        failed = []
        for file_id in bad:
            attempts = tried.get(file_id, 0) + 1
            again = dice[file_id] < self.assumed.transient_ratio and attempts < self.settings.max_attempts
            next_try = self.now + retry_delay(attempts) if again else None
            failed.append({"file_id": file_id, "status": "failed", "attempts": attempts, "next_try_at": next_try})
        for table, rows, common in (
            (image_proxies, proxies, own),
            (image_analyses, analyses, with_key),
            (image_proxies, failed, own),
        ):
            if rows:
                connection.execute(insert(table), [common | row for row in rows])


def _supersede(connection: Connection, ids: list[int], now: datetime) -> None:
    for some in chunks(ids):
        current = (image_proxies.c.file_id.in_(some), image_proxies.c.superseded_at.is_(None))
        connection.execute(update(image_proxies).where(*current).values(superseded_at=now))


PAGE = """\
# A backlog of {backlog:,} images, in simulated time

Made by `python -m benchmarks.backlog`: the deployed catalog and planner on SQLite, with the default limit of 10,000
images a run. Simulated are the clock, Airflow's scheduling (20 s between runs) and the images' own work, at a rate that
is an assumption: what Nova's quota and the workers give. 2 % of the tries fail for a while, 1 % for good. No person
does anything.

| images/s of work | a full run is followed | uploads an hour meanwhile | runs \
| hours to 95 % of the backlog | analyses an hour until then | hours to the last | analysed \
| given up | analysed twice | left | seconds to simulate |
|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}

If a full run waited for the next hour, the default limit would be the rate: 10,000 an hour, 100 hours for 1,000,000.
The last image is one that failed for a while and waited for its next try, up to 4.5 hours.
"""


def simulate(engine: Engine, backlog: int, assumed: Assumptions, most_hours: int, **settings: int) -> Simulation:
    """Register a backlog that was uploaded before the start, and let it drain."""
    simulation = Simulation(engine, load_settings(**settings), assumed)
    simulation.upload(backlog, START - timedelta(seconds=backlog))
    simulation.drain(most_hours)
    return simulation


def main() -> None:
    """Simulate two deployments and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    backlog = parser.parse_args().backlog
    rows = []
    for assumed in (Assumptions(50), Assumptions(5, uploads_an_hour=1000)):
        rows.append(_row(backlog, assumed))
        print(rows[-1], flush=True)
        RESULTS.write_text(PAGE.format(backlog=backlog, rows="\n".join(rows)), encoding="utf-8")


def _row(backlog: int, assumed: Assumptions) -> str:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        engine = create_catalog_engine(f"sqlite:///{folder}/catalog.db")
        migrate(engine)
        done = simulate(engine, backlog, assumed, most_hours=1000)
        hours = (done.now - START) / HOUR
        with engine.connect() as connection:
            twice = connection.execute(
                text("SELECT count(*) FROM (SELECT file_id FROM image_analyses GROUP BY file_id HAVING count(*) > 1)")
            ).scalar_one()
            images = connection.execute(text("SELECT count(*) FROM image_analyses")).scalar_one()
            in_order = select(image_analyses.c.created_at).order_by(image_analyses.c.created_at)
            most = (connection.execute(in_order.offset(backlog * 95 // 100).limit(1)).scalar_one() - START) / HOUR
            given_up = done.catalog.ledger_counts(work_key(done.params, done.settings)).given_up
        left = done.left()
        engine.dispose()
    cells = [
        f"{assumed.images_per_second:g}",
        "at once" if assumed.follow_at_once else "next hour",
        f"{assumed.uploads_an_hour:,}",
        str(done.runs),
        f"{most:.1f}",
        f"{backlog * 0.95 / most:,.0f}",
        f"{hours:.1f}",
        f"{images:,}",
        f"{given_up:,}",
        *(str(twice), str(left), f"{time.monotonic() - started:.0f}"),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
