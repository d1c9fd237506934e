"""What became of an image at a stage. Each function is one transaction: the row, the item's outcome, the claim's end.

The image's claim is locked first, so of two who decide about one image the second sees what the first wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, bindparam, delete, exists, insert, select, update

from include.catalog import low_water
from include.catalog.claims import held_by
from include.catalog.errors import LeaseLost, UnknownImages
from include.catalog.records import Failure, NewAnalysis, NovaCall, Outcome, Stage, WorkKey
from include.catalog.runs import COLUMNS_OF, GOOD, Run, load_run, redone
from include.catalog.store import Store, analysis_key, persist, proxy_key, tried_again, upsert
from include.catalog.tables import image_analyses, image_attempts, image_claims, image_proxies, image_run_items

# A transient failure is tried again by a later run after RETRY_BASE * RETRY_GROWTH ** (attempts - 1), at most
# RETRY_CAP: 10 min, 30 min, 1.5 h, 4.5 h. After `max_attempts` tries it waits for `force`, like a permanent one.
RETRY_BASE = timedelta(minutes=10)
RETRY_GROWTH = 3
RETRY_CAP = timedelta(hours=24)
DEFAULT_MAX_ATTEMPTS = 5
PROXY_MISSING = "proxy_missing"


# -- statements, made once: to make one takes SQLAlchemy several times as long as to run it --------------------------

_TABLES: dict[Stage, Table] = {Stage.PROXY: image_proxies, Stage.ANALYSE: image_analyses}
_KEYS = {
    Stage.PROXY: ("file_id", "content_version", "recipe_version"),
    Stage.ANALYSE: ("file_id", "content_version", "recipe_version", "model_id", "prompt_version"),
}
# Rows of the image, content and key that `_Item.key` gives as parameters, current or not.
_IMAGE: tuple[ColumnElement[int], ColumnElement[str]] = (bindparam("key_file_id"), bindparam("key_content_version"))
_PLACES: dict[str, Any] = {field.name: bindparam(f"key_{field.name}") for field in fields(WorkKey)}
_BOUND_KEY = WorkKey(**_PLACES)
_OF_KEY = {Stage.PROXY: proxy_key(*_IMAGE, _BOUND_KEY), Stage.ANALYSE: analysis_key(*_IMAGE, _BOUND_KEY)}
_CURRENT = {stage: and_(_OF_KEY[stage], table.c.superseded_at.is_(None)) for stage, table in _TABLES.items()}
_SUPERSEDE = {
    stage: update(table).where(_CURRENT[stage]).values(superseded_at=bindparam("now"))
    for stage, table in _TABLES.items()
}
_WRITE = {stage: insert(table).returning(table.c.id) for stage, table in _TABLES.items()}
_PROXY_ID = select(image_proxies.c.id).where(_CURRENT[Stage.PROXY], image_proxies.c.status != Outcome.FAILED.value)
_ATTEMPT = insert(image_attempts)
_THIS_ITEM = and_(image_run_items.c.run_id == bindparam("of_run"), image_run_items.c.file_id == bindparam("of_file"))
_ITEM = select(image_run_items).where(_THIS_ITEM)
_DECIDE = update(image_run_items).where(_THIS_ITEM)
_RELEASE = delete(image_claims).where(
    image_claims.c.file_id == bindparam("of_file"), image_claims.c.owner == bindparam("by")
)


@dataclass(frozen=True, slots=True)
class _Item:
    """An image in a run, with the content it was claimed for."""

    run: Run
    file_id: int
    content: str
    row: Row[Any]

    def outcome(self, stage: Stage) -> str | None:
        """What stands at `stage`."""
        return self.row._mapping[f"{COLUMNS_OF[stage]}_outcome"]  # type: ignore[no-any-return]

    def columns(self, stage: Stage) -> dict[str, Any]:
        """What names its rows at `stage`, by column."""
        own = {"file_id": self.file_id, "content_version": self.content}
        return own | {name: getattr(self.run.key, name) for name in _KEYS[stage] if name not in own}

    def key(self, stage: Stage) -> dict[str, Any]:
        """The same as parameters of `_OF_KEY`."""
        return {f"key_{name}": value for name, value in self.columns(stage).items()}


def retry_delay(attempts: int) -> timedelta:
    """How long a transient failure waits after its `attempts`-th try."""
    growth: int = RETRY_GROWTH ** min(attempts - 1, 20)
    return min(RETRY_CAP, RETRY_BASE * growth)


def record_call(store: Store, run_id: str, file_id: int, call: NovaCall) -> None:
    """A request that reached Nova and brought no valid answer. Needs no claim: it happened, whoever has the image."""
    persist(lambda again: _record_call(store, run_id, file_id, call, once=again))


def _record_call(store: Store, run_id: str, file_id: int, call: NovaCall, *, once: bool) -> None:
    with store.writing() as connection:
        item = _item(connection, run_id, file_id)
        if not (once and _is_booked(connection, item, call)):
            _attempt(connection, item, Stage.ANALYSE, store.now(), _call_values(call))


def record_analysis(
    store: Store, run_id: str, owner: str, file_id: int, *, analysis: NewAnalysis, call: NovaCall, once: bool = False
) -> bool:
    """An answer and the call that brought it. It is paid for, so a lost lease does not throw it away: it is written
    unless somebody else wrote one meanwhile. Then only the call is kept, and LeaseLost raised.

    ``once``: the answer may be brought again (a job's output is read anew after a crash); then nothing is written, and
    False returned.
    """
    return persist(lambda again: _record_analysis(store, run_id, owner, file_id, analysis, call, once=once or again))


def _record_analysis(
    store: Store, run_id: str, owner: str, file_id: int, analysis: NewAnalysis, call: NovaCall, *, once: bool
) -> bool:
    now = store.now()
    with store.writing() as connection:
        item, holder = _for_late_answer(connection, run_id, owner, file_id)
        if once and _is_booked(connection, item, call):
            if holder is None:
                _release(connection, owner, file_id)
            return False
        _attempt(connection, item, Stage.ANALYSE, now, _call_values(call))
        wanted = holder == owner or not _answered(connection, item)
        if wanted:
            facts = {name: value for name, value in _shallow(call).items() if name in image_analyses.c}
            own = {"status": Outcome.ANALYSED.value, "proxy_id": _proxy_id(connection, item)}
            row_id = _write(connection, item, Stage.ANALYSE, _shallow(analysis) | facts | own, now)
            _decide(connection, item, Stage.ANALYSE, Outcome.ANALYSED, now, row_id=row_id)
        _release(connection, owner, file_id)
    if not wanted:
        raise LeaseLost(file_id, owner, holder)
    return True


@tried_again
def record_failure(
    store: Store,
    run_id: str,
    owner: str,
    file_id: int,
    *,
    stage: Stage,
    failure: Failure,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
) -> None:
    """The image was refused. A transient failure gets a time for its next try, until `max_attempts`.

    A good row of before (there is one under `force`) stays the current one: a failed second try destroys nothing.
    """
    now = store.now()
    with store.writing() as connection:
        item = _held_item(connection, run_id, owner, file_id)
        _attempt(connection, item, stage, now, {"code": failure.code, "message": failure.message})
        _store_failure(connection, item, stage, failure, now, max_attempts)
        _release(connection, owner, file_id)


def _store_failure(
    connection: Connection, item: _Item, stage: Stage, failure: Failure, now: datetime, max_attempts: int
) -> None:
    table = _TABLES[stage]
    current = select(table.c.status, table.c.attempts).where(_CURRENT[stage])
    prior = connection.execute(current, item.key(stage)).one_or_none()
    good_before = prior is not None and prior.status != Outcome.FAILED.value
    attempts = 1 if prior is None or good_before else prior.attempts + 1
    again = failure.transient and attempts < max_attempts
    values = _shallow(failure) | {
        "status": Outcome.FAILED.value,
        "attempts": attempts,
        "next_try_at": now + retry_delay(attempts) if again else None,
    }
    _write(connection, item, stage, values, now, history=good_before)
    _decide(connection, item, stage, Outcome.FAILED, now, code=failure.code, message=failure.message)


@tried_again
def record_refusal(
    store: Store, run_id: str, owner: str, file_id: int, *, outcome: Outcome, failure: Failure, call: NovaCall
) -> bool:
    """An answer of a batch job that holds no analysis, and its call, written once however often it is brought. Whether
    it was written now.

    `outcome` is FAILED, or RETURNED for what is not the image's fault. A job whose lease was lost decides nothing any
    more: only the call is kept.
    """
    now = store.now()
    with store.writing() as connection:
        item, holder = _for_late_answer(connection, run_id, owner, file_id)
        new = not _is_booked(connection, item, call)
        if new:
            _attempt(connection, item, Stage.ANALYSE, now, _call_values(call))
        if new and holder == owner and outcome is Outcome.FAILED:
            _store_failure(connection, item, Stage.ANALYSE, failure, now, DEFAULT_MAX_ATTEMPTS)
        if new and holder == owner and outcome is Outcome.RETURNED:
            _decide(connection, item, Stage.ANALYSE, outcome, now, code=failure.code, message=failure.message)
        if new or holder is None:
            _release(connection, owner, file_id)
    return new


@tried_again
def record_skip(
    store: Store, run_id: str, owner: str | None, file_id: int, *, stage: Stage, code: str, message: str
) -> None:
    """Nothing to do for this run: done before, or (`owner` None) another run has it."""
    now = store.now()
    with store.writing() as connection:
        if owner is None:
            item = _unheld_item(connection, run_id, None, file_id, stage)
        else:
            item = _held_item(connection, run_id, owner, file_id)
        _decide(connection, item, stage, Outcome.SKIPPED, now, code=code, message=message)
        _release(connection, owner, file_id)


@tried_again
def record_return(
    store: Store, run_id: str, owner: str, file_id: int, *, stage: Stage, code: str, message: str
) -> None:
    """Back to pending, not the image's fault. Also for an image whose lease another *run* took over: to this run it is
    returned. Where a retry of the same task has it, or the outcome is there already, LeaseLost is raised."""
    now = store.now()
    with store.writing() as connection:
        item = _unheld_item(connection, run_id, owner, file_id, stage)
        _attempt(connection, item, stage, now, {"code": code, "message": message})
        _decide(connection, item, stage, Outcome.RETURNED, now, code=code, message=message)
        _release(connection, owner, file_id)


@tried_again
def record_missing_proxy(store: Store, run_id: str, owner: str, file_id: int, *, message: str) -> None:
    """The current proxy is not where its row says: it is superseded, and the image goes back to pending."""
    now = store.now()
    with store.writing() as connection:
        item = _held_item(connection, run_id, owner, file_id)
        connection.execute(_SUPERSEDE[Stage.PROXY], item.key(Stage.PROXY) | {"now": now})
        low_water.forget(connection, now)
        _attempt(connection, item, Stage.ANALYSE, now, {"code": PROXY_MISSING, "message": message})
        _decide(connection, item, Stage.ANALYSE, Outcome.RETURNED, now, code=PROXY_MISSING, message=message)
        _release(connection, owner, file_id)


# -- who may write ---------------------------------------------------------------------------------------------------


def _held_item(connection: Connection, run_id: str, owner: str, file_id: int) -> _Item:
    """The item, if the owner holds the image. A lease that ran out but was not taken still counts."""
    claim = held_by(connection, file_id)
    if claim is None or claim.owner != owner:
        raise LeaseLost(file_id, owner, claim.owner if claim else None)
    return _item(connection, run_id, file_id)


def _unheld_item(connection: Connection, run_id: str, owner: str | None, file_id: int, stage: Stage) -> _Item:
    """The item, also when another run holds the image, but not when this run has another task at it or decided it."""
    claim = held_by(connection, file_id)
    item = _item(connection, run_id, file_id)
    if claim is not None and claim.owner == owner:
        return item
    if item.outcome(stage) not in (None, Outcome.RETURNED) or (claim is not None and claim.run_id == run_id):
        raise LeaseLost(file_id, owner, claim.owner if claim else None)
    return item


def _for_late_answer(connection: Connection, run_id: str, owner: str, file_id: int) -> tuple[_Item, str | None]:
    """The item, and who held the image until now. An image that nobody held is claimed for the moment, so that of two
    late answers the second sees the first."""
    claim = held_by(connection, file_id)
    holder = claim.owner if claim else None
    while claim is None:
        moment = {"claimed_at": datetime.min.replace(tzinfo=UTC), "lease_until": datetime.min.replace(tzinfo=UTC)}
        mine = {"file_id": file_id, "run_id": run_id, "stage": Stage.ANALYSE.value, "owner": owner}
        connection.execute(upsert(connection, image_claims).values({**mine, **moment}).on_conflict_do_nothing())
        claim = held_by(connection, file_id)
        holder = claim.owner if claim and claim.owner != owner else None
    return _item(connection, run_id, file_id), holder


def _answered(connection: Connection, item: _Item) -> bool:
    """Somebody wrote an analysis for this key; under `force` only this run's own counts."""
    a, stage = image_analyses.c, Stage.ANALYSE
    by_whom = redone(image_analyses, item.run) if item.run.force else a.superseded_at.is_(None)
    answer = exists().where(_OF_KEY[stage], a.status != Outcome.FAILED.value, by_whom)
    return bool(connection.scalar(select(answer), item.key(stage)))


def _is_booked(connection: Connection, item: _Item, call: NovaCall) -> bool:
    """Whether this very call is on a row already. A run has one call of an image in flight, so its start names it."""
    c = image_attempts.c
    same = and_(c.run_id == item.run.run_id, c.file_id == item.file_id, c.called, c.tier == call.tier)
    return bool(connection.scalar(select(exists().where(same, c.started_at == call.started_at))))


def _item(connection: Connection, run_id: str, file_id: int) -> _Item:
    run = load_run(connection, run_id)
    row = connection.execute(_ITEM, {"of_run": run_id, "of_file": file_id}).one_or_none()
    if row is None:
        raise UnknownImages((file_id,), f"run {run_id}")
    return _Item(run, file_id, row.content_version, row)


def _release(connection: Connection, owner: str | None, file_id: int) -> None:
    connection.execute(_RELEASE, {"of_file": file_id, "by": owner})


# -- what is written -------------------------------------------------------------------------------------------------


def _write(
    connection: Connection,
    item: _Item,
    stage: Stage,
    values: Mapping[str, Any],
    now: datetime,
    *,
    history: bool = False,
) -> int:
    """The new current row; the one before is marked superseded. With `history`, the row goes to the past at once."""
    if not history:
        connection.execute(_SUPERSEDE[stage], item.key(stage) | {"now": now})
    row = {"attempts": 1, "run_id": item.run.run_id, "created_at": now, "superseded_at": now if history else None}
    return int(connection.execute(_WRITE[stage], {**row, **item.columns(stage), **values}).scalar_one())


def _proxy_id(connection: Connection, item: _Item) -> int | None:
    return connection.scalar(_PROXY_ID, item.key(Stage.PROXY))


def _shallow(record: NewAnalysis | NovaCall | Failure) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _call_values(call: NovaCall) -> dict[str, Any]:
    return _shallow(call) | {"called": True}


def _attempt(connection: Connection, item: _Item, stage: Stage, now: datetime, values: Mapping[str, Any]) -> None:
    started = item.row._mapping[f"{COLUMNS_OF[stage]}_started_at"]
    row = {"run_id": item.run.run_id, "file_id": item.file_id, "stage": stage.value, "called": False}
    row |= {"started_at": started, "recorded_at": now}
    connection.execute(_ATTEMPT, {**row, **values})


def _decide(
    connection: Connection,
    item: _Item,
    stage: Stage,
    outcome: Outcome,
    now: datetime,
    *,
    code: str | None = None,
    message: str | None = None,
    row_id: int | None = None,
) -> None:
    if item.outcome(stage) in GOOD and outcome not in GOOD:
        return  # a late answer was written for this run meanwhile: what is there outweighs what went wrong since
    prefix = COLUMNS_OF[stage]
    values = {
        f"{prefix}_outcome": outcome.value,
        f"{prefix}_code": code,
        f"{prefix}_message": message,
        f"{prefix}_decided_at": now,
        f"{prefix}_id": row_id,
    }
    connection.execute(_DECIDE, {"of_run": item.run.run_id, "of_file": item.file_id, **values})
