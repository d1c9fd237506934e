"""Low-water marks: below one, every listed image is done, so planning need not walk past it again.

A mark belongs to one work key and one set of stages, and stands at a position of the walk by (uploaded_at, id). It is a
cache of what the rows say, never the truth itself: beside its position it keeps how many images lay at or below it and
the sum of their ids. A row that came late, moved or was deleted changes these, and the mark is not used any more.

What is not final below a mark is found in other ways: failures that a later run may try again stand in an index of
their next try, and no mark passes an image that somebody holds. Whoever makes done work undone calls `forget`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Tuple, and_, false, func, literal, select, tuple_, update

from include.catalog.records import Selection, Stage
from include.catalog.store import Store, upsert
from include.catalog.tables import files, image_claims, image_low_water_marks

# A row that was changed in place by somebody else's SQL (other content under the same upload time) is invisible to the
# count, so the whole walk is done once a day all the same: such a change waits for a day at most.
MAX_AGE = timedelta(days=1)
WORTH_WRITING = 1000  # images that a mark has to advance by
FORGOTTEN = -1  # as the number of images at or below


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the walk: everything up to and including this row."""

    uploaded_at: datetime
    file_id: int


NOWHERE = Position(datetime.min.replace(tzinfo=UTC), 0)  # before every image


@dataclass(frozen=True, slots=True)
class Mark:
    """A stored mark. The walk may begin behind it when it is `usable` by itself and `holds` by the rows."""

    position: Position
    counted: tuple[int, int]
    measured_at: datetime  # when all below it was last walked, or was forgotten
    usable: bool


@dataclass(frozen=True, slots=True)
class Advance:
    """A mark to be written: its position, what lies at or below it, and the one that it replaces."""

    position: Position
    counted: tuple[int, int]
    replaces: Mark | None


def applies_to(selection: Selection) -> bool:
    """Whether a selection walks from the very beginning, as scheduled runs do.

    One that only analyses has none: what has no proxy is no work for it, until somebody makes one.
    """
    windowed = selection.uploaded_from is not None or selection.file_ids is not None
    return Stage.PROXY in selection.stages and not (selection.force or selection.planned_before or windowed)


def load_mark(connection: Connection, selection: Selection, now: datetime) -> Mark | None:
    """The mark of this selection's key and stages."""
    row = connection.execute(select(image_low_water_marks).where(_of(selection))).one_or_none()
    if row is None:
        return None
    # A window that ends before the mark ends the walk before it, too.
    outside = selection.uploaded_to is not None and selection.uploaded_to <= row.uploaded_at
    usable = row.listed != FORGOTTEN and row.measured_at > now - MAX_AGE and not outside
    return Mark(Position(row.uploaded_at, row.file_id), (row.listed, row.id_sum), row.measured_at, usable)


def holds(store: Store, mark: Mark) -> bool:
    """Whether the rows at or below the mark are still those that it was set for.

    By one process of PostgreSQL: several would be done a little sooner, and take the cores from the walk beside.
    """
    with store.snapshot() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL max_parallel_workers_per_gather = 0")
        return count(connection, mark.position) == mark.counted


def beyond(position: Position) -> ColumnElement[bool]:
    """Rows of the walk after the position.

    Said as a pair alone: with a plain comparison beside it, PostgreSQL takes the two for independent, expects a
    thirtieth of the rows, and sorts all that is left instead of walking the index up to the limit.
    """
    return _place() > _at(position)


def until(position: Position) -> ColumnElement[bool]:
    """Rows of the walk up to and including the position."""
    return _place() <= _at(position)


def advance(
    connection: Connection, selection: Selection, mark: Mark | None, first: Position | None, *, lower: bool
) -> Advance | None:
    """Where the mark may stand now, when `first` is the oldest image with work left; None when it is not worth it.

    What lies below the mark was looked at too, unless it is usable. While there is work left, the mark stays where it
    is and does not hold: it will again, once that is done. It is lowered when asked, for there is much of it.
    """
    position = _reached(connection, selection, first) or NOWHERE
    if mark is None:
        return None if position == NOWHERE else Advance(position, count(connection, position), None)
    if position < mark.position and not lower:
        return None
    if not mark.usable:
        return Advance(position, count(connection, position), mark)
    listed, id_sum = count(connection, position, mark.position)
    if listed < WORTH_WRITING:
        return None
    return Advance(position, (mark.counted[0] + listed, mark.counted[1] + id_sum), mark)


