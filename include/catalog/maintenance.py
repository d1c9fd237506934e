"""Questions and changes for keeping a catalog in order: what is recorded, superseded, expired or to be forgotten.

Whatever may be as long as the catalog is streamed, in the byte order of S3's listings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, case, delete, exists, false, func, insert, not_, or_, select, update
from sqlalchemy import collate as with_collation

from include.catalog import low_water
from include.catalog.claims import lock
from include.catalog.records import Derived, Outcome
from include.catalog.store import Store, chunks, is_source, tried_again
from include.catalog.tables import (
    files,
    image_analyses,
    image_claims,
    image_previews,
    image_proxies,
    image_vanished,
)

PAGE = 1000


def recorded_uris(store: Store, base: str) -> Iterator[tuple[str, bool]]:
    """Every uri below `base` that is recorded as a proxy or a kept original, in byte order, and whether it is current.

    One query, streamed: the database sorts, and this process holds a page.
    """
    p = image_proxies.c
    is_current = func.max(case((p.superseded_at.is_(None), 1), else_=0))
    query = select(p.uri, is_current).where(p.status != Outcome.FAILED.value, _below(p.uri, base)).group_by(p.uri)
    yield from ((uri, bool(current)) for uri, current in _streamed(store, query, p.uri))


def source_uris(store: Store, base: str) -> Iterator[tuple[str, int]]:
    """Uri and file id of every image below `base`, in byte order."""
    query = select(files.c.uri, files.c.id).where(is_source(), _below(files.c.uri, base))
    yield from ((uri, int(file_id)) for uri, file_id in _streamed(store, query, files.c.uri))


def supersede_missing(store: Store, uris: Sequence[str]) -> int:
    """Objects that are gone: their rows are superseded, so that the next run makes them again. Returns how many."""
    p, now, count = image_proxies.c, store.now(), 0
    for some in chunks(uris):
        with store.writing() as connection:
            current = and_(p.uri.in_(some), p.superseded_at.is_(None), p.status != Outcome.FAILED.value)
            lost = connection.execute(update(image_proxies).where(current).values(superseded_at=now)).rowcount
            if lost:
                low_water.forget(connection, now)
            count += lost
    return count


def known_objects(store: Store, uris: Sequence[str]) -> frozenset[str]:
    """Which of these are recorded, as a proxy or in `files`."""
    found: set[str] = set()
    with store.reading() as connection:
        for some in chunks(uris):
            for column in (image_proxies.c.uri, files.c.uri):
                found.update(connection.scalars(select(column).where(column.in_(some))))
    return frozenset(found)


def expired_claims(store: Store, before: datetime) -> int:
    """How many leases ended before this moment, and were taken by nobody since."""
    with store.reading() as connection:
        query = select(func.count()).select_from(image_claims).where(image_claims.c.lease_until < before)
        return int(connection.scalar(query) or 0)


def mark_vanished(store: Store, vanished: Sequence[int], found: Sequence[int]) -> None:
    """Note the images whose original is gone, and forget the note of those that are there again."""
    with store.writing() as connection:
        for ids in chunks(found):
            connection.execute(delete(image_vanished).where(image_vanished.c.file_id.in_(ids)))
        for ids in chunks(vanished):
            known = set(connection.scalars(select(image_vanished.c.file_id).where(image_vanished.c.file_id.in_(ids))))
            rows = [{"file_id": file_id, "vanished_at": store.now()} for file_id in ids if file_id not in known]
            if rows:
                connection.execute(insert(image_vanished), rows)


def vanished_ids(store: Store, file_ids: Sequence[int]) -> frozenset[int]:
    """Which of these images are noted as vanished."""
    found: set[int] = set()
    with store.reading() as connection:
        for ids in chunks(file_ids):
            found.update(connection.scalars(select(image_vanished.c.file_id).where(image_vanished.c.file_id.in_(ids))))
    return frozenset(found)


def count_of_other_content(store: Store) -> int:
    """Current rows that were made of content that their image no longer has."""
    with store.reading() as connection:
        return sum(
            int(connection.scalar(select(func.count()).select_from(table).where(_of_other_content(table))) or 0)
            for table in (image_proxies, image_analyses)
        )


def supersede_other_content(store: Store) -> int:
    """Supersede them: a run may have written one while its image was replaced, and a mapped table changes unseen."""
    now = store.now()
    with store.writing() as connection:
        count = sum(
            connection.execute(update(table).where(_of_other_content(table)).values(superseded_at=now)).rowcount
            for table in (image_proxies, image_analyses)
        )
        if count:
            low_water.forget(connection, now)
    return count


def superseded(store: Store, before: datetime, after_id: int = 0, limit: int = PAGE) -> list[Derived]:
    """Proxy rows superseded before this moment, by id. `shared`: a row that is to stay has the same object."""
    p, other = image_proxies.c, image_proxies.alias("other")
    stays = or_(other.c.superseded_at.is_(None), other.c.superseded_at >= before)
    shared = exists().where(other.c.uri == p.uri, other.c.id != p.id, stays)
    query = (
        select(p.id, p.file_id, p.uri, shared)
        .where(p.superseded_at < before, p.id > after_id)
        .order_by(p.id)
        .limit(limit)
    )
    with store.reading() as connection:
        return [Derived(*row) for row in connection.execute(query)]


def count_superseded_analyses(store: Store, before: datetime) -> int:
    """How many analyses were superseded before this moment."""
    with store.reading() as connection:
        old = image_analyses.c.superseded_at < before
        return int(connection.scalar(select(func.count()).select_from(image_analyses).where(old)) or 0)


def delete_superseded_analyses(store: Store, before: datetime) -> int:
    """Delete them; returns how many. What they cost stays, in `image_attempts`."""
    with store.writing() as connection:
        return connection.execute(delete(image_analyses).where(image_analyses.c.superseded_at < before)).rowcount


def delete_proxy_rows(store: Store, derived: Sequence[Derived]) -> None:
    """Delete rows of proxies whose objects are gone, with the rows that these objects have in `files`."""
    mapped = store.mapped
    for some in chunks(derived):
        gone = [one.uri for one in some if one.uri and not one.shared]
        with store.writing() as connection:
            connection.execute(delete(image_proxies).where(image_proxies.c.id.in_([one.proxy_id for one in some])))
            if gone and not mapped:
                connection.execute(delete(files).where(files.c.uri.in_(gone), files.c.is_proxy))


def derived_of(store: Store, file_ids: Sequence[int]) -> list[Derived]:
    """Every proxy row of these images, whatever its age."""
    p = image_proxies.c
    with store.reading() as connection:
        return [
            Derived(*row, False)
            for ids in chunks(file_ids)
            for row in connection.execute(select(p.id, p.file_id, p.uri).where(p.file_id.in_(ids)).order_by(p.id))
        ]


def deletable(store: Store, file_ids: Sequence[int]) -> tuple[list[int], dict[int, str]]:
    """Which of these images may be forgotten, and why the others may not."""
    wanted, refused = sorted(set(file_ids)), dict[int, str]()
    with store.reading() as connection:
        for ids in chunks(wanted):
            busy = select(image_claims.c.file_id).where(
                image_claims.c.file_id.in_(ids), image_claims.c.lease_until > store.now()
            )
            refused |= dict.fromkeys(connection.scalars(busy), "a run is working on it")
            rows = connection.execute(select(files.c.id, files.c.is_proxy).where(files.c.id.in_(ids))).all()
            refused |= {row.id: "it is a proxy: name its source" for row in rows if row.is_proxy}
            if store.mapped:
                refused |= {row.id: "it is still in your table: delete it there first" for row in rows}
    return [file_id for file_id in wanted if file_id not in refused], refused


def count_analyses(store: Store, file_ids: Sequence[int]) -> int:
    """How many analyses these images have, whatever their age."""
    with store.reading() as connection:
        query = select(func.count()).select_from(image_analyses)
        return sum(
            int(connection.scalar(query.where(image_analyses.c.file_id.in_(ids))) or 0) for ids in chunks(file_ids)
        )


@tried_again
def forget(store: Store, file_ids: Sequence[int]) -> None:
    """Delete all that was made of the images and, in our own catalog, their rows. Runs and costs stay as history."""
    mapped = store.mapped
    for ids in chunks(file_ids):
        with store.writing() as connection:
            if not mapped:
                rows = select(files.c.id).where(files.c.id.in_(ids), files.c.is_proxy == false()).order_by(files.c.id)
                connection.execute(rows.with_for_update()).all()
            lock(connection, image_claims.c.file_id.in_(ids))
            for table in (image_analyses, image_proxies, image_previews, image_claims, image_vanished):
                connection.execute(delete(table).where(table.c.file_id.in_(ids)))
            if not mapped:
                connection.execute(delete(files).where(files.c.source_file_id.in_(ids), files.c.is_proxy))
                connection.execute(delete(files).where(files.c.id.in_(ids), files.c.is_proxy == false()))


def _of_other_content(table: Table) -> ColumnElement[bool]:
    """Current, and its image is there with other content. Images that are not there any more are left alone."""
    there = exists().where(files.c.id == table.c.file_id)
    same = exists().where(files.c.id == table.c.file_id, files.c.content_version == table.c.content_version)
    return and_(table.c.superseded_at.is_(None), there, not_(same))


def _below(uri: ColumnElement[str], base: str) -> ColumnElement[bool]:
    """Not LIKE: a prefix may hold `_` and `%`."""
    return func.substr(uri, 1, len(base)) == base


def _streamed(store: Store, query: Any, uri: ColumnElement[str]) -> Iterator[Any]:
    with store.streaming() as connection:
        name = "C" if connection.dialect.name == "postgresql" else "BINARY"
        ordered = query.order_by(with_collation(uri, name))
        yield from connection.execution_options(yield_per=PAGE).execute(ordered)
