"""Who works on which image: one row an image, with a lease, so that a killed owner's images come back by themselves.

Everyone who locks several claims locks them in the order of their file ids, and whoever locks rows of `files` too, or
deletes them, locks those of the images first, in the same order; so on PostgreSQL nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)

from include.catalog.errors import LeaseLost, SourceRowGone
from include.catalog.records import ClaimedBatch, Outcome, ProxyRecord, Stage, WorkItem
from include.catalog.runs import COLUMNS_OF, ENDED, Run, load_run, redone
from include.catalog.store import (
    SOURCE_COLUMNS,
    Store,
    analysis_key,
    chunks,
    is_source,
    let_idle,
    proxy_key,
    source_image,
    tried_again,
    upsert,
)
from include.catalog.tables import files, image_analyses, image_claims, image_proxies, image_run_items

# In the order of ProxyRecord's fields, of which two have another name in the table.
PROXY_COLUMNS = tuple(
    image_proxies.c[{"proxy_id": "id", "outcome": "status"}.get(field.name, field.name)].label(f"proxy_{field.name}")
    for field in fields(ProxyRecord)
)

# Made once: each request to Nova asks for both.
_HOLDER = select(image_claims.c.owner).where(image_claims.c.file_id == bindparam("of_file"))
_CLAIM = select(image_claims).where(image_claims.c.file_id == bindparam("of_file")).with_for_update()


@dataclass(frozen=True, slots=True)
class _Try:
    """One task's try at one stage of one batch."""

    run: Run
    batch_id: int
    stage: Stage
    owner: str
    now: datetime
    until: datetime
    lock: bool  # rows of `files` may be locked: they are ours


@tried_again
def claim_batch(
    store: Store, run_id: str, batch_id: int, stage: Stage, *, owner: str, lease_seconds: float
) -> ClaimedBatch:
    """Takes for `owner` the batch's images that have no outcome at this stage, or were put back.

    Free are images without a claim, with an expired one, and those of this same run: a retry of the task takes over
    what its dead predecessor held. What another run holds is `busy`. What is already done is read after the claims are
    held, so an answer written by the holder before is always seen.

    Tasks that claim at the same moment do not wait for each other: an image that another is just claiming counts as
    busy (`SKIP LOCKED`; on SQLite there is one writer at a time). So does one that a frozen worker is just claiming:
    its rows are let go after half a lease, a minute at most, so that its task's retry, which comes later, finds them.
    """
    with store.writing() as connection:
        let_idle(connection, lease_seconds / 2)
        now = store.now()  # not before: a writer may have waited here for the one that it follows
        run = load_run(connection, run_id)
        skip_gone(connection, [image_run_items.c.run_id == run_id, image_run_items.c.batch_id == batch_id], now)
        task = _Try(run, batch_id, stage, owner, now, now + timedelta(seconds=lease_seconds), lock=not store.mapped)
        wanted = connection.scalars(select(image_run_items.c.file_id).select_from(_ITEM_FILES).where(_wanted(task)))
        listed = set(wanted)
        held = _take(connection, task)
        _mark_started(connection, task, store.now())
        items = _items(connection, task) if held else ()
    return ClaimedBatch(owner=owner, items=items, busy=tuple(sorted(listed - held)))


def renew(store: Store, owner: str, lease_seconds: float) -> frozenset[int]:
    """Keeps the owner's leases alive and returns the images it still holds; the others were taken by somebody else.

    A lease that ran out and was not taken is the owner's still.
    """
    until = store.now() + timedelta(seconds=lease_seconds)
    with store.writing() as connection:
        held = lock(connection, image_claims.c.owner == owner)
        connection.execute(update(image_claims).where(image_claims.c.owner == owner).values(lease_until=until))
    return frozenset(held)


def require_held(store: Store, owner: str, file_id: int) -> None:
    """Raises LeaseLost when the image is not the owner's any more. Nothing is locked: it may be lost a moment later."""
    with store.reading() as connection:
        holder = connection.scalar(_HOLDER, {"of_file": file_id})
    if holder != owner:
        raise LeaseLost(file_id, owner, holder)


