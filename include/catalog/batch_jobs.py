"""Batch inference jobs: stored before Bedrock hears of them, so that whoever comes after a crash finds them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import and_, delete, exists, func, insert, not_, select, update

from include.catalog.claims import PROXY_COLUMNS, proxy_record
from include.catalog.records import BatchJob, JobState, Outcome, PlannedBatch, ProxyRecord
from include.catalog.runs import load_run
from include.catalog.store import Store, chunks, proxy_key
from include.catalog.tables import image_batch_jobs, image_claims, image_proxies, image_run_items

_job = image_batch_jobs.c
_item = image_run_items.c
_COLUMNS = tuple(_job[{"job_id": "id"}.get(field.name, field.name)] for field in fields(BatchJob))

# Bedrock may have such a job, and nobody has read its answers.
OPEN = (JobState.STARTING.value, JobState.WAITING.value)
_TIMES = {JobState.STARTING: "started_at", JobState.JOINED: "joined_at"}


def planned_batches(store: Store, run_id: str) -> tuple[PlannedBatch, ...]:
    """The batches of a stored run, in the order of their ids."""
    query = select(_item.batch_id, func.count()).where(_item.run_id == run_id)
    with store.reading() as connection:
        rows = connection.execute(query.group_by(_item.batch_id).order_by(_item.batch_id))
        return tuple(PlannedBatch(int(batch_id), int(size)) for batch_id, size in rows)


def latest_job(store: Store, run_id: str, batch_id: int) -> BatchJob | None:
    """The batch's job with the highest number."""
    query = select(*_COLUMNS).where(_job.run_id == run_id, _job.batch_id == batch_id).order_by(_job.number.desc())
    with store.reading() as connection:
        row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _record(row)


def store_job(
    store: Store, run_id: str, batch_id: int, number: int, *, token: str, owner: str, folder: str
) -> BatchJob:
    """A new row in state `preparing`. Of two who store the same job one fails by its unique token."""
    values = {
        "run_id": run_id,
        "batch_id": batch_id,
        "number": number,
        "client_request_token": token,
        "owner": owner,
        "folder": folder,
        "state": JobState.PREPARING.value,
        "created_at": store.now(),
    }
    with store.writing() as connection:
        return _record(connection.execute(insert(image_batch_jobs).values(values).returning(*_COLUMNS)).one())


def update_job(store: Store, job: BatchJob, **values: Any) -> BatchJob:
    """Columns of one row."""
    with store.writing() as connection:
        changed = update(image_batch_jobs).where(_job.id == job.job_id).values(values)
        return _record(connection.execute(changed.returning(*_COLUMNS)).one())


def move_job(store: Store, job: BatchJob, state: JobState, **values: Any) -> BatchJob:
    """The next state, and when it was reached where the table has a column for that."""
    moment = {_TIMES[state]: store.now()} if state in _TIMES else {}
    return update_job(store, job, state=state.value, **moment, **values)


def open_jobs(store: Store) -> list[BatchJob]:
    """Open jobs of all runs, oldest first."""
    query = select(*_COLUMNS).where(_job.state.in_(OPEN)).order_by(_job.id)
    with store.reading() as connection:
        return [_record(row) for row in connection.execute(query)]


def sent_proxies(store: Store, job: BatchJob, file_ids: Sequence[int]) -> dict[int, ProxyRecord]:
    """For each image the newest proxy that existed when the job was asked for, whether it is current still or not."""
    p = image_proxies.c
    found: dict[int, ProxyRecord] = {}
    with store.reading() as connection:
        run = load_run(connection, job.run_id)
        same = and_(proxy_key(_item.file_id, _item.content_version, run.key), p.status != Outcome.FAILED.value)
        for ids in chunks(file_ids):
            query = (
                select(*PROXY_COLUMNS)
                .select_from(image_run_items.join(image_proxies, same))
                .where(
                    _item.run_id == job.run_id,
                    _item.file_id.in_(ids),
                    p.created_at <= (job.started_at or job.created_at),
                )
                .order_by(p.id)
            )
            found.update((record.file_id, record) for record in map(proxy_record, connection.execute(query)))
    return found


def return_rest(store: Store, job: BatchJob, *, code: str, message: str) -> int:
    """Every image of the job's batch that has no outcome goes back to pending, free for others at once.

    Those that a later job of the same batch holds by now are its own.
    """
    claim = image_claims.c
    another = exists().where(claim.file_id == _item.file_id, claim.run_id == job.run_id, claim.owner != job.owner)
    values = {
        "analysis_outcome": Outcome.RETURNED.value,
        "analysis_code": code,
        "analysis_message": message,
        "analysis_decided_at": store.now(),
    }
    held = select(claim.file_id).where(claim.owner == job.owner).order_by(claim.file_id)
    undecided = [_item.run_id == job.run_id, _item.batch_id == job.batch_id, _item.analysis_outcome.is_(None)]
    with store.writing() as connection:
        connection.execute(held.with_for_update()).all()
        returned = connection.execute(update(image_run_items).where(*undecided, not_(another)).values(values)).rowcount
        connection.execute(delete(image_claims).where(claim.owner == job.owner))
    return returned


def job_outcomes(store: Store, job: BatchJob) -> dict[str, int]:
    """Counts of the batch's items by outcome of the analysis."""
    query = select(_item.analysis_outcome, func.count()).where(
        _item.run_id == job.run_id, _item.batch_id == job.batch_id, _item.analysis_outcome.is_not(None)
    )
    with store.reading() as connection:
        rows = connection.execute(query.group_by(_item.analysis_outcome).order_by(_item.analysis_outcome))
        return {str(outcome): int(count) for outcome, count in rows}


def _record(row: Any) -> BatchJob:
    record = BatchJob(*row)
    return replace(record, state=JobState(record.state))
