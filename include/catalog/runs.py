"""A run's plan, stored: the run, its items, their batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    select,
    true,
    update,
)

from include.catalog.errors import UnknownImages, UnknownRun
from include.catalog.records import Outcome, PlannedBatch, RunPlan, Stage, WorkKey
from include.catalog.store import Store, among, chunks, upsert
from include.catalog.tables import files, image_run_items, image_runs

# An item has the same columns for both stages, after these names.
COLUMNS_OF = {Stage.PROXY: "proxy", Stage.ANALYSE: "analysis"}
GOOD = frozenset({Outcome.PROXIED, Outcome.KEPT, Outcome.ANALYSED})
_RUN = select(image_runs).where(
    image_runs.c.run_id == bindparam("of_run")
)  # made once: each request to Nova asks for it
ENDED = (Outcome.FAILED.value, Outcome.RETURNED.value)  # at the proxy stage: there is no later one

_NO_OUTCOMES: dict[str, object] = {column.name: None for column in image_run_items.c}


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run."""

    run_id: str
    key: WorkKey
    stages: frozenset[Stage]
    force: bool
    force_proxies: bool = False  # under force: redo the proxies too, not only what they are made for
    forced_at: datetime | None = None


def load_run(connection: Connection, run_id: str) -> Run:
    """The run, or UnknownRun."""
    row = connection.execute(_RUN, {"of_run": run_id}).one_or_none()
    if row is None:
        raise UnknownRun(run_id)
    stages = frozenset(Stage(name) for name in row.stages.split(","))
    asked = row.params.get("stages", [Stage.PROXY])  # `stages` may hold one that was added to what was asked for
    return Run(run_id, _key(row), stages, row.force, row.force and Stage.PROXY in asked, row.forced_at)


def stored_run(store: Store, run_id: str) -> Run | None:
    """The run, None where none is stored."""
    with store.reading() as connection:
        try:
            return load_run(connection, run_id)
        except UnknownRun:
            return None


def redone(table: Table, run: Run) -> ColumnElement[bool]:
    """Rows of `image_proxies` or `image_analyses` that a forced run wrote since it was forced."""
    since = true() if run.forced_at is None else table.c.created_at >= run.forced_at
    return and_(table.c.run_id == run.run_id, since)


def final_outcome(stages: frozenset[Stage]) -> ColumnElement[str | None]:
    """An item's outcome at its furthest stage; null while one is missing."""
    item = image_run_items.c
    if Stage.ANALYSE not in stages:
        return item.proxy_outcome
    if Stage.PROXY not in stages:
        return item.analysis_outcome
    return case((item.proxy_outcome.in_(ENDED), item.proxy_outcome), else_=item.analysis_outcome)


def store_plan(store: Store, plan: RunPlan) -> tuple[PlannedBatch, ...]:
    """Writes the run and its items in one transaction and returns the batches for the tasks to work on.

    Called again for the same run (the plan task was retried, or the run cleared), it keeps what was decided: an image
    planned again keeps the stages that went well and is undecided at the others; an image not planned again keeps its
    outcomes, and leaves the run if it had none. Batch ids continue, so an old task can never work on a new batch.
    """
    now = store.now()
    planned = [file_id for batch in plan.batches for file_id in batch]
    with store.writing() as connection:
        contents = _contents(connection, planned)
        before = connection.execute(select(image_runs).where(image_runs.c.run_id == plan.run_id)).one_or_none()
        _write_run(connection, plan, before, now)
        items = _items(connection, plan.run_id)
        _let_go(connection, plan, [item for item in items.values() if item.file_id not in contents], now)
        for ids in chunks([file_id for file_id in planned if file_id in items]):
            connection.execute(delete(image_run_items).where(*_these(connection, plan.run_id, ids)))
        first = max((item.batch_id for item in items.values()), default=-1) + 1
        batches = [batch for batch in plan.batches if batch]
        rows = [
            _row(plan, first + number, file_id, contents[file_id], _kept(plan, before, items.get(file_id), contents))
            for number, batch in enumerate(batches)
            for file_id in batch
        ]
        if rows:
            connection.execute(insert(image_run_items), rows)
    return tuple(PlannedBatch(first + number, len(batch)) for number, batch in enumerate(batches))


def finish_run(store: Store, run_id: str, note: str | None = None) -> None:
    """Marks the run as ended; `note` says why it did less than planned (a cost limit, a cancellation)."""
    with store.writing() as connection:
        load_run(connection, run_id)
        connection.execute(
            update(image_runs).where(image_runs.c.run_id == run_id).values(finished_at=store.now(), note=note)
        )


def latest_run_id(store: Store, dag_id: str) -> str | None:
    """The run of this DAG that was planned last."""
    runs = image_runs.c
    newest = select(runs.run_id).where(runs.dag_id == dag_id).order_by(runs.started_at.desc(), runs.run_id.desc())
    with store.reading() as connection:
        return connection.scalar(newest.limit(1))


def is_stored(store: Store, run_id: str) -> bool:
    """Whether a plan with images was stored for the run."""
    with store.reading() as connection:
        return bool(connection.scalar(select(exists().where(image_run_items.c.run_id == run_id))))


def is_same_request(store: Store, run_id: str, run_type: str | None, params: Mapping[str, Any]) -> bool:
    """Whether the run was last planned with these params and started in this way.

    A task that is retried or cleared asks for the same again. A backfill that reprocesses an interval does it under the
    run's old name, and asks for something else.
    """
    c = image_runs.c
    with store.reading() as connection:
        row = connection.execute(select(c.run_type, c.params).where(c.run_id == run_id)).one_or_none()
    return row is not None and row.run_type == run_type and dict(row.params) == dict(params)