def count_leased(store: Store, owner: str) -> int:
    """How many images `owner` holds under a lease that has not run out."""
    leased = and_(image_claims.c.owner == owner, image_claims.c.lease_until > store.now())
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(image_claims).where(leased)) or 0


def release(store: Store, owner: str) -> int:
    """Gives back all that `owner` holds, undecided; returns how many."""
    return _release(store, image_claims.c.owner == owner)


def release_run(store: Store, run_id: str) -> int:
    """Gives back all that any task of the run holds: it was cancelled."""
    return _release(store, image_claims.c.run_id == run_id)


def release_all(store: Store) -> int:
    """Gives back everything. Only for one who knows that no worker is alive, as on a laptop at start."""
    return _release(store, image_claims.c.file_id.is_not(None))


def release_expired(store: Store, before: datetime) -> int:
    """Removes the claims whose lease ended before this moment; returns how many. Their images were free already."""
    return _release(store, image_claims.c.lease_until < before)


def skip_gone(connection: Connection, which: Sequence[ColumnElement[bool]], now: datetime) -> int:
    """Decides items whose image was deleted, or became something else, since they were listed; returns how many.

    Nobody can work on them any more, and a run must not end red for what is not there.
    """
    gone = not_(exists().where(files.c.id == image_run_items.c.file_id, is_source()))
    decided = 0
    for prefix in COLUMNS_OF.values():
        values = {
            f"{prefix}_outcome": Outcome.SKIPPED.value,
            f"{prefix}_code": SourceRowGone.code,
            f"{prefix}_message": "the image's row was deleted since the run listed it",
            f"{prefix}_decided_at": now,
        }
        undecided = image_run_items.c[f"{prefix}_outcome"].is_(None)
        found = connection.execute(update(image_run_items).where(*which, undecided, gone).values(values))
        decided = max(decided, found.rowcount)
    return decided


def held_by(connection: Connection, file_id: int) -> Row[Any] | None:
    """The image's claim, locked until the transaction ends, so that it cannot be taken meanwhile."""
    return connection.execute(_CLAIM, {"of_file": file_id}).one_or_none()


def proxy_record(row: Any) -> ProxyRecord:
    """The record of a row of PROXY_COLUMNS."""
    record = ProxyRecord(*row)
    return replace(record, outcome=Outcome(record.outcome))


def lock(connection: Connection, which: ColumnElement[bool]) -> list[int]:
    """Locks these claims until the transaction ends; their file ids."""
    in_order = select(image_claims.c.file_id).where(which).order_by(image_claims.c.file_id)
    return list(connection.scalars(in_order.with_for_update()))


def _release(store: Store, which: ColumnElement[bool]) -> int:
    with store.writing() as connection:
        held = lock(connection, which)
        for ids in chunks(held):
            connection.execute(delete(image_claims).where(which, image_claims.c.file_id.in_(ids)))
    return len(held)


_ITEM_FILES = image_run_items.join(files, files.c.id == image_run_items.c.file_id)


def _wanted(task: _Try) -> ColumnElement[bool]:
    """Items of the batch that this stage may work on. An analysis waits for the proxy stage, and needs its success."""
    item = image_run_items.c
    outcome = item[f"{COLUMNS_OF[task.stage]}_outcome"]
    conditions = [
        *_in_batch(task),
        is_source(),
        or_(outcome.is_(None), outcome == Outcome.RETURNED.value),
    ]
    if task.stage is Stage.ANALYSE and Stage.PROXY in task.run.stages:
        conditions.append(item.proxy_outcome.not_in(ENDED))  # null, undecided, is left out as well
    return and_(*conditions)


def _in_batch(task: _Try) -> list[ColumnElement[bool]]:
    return [image_run_items.c.run_id == task.run.run_id, image_run_items.c.batch_id == task.batch_id]


