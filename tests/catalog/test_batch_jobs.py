"""Batch jobs in the catalog, on both databases: what a second reader of the same answers may not write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError

from include.catalog.catalog import Catalog
from include.catalog.errors import LeaseLost
from include.catalog.records import BatchJob, Failure, JobState, Outcome, PlannedBatch
from include.catalog.tables import image_analyses, image_attempts, image_claims
from tests.catalog.conftest import Clock
from tests.catalog.making import ANALYSE, PROXY, Worker, add, analysis, call, listed, new_proxy, plan, process

HOUR = 3600
REFUSED = Failure("validation", "The provided image cannot be processed")


class Job:
    """A job over some images whose proxies are there."""

    def __init__(self, catalog: Catalog, clock: Clock, count: int = 3, run: str = "batch") -> None:
        self.catalog, self.clock = catalog, clock
        self.ids = add(catalog, count)
        process(catalog, "proxies", *self.ids, stages=frozenset({PROXY}))
        self.run_id = f"dag/{run}"
        catalog.store_plan(plan(run, self.ids, stages={ANALYSE}))
        self.job = self.store(token="first")
        catalog.claim_batch(self.run_id, 0, ANALYSE, self.job.owner, HOUR)
        self.job = catalog.move_job(self.job, JobState.STARTING, records=count)

    def store(self, number: int = 1, *, token: str) -> BatchJob:
        job = self.catalog.store_job(
            self.run_id, 0, number, token=token, owner=f"job-{token}", folder="s3://bucket/folder"
        )
        return job

    def call(self, **changes: Any) -> Any:
        return call(tier="batch", started_at=self.job.started_at, **changes)

    def answer(self, file_id: int) -> None:
        self.catalog.record_answer(self.job, file_id, analysis(), self.call())

    def refuse(self, file_id: int, outcome: Outcome = Outcome.FAILED) -> None:
        called = self.call(code="validation", input_tokens=0, output_tokens=0)
        self.catalog.record_refusal(self.job, file_id, outcome=outcome, failure=REFUSED, call=called)

    def outcomes(self) -> dict[int, tuple[Outcome | None, str | None]]:
        return {image.file_id: (image.outcome, image.code) for image in self.catalog.run_images(self.run_id)}


@pytest.fixture
def job(catalog: Catalog, clock: Clock) -> Iterator[Job]:
    yield Job(catalog, clock)


def count(engine: Engine, table: Any, *where: Any) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())


def calls(engine: Engine) -> int:
    return count(engine, image_attempts, image_attempts.c.called)


def test_an_answer_that_is_read_again_is_written_once(job: Job, engine: Engine) -> None:
    for _ in range(2):
        job.answer(job.ids[0])
        job.refuse(job.ids[1])
        job.refuse(job.ids[2], Outcome.RETURNED)
    assert calls(engine) == 3
    assert count(engine, image_analyses) == 2
    assert list(job.outcomes().values()) == [
        (Outcome.ANALYSED, None),
        (Outcome.FAILED, "validation"),
        (Outcome.RETURNED, "validation"),
    ]
    assert count(engine, image_claims) == 0


def test_the_rest_is_pending_again_and_what_was_decided_stays(job: Job, engine: Engine) -> None:
    job.answer(job.ids[0])
    assert listed(job.catalog, stages={ANALYSE}) == []
    assert job.catalog.return_rest(job.job, code="job_expired", message="too late") == 2
    assert listed(job.catalog, stages={ANALYSE}) == job.ids[1:]
    assert job.outcomes()[job.ids[1]] == (Outcome.RETURNED, "job_expired")
    assert job.catalog.job_outcomes(job.job) == {"analysed": 1, "returned": 2}
    assert job.catalog.return_rest(job.job, code="again", message="") == 0
    assert count(engine, image_claims) == 0


def test_a_late_reader_takes_nothing_from_the_next_job_of_the_batch(job: Job, engine: Engine) -> None:
    job.catalog.return_rest(job.job, code="job_failed", message="")
    second = job.store(number=2, token="second")
    job.catalog.claim_batch(job.run_id, 0, ANALYSE, second.owner, HOUR)
    assert job.catalog.return_rest(job.job, code="job_failed", message="") == 0
    assert count(engine, image_claims, image_claims.c.owner == second.owner) == 3


def test_an_answer_after_the_lease_is_kept_unless_another_has_written_one(
    job: Job, clock: Clock, engine: Engine
) -> None:
    clock.forward(2 * HOUR)
    first, second, third = job.ids
    job.catalog.store_plan(plan("other", [first], [second], stages={ANALYSE}))
    other = Worker(job.catalog, "other", ANALYSE, 0)
    other.analyse(first, "the other's")
    Worker(job.catalog, "other", ANALYSE, 1)  # and is at work on the second
    with pytest.raises(LeaseLost):
        job.answer(first)
    job.answer(first)  # read again: known, and no error
    job.answer(second)
    job.answer(third)
    assert calls(engine) == 4
    assert job.catalog.current(first)["description"] == "the other's"  # type: ignore[index]
    assert job.outcomes()[second] == (Outcome.ANALYSED, None)
    job.catalog.return_rest(job.job, code="no_answer", message="")
    assert job.outcomes()[first] == (Outcome.RETURNED, "no_answer")


def test_a_refusal_after_the_lease_decides_nothing(job: Job, clock: Clock, engine: Engine) -> None:
    clock.forward(2 * HOUR)
    job.catalog.store_plan(plan("other", [job.ids[0]], stages={ANALYSE}))
    Worker(job.catalog, "other", ANALYSE).analyse(job.ids[0])
    job.refuse(job.ids[0])
    assert (calls(engine), count(engine, image_analyses)) == (2, 1)


def test_a_token_is_stored_once(job: Job) -> None:
    with pytest.raises(IntegrityError):
        job.store(number=2, token="first")
    with pytest.raises(IntegrityError):
        job.store(number=1, token="another")
    assert job.catalog.latest_job(job.run_id, 0) == job.job
    assert job.catalog.latest_job(job.run_id, 1) is None


def test_open_jobs_are_those_that_bedrock_may_have(job: Job) -> None:
    assert job.catalog.open_jobs() == [job.job]
    waiting = job.catalog.move_job(job.job, JobState.WAITING, job_arn="arn", status="Submitted")
    assert job.catalog.open_jobs() == [waiting]
    assert (waiting.started_at, waiting.job_arn) == (job.clock.now, "arn")
    job.catalog.move_job(waiting, JobState.JOINED)
    assert job.catalog.open_jobs() == []


def test_the_proxies_of_a_job_are_those_of_its_start(job: Job, clock: Clock) -> None:
    first = job.ids[0]
    clock.forward(1)
    job.catalog.store_plan(plan("again", [first], stages={PROXY}, force=True))
    clock.forward(2 * HOUR)
    Worker(job.catalog, "again", PROXY).proxy(first, new_proxy(uri="s3://proxies/later.jpg", width=99))
    sent = job.catalog.sent_proxies(job.job, job.ids)
    assert {file_id: proxy.uri for file_id, proxy in sent.items()} == {n: f"s3://proxies/{n}.jpg" for n in job.ids}
    later = replace(job.job, started_at=clock.now + timedelta(seconds=1))
    assert job.catalog.sent_proxies(later, [first])[first].width == 99


def test_planned_batches_come_in_order(catalog: Catalog) -> None:
    ids = add(catalog, 5)
    stored = catalog.store_plan(plan("batch", ids[:3], ids[3:]))
    assert catalog.planned_batches("dag/batch") == stored == (PlannedBatch(0, 3), PlannedBatch(1, 2))
    assert catalog.planned_batches("dag/unknown") == ()