def mapped_batches(store: Store, run_id: str) -> int:
    """The most batches that one planning of the run handed to Airflow; 0 before the first."""
    with store.reading() as connection:
        return connection.scalar(select(image_runs.c.mapped_batches).where(image_runs.c.run_id == run_id)) or 0


def run_stages(store: Store, run_id: str) -> frozenset[Stage]:
    """The stages that the run goes through: those that were asked for, and what these need."""
    with store.reading() as connection:
        return load_run(connection, run_id).stages


def run_params(store: Store, run_id: str) -> dict[str, Any]:
    """The parameters that a run was planned with, as its tasks are to follow them."""
    with store.reading() as connection:
        load_run(connection, run_id)
        return dict(connection.scalars(select(image_runs.c.params).where(image_runs.c.run_id == run_id)).one())


def run_key(store: Store, run_id: str) -> WorkKey:
    """What the run's analyses are stored under."""
    with store.reading() as connection:
        return load_run(connection, run_id).key


def _key(row: Row[Any]) -> WorkKey:
    return WorkKey(row.recipe_version, row.model_id, row.prompt_version)


def _these(connection: Connection, run_id: str, file_ids: Sequence[int]) -> list[ColumnElement[bool]]:
    return [image_run_items.c.run_id == run_id, among(connection, image_run_items.c.file_id, file_ids)]


def _contents(connection: Connection, file_ids: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for ids in chunks(file_ids):
        wanted = among(connection, files.c.id, ids)
        rows = connection.execute(select(files.c.id, files.c.content_version).where(wanted))
        found.update((row.id, row.content_version) for row in rows)
    missing = tuple(file_id for file_id in file_ids if file_id not in found)
    if missing:
        raise UnknownImages(missing, "files")
    return found


def _write_run(connection: Connection, plan: RunPlan, before: Row[Any] | None, now: datetime) -> None:
    since = before.forced_at if before is not None and before.force else now
    values = {
        "forced_at": since if plan.force else None,
        "dag_id": plan.dag_id,
        "dag_run_id": plan.dag_run_id,
        "params": plan.params,
        "recipe_version": plan.key.recipe_version,
        "model_id": plan.key.model_id,
        "prompt_version": plan.key.prompt_version,
        "stages": ",".join(stage.value for stage in Stage if stage in plan.stages),
        "force": plan.force,
        "nova_endpoint": plan.nova_endpoint,
        "run_type": plan.run_type,
        "mapped_batches": max(sum(map(bool, plan.batches)), (before and before.mapped_batches) or 0),
        "finished_at": None,
        "note": plan.note,
        "plan_note": plan.note,
    }
    statement = upsert(connection, image_runs).values(run_id=plan.run_id, started_at=now, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[image_runs.c.run_id], set_=values))


def _items(connection: Connection, run_id: str) -> dict[int, Row[Any]]:
    rows = connection.execute(select(image_run_items).where(image_run_items.c.run_id == run_id))
    return {row.file_id: row for row in rows}


def _let_go(connection: Connection, plan: RunPlan, items: Sequence[Row[Any]], now: datetime) -> None:
    """Items of an earlier planning that are not planned again: whoever did the rest, this run has nothing to add."""
    untouched = [item.file_id for item in items if item.proxy_outcome is None and item.analysis_outcome is None]
    for ids in chunks(untouched):
        connection.execute(delete(image_run_items).where(*_these(connection, plan.run_id, ids)))
    half = [
        item.file_id
        for item in items
        if item.proxy_outcome not in (None, *ENDED) and item.analysis_outcome is None and Stage.ANALYSE in plan.stages
    ]
    skipped = {
        "analysis_outcome": Outcome.SKIPPED.value,
        "analysis_code": "not_planned_again",
        "analysis_message": "when the run was planned again, nothing was left to do or another run had the image",
        "analysis_decided_at": now,
    }
    for ids in chunks(half):
        connection.execute(update(image_run_items).where(*_these(connection, plan.run_id, ids)).values(skipped))


def _kept(
    plan: RunPlan, before: Row[Any] | None, item: Row[Any] | None, contents: Mapping[int, str]
) -> dict[str, object]:
    """The columns of the stages that went well, for the same content and key."""
    if before is None or item is None or item.content_version != contents[item.file_id]:
        return {}
    if plan.force and not before.force:  # what went well before is what is now to be redone
        return {}
    same = {
        Stage.PROXY: before.recipe_version == plan.key.recipe_version,
        Stage.ANALYSE: _key(before) == plan.key,
    }
    columns = item._mapping
    return {
        name: columns[name]
        for stage, prefix in COLUMNS_OF.items()
        if same[stage] and columns[f"{prefix}_outcome"] in GOOD
        for name in _stage_columns(prefix)
    }


def _stage_columns(prefix: str) -> list[str]:
    return [column.name for column in image_run_items.c if column.name.startswith(f"{prefix}_")]


def _row(plan: RunPlan, batch_id: int, file_id: int, content: str, kept: Mapping[str, object]) -> dict[str, object]:
    """Every column, so that all rows make one statement."""
    own = {"run_id": plan.run_id, "file_id": file_id, "batch_id": batch_id, "content_version": content}
    return {**_NO_OUTCOMES, **own, **kept}