def _take(connection: Connection, task: _Try) -> set[int]:
    """One statement: two who want the same image are told apart by the primary key, not by looking first."""
    c = image_claims.c
    new: dict[str, ColumnElement[Any]] = {
        "file_id": image_run_items.c.file_id,
        "run_id": literal(task.run.run_id, c.run_id.type),
        "stage": literal(task.stage.value, c.stage.type),
        "owner": literal(task.owner, c.owner.type),
        "claimed_at": literal(task.now, c.claimed_at.type),
        "lease_until": literal(task.until, c.lease_until.type),
    }
    free = _lock_free(connection, task)
    if not free:
        return set()
    held: set[int] = set()
    for ids in chunks(free):
        held |= _insert(connection, task, new, ids)
    return held


def _insert(connection: Connection, task: _Try, new: dict[str, ColumnElement[Any]], ids: Sequence[int]) -> set[int]:
    c = image_claims.c
    which = and_(_wanted(task), image_run_items.c.file_id.in_(ids))
    rows = select(*new.values()).select_from(_ITEM_FILES).where(which).order_by(image_run_items.c.file_id)
    statement = upsert(connection, image_claims).from_select(list(new), rows)
    statement = statement.on_conflict_do_update(
        index_elements=[c.file_id],
        set_={name: statement.excluded[name] for name in new if name != "file_id"} | {"reserved_usd": None},
        where=or_(c.lease_until <= task.now, c.run_id == task.run.run_id),
    )
    return set(connection.scalars(statement.returning(c.file_id)))


def _lock_free(connection: Connection, task: _Try) -> list[int]:
    """The wanted images that nobody else is claiming or holds, their rows of `files` locked until the transaction ends.

    Whoever claims locks these rows first, so that nobody ever waits for the claim that another is writing. The rows of
    a mapped table are not ours to lock: there, two who want the same image at the same moment wait for each other.
    """
    c = image_claims.c
    held_by_other = exists().where(c.file_id == files.c.id, c.run_id != task.run.run_id, c.lease_until > task.now)
    query = select(files.c.id).select_from(_ITEM_FILES).where(_wanted(task), not_(held_by_other)).order_by(files.c.id)
    if task.lock:
        query = query.with_for_update(of=files, skip_locked=True, key_share=True)
    return list(connection.scalars(query))


def _mark_started(connection: Connection, task: _Try, now: datetime) -> None:
    """From here the items are undecided again (one that was put back too) and belong to the content of this moment."""
    item, prefix = image_run_items.c, COLUMNS_OF[task.stage]
    mine = select(image_claims.c.file_id).where(image_claims.c.owner == task.owner)
    content = select(files.c.content_version).where(files.c.id == item.file_id).scalar_subquery()
    values = {
        "content_version": content,
        f"{prefix}_outcome": None,
        f"{prefix}_code": None,
        f"{prefix}_message": None,
        f"{prefix}_started_at": now,
        f"{prefix}_decided_at": None,
    }
    connection.execute(update(image_run_items).where(*_in_batch(task), item.file_id.in_(mine)).values(values))


def _items(connection: Connection, task: _Try) -> tuple[WorkItem, ...]:
    item, p, a = image_run_items.c, image_proxies.c, image_analyses.c
    content, key = item.content_version, task.run.key
    proxies = and_(proxy_key(item.file_id, content, key), p.superseded_at.is_(None), p.status != "failed")
    by_whom = redone(image_analyses, task.run) if task.run.force else a.superseded_at.is_(None)
    analysed = exists().where(analysis_key(item.file_id, content, key), a.status != "failed", by_whom)
    made = redone(image_proxies, task.run) if task.run.force_proxies else true()
    mine = _ITEM_FILES.join(image_claims, image_claims.c.file_id == item.file_id)
    rows = connection.execute(
        select(*SOURCE_COLUMNS, *PROXY_COLUMNS, made.label("made"), analysed.label("analysed"))
        .select_from(mine.outerjoin(image_proxies, proxies))
        .where(image_claims.c.owner == task.owner, *_in_batch(task))
        .order_by(item.file_id)
    )
    return tuple(_work_item(row) for row in rows)


def _work_item(row: Any) -> WorkItem:
    columns = tuple(row)[len(SOURCE_COLUMNS) : -2]
    proxy = None if columns[0] is None else proxy_record(columns)
    proxied = proxy is not None and bool(row.made)
    return WorkItem(source_image(row), proxy, proxied=proxied, analysed=row.analysed)