def _reached(connection: Connection, selection: Selection, first: Position | None) -> Position | None:
    """How far all is done, when `first` is the oldest image with work left (None: there is none in the window).

    None when nothing is. An image that somebody holds is not done yet.
    """
    # Not a join: SQLite would look up a claim for every row of `files`.
    held = connection.execute(
        select(files.c.uploaded_at, files.c.id)
        .where(files.c.id.in_(select(image_claims.c.file_id)))
        .order_by(files.c.uploaded_at, files.c.id)
        .limit(1)
    ).one_or_none()
    ends = [end for end in (first, Position(*held) if held else None) if end is not None]
    query = select(files.c.uploaded_at, files.c.id).where(files.c.is_proxy == false())
    if ends:
        query = query.where(_place() < _at(min(ends)))
    if selection.uploaded_to is not None:
        query = query.where(files.c.uploaded_at < selection.uploaded_to)
    last = connection.execute(query.order_by(files.c.uploaded_at.desc(), files.c.id.desc()).limit(1)).one_or_none()
    return Position(*last) if last else None


def count(connection: Connection, position: Position, since: Position | None = None) -> tuple[int, int]:
    """How many listed images lie at or below the position (and after `since`), and the sum of their ids.

    Answered from the walk's index alone: under 0.1 s for a million rows. In two parts, since SQLite compares pairs row
    by row, which takes half as long again.
    """
    earlier = files.c.uploaded_at < position.uploaded_at
    at_once = and_(files.c.uploaded_at == position.uploaded_at, files.c.id <= position.file_id)
    listed, id_sum = 0, 0
    for part in (earlier, at_once):
        where = [files.c.is_proxy == false(), part, *([beyond(since)] if since is not None else [])]
        found = connection.execute(select(func.count(), func.sum(files.c.id)).where(*where)).one()
        listed, id_sum = listed + int(found[0]), id_sum + int(found[1] or 0)
    return listed, id_sum


def keep(connection: Connection, selection: Selection, to: Advance, now: datetime) -> None:
    """Write the mark, unless somebody wrote or forgot it since it was read.

    One that moved on from a usable mark keeps its time: what lies below that was not walked now.
    """
    marks, old = image_low_water_marks, to.replaces
    values = {
        "uploaded_at": to.position.uploaded_at,
        "file_id": to.position.file_id,
        "listed": to.counted[0],
        "id_sum": to.counted[1],
        "measured_at": old.measured_at if old is not None and old.usable else now,
    }
    statement = upsert(connection, marks).values(**_key(selection), **values)
    columns = [marks.c[name] for name in _key(selection)]
    if old is None:
        connection.execute(statement.on_conflict_do_nothing(index_elements=columns))
        return
    unchanged = and_(marks.c.measured_at == old.measured_at, marks.c.listed == old.counted[0])
    connection.execute(statement.on_conflict_do_update(index_elements=columns, set_=values, where=unchanged))


def forget(connection: Connection, now: datetime) -> None:
    """Done work was undone (a lost proxy, changed content): the next planning walks past everything once."""
    connection.execute(update(image_low_water_marks).values(listed=FORGOTTEN, measured_at=now))


def _place() -> Tuple:
    return tuple_(files.c.uploaded_at, files.c.id)


def _at(position: Position) -> Tuple:
    return tuple_(literal(position.uploaded_at, files.c.uploaded_at.type), literal(position.file_id, files.c.id.type))


def _key(selection: Selection) -> dict[str, Any]:
    key = selection.key
    return {
        "stages": ",".join(stage.value for stage in Stage if stage in selection.stages),
        "recipe_version": key.recipe_version,
        "model_id": key.model_id,
        "prompt_version": key.prompt_version,
    }


def _of(selection: Selection) -> ColumnElement[bool]:
    return and_(*(image_low_water_marks.c[name] == value for name, value in _key(selection).items()))
