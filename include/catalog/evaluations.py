"""Evaluations: the sample, every call as a row of its own, and the report. What is paid is written before the next."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from include.catalog.errors import UnknownRun
from include.catalog.records import Evaluation, EvaluationCall, NewEvaluation, Outcome
from include.catalog.store import Store, is_source, persist, upsert
from include.catalog.tables import files, image_evaluation_calls, image_evaluations, image_proxies

_ROWS_AT_ONCE = 10_000
_CALL_FIELDS = tuple(field.name for field in fields(EvaluationCall))
_CALL_COLUMNS = tuple(image_evaluation_calls.c[name] for name in _CALL_FIELDS)
_EVALUATION_COLUMNS = tuple(image_evaluations.c[field.name] for field in fields(Evaluation))
ALREADY_ANSWERED = "already_answered"


def sample_images(store: Store, size: int, seed: int, short_side: int) -> tuple[int, ...]:
    """Up to `size` ids, every image as likely as any other; the same catalog and seed give the same sample.

    Left out are images that are known to have no more pixels than a proxy would: there is nothing to compare. The
    catalog is read once, in the order of ids, with no more than the sample in memory (Vitter's algorithm R).
    """
    chosen: list[int] = []
    source = random.Random(seed)  # noqa: S311 - chooses pictures, guards nothing
    query = select(files.c.id).where(is_source(), _may_be_larger(short_side)).order_by(files.c.id)
    with store.streaming() as connection:
        found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).scalars()
        for number, file_id in enumerate(found):
            if number < size:
                chosen.append(file_id)
            elif (place := source.randrange(number + 1)) < size:
                chosen[place] = file_id
    return tuple(sorted(chosen))


def _may_be_larger(short_side: int) -> ColumnElement[bool]:
    f, p = files.c, image_proxies.c
    measured = and_(p.file_id == f.id, p.content_version == f.content_version, p.superseded_at.is_(None))
    same_size = and_(measured, p.status != Outcome.FAILED.value, p.width >= p.original_width)
    small = or_(f.resolution_width <= short_side, f.resolution_height <= short_side)
    unknown = or_(f.resolution_width.is_(None), f.resolution_height.is_(None))
    return and_(or_(unknown, ~small), ~exists().where(same_size))


def store_evaluation(store: Store, evaluation: NewEvaluation) -> Evaluation:
    """Writes an evaluation once; a retry gets what was written first, its sample included."""
    values = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    values |= {"file_ids": list(evaluation.file_ids), "created_at": store.now()}
    with store.writing() as connection:
        statement = upsert(connection, image_evaluations).values(values)
        connection.execute(statement.on_conflict_do_nothing(index_elements=[image_evaluations.c.run_id]))
        row = connection.execute(_of_run(evaluation.run_id)).one()
    return _evaluation(row)


def evaluation(store: Store, run_id: str) -> Evaluation | None:
    """A stored evaluation."""
    with store.reading() as connection:
        row = connection.execute(_of_run(run_id)).one_or_none()
    return None if row is None else _evaluation(row)


def record_call(store: Store, run_id: str, call: EvaluationCall) -> None:
    """One request, or one reason for none. Should somebody else have answered the same question meanwhile (a task that
    was thought dead), the row is kept as a paid duplicate that no figure is taken from, but its cost."""
    values = {name: getattr(call, name) for name in _CALL_FIELDS}
    values |= {"run_id": run_id, "recorded_at": store.now()}
    try:
        _insert(store, values)
    except IntegrityError:
        if not call.final:
            raise
        _insert(store, values | {"final": False, "code": ALREADY_ANSWERED})


def _insert(store: Store, values: Mapping[str, Any]) -> None:
    persist(lambda again: _insert_once(store, values, again=again))


def _insert_once(store: Store, values: Mapping[str, Any], *, again: bool) -> None:
    c = image_evaluation_calls.c
    named = ("run_id", "file_id", "variant", "repeat", "started_at")  # a question is asked by one thread at a time
    same = and_(*(c[name].is_not_distinct_from(values[name]) for name in named))
    with store.writing() as connection:
        if not (again and connection.scalar(select(exists().where(same)))):
            connection.execute(insert(image_evaluation_calls).values(values))


def calls(store: Store, run_id: str) -> list[EvaluationCall]:
    """All calls of an evaluation, oldest first."""
    c = image_evaluation_calls.c
    query = select(*_CALL_COLUMNS).where(c.run_id == run_id).order_by(c.id)
    with store.reading() as connection:
        return [_call(row) for row in connection.execute(query)]


def finish(store: Store, run_id: str, report: Mapping[str, Any], *, note: str | None, report_uri: str | None) -> None:
    """The report. Raises `UnknownRun` when no such evaluation is stored."""
    values = {"report": report, "note": note, "report_uri": report_uri, "finished_at": store.now()}
    with store.writing() as connection:
        statement = update(image_evaluations).where(image_evaluations.c.run_id == run_id).values(values)
        if connection.execute(statement).rowcount == 0:
            raise UnknownRun(run_id)


def _of_run(run_id: str) -> Any:
    return select(*_EVALUATION_COLUMNS).where(image_evaluations.c.run_id == run_id)


def _evaluation(row: Row[Any]) -> Evaluation:
    values = dict(row._mapping)
    return Evaluation(**{**values, "file_ids": tuple(values["file_ids"])})


def _call(row: Row[Any]) -> EvaluationCall:
    values = dict(row._mapping)
    return EvaluationCall(**{**values, **{name: tuple(values[name] or ()) for name in ("labels", "objects")}})
