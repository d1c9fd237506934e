"""Previews: a small picture of each original, made by a worker for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime

from sqlalchemy import Connection, and_, delete, exists, not_, or_, select, tuple_

from include.catalog.browse_records import NewPreview, PreviewRecord
from include.catalog.records import StoredPreview
from include.catalog.store import Store, chunks, upsert
from include.catalog.tables import files, image_previews, image_proxies

PAGE = 1000
_KEY = (image_previews.c.file_id, image_previews.c.content_version)


def record_preview(store: Store, file_id: int, content_version: str, preview: NewPreview) -> None:
    """Writes the preview of this content of the image, in place of one that was there."""
    with store.writing() as connection:
        write_previews(connection, [(file_id, content_version, preview)], store.now())


def write_previews(connection: Connection, made: Sequence[tuple[int, str, NewPreview]], now: datetime) -> None:
    """As `record_preview`, for several images, as a part of a transaction that writes more."""
    rows = [
        {"file_id": file_id, "content_version": content, "created_at": now, **asdict(preview)}
        for file_id, content, preview in made
    ]
    if not rows:
        return
    keys = [image_previews.c.file_id, image_previews.c.content_version]
    statement = upsert(connection, image_previews)
    changed = {name: statement.excluded[name] for name in ("created_at", *(one.name for one in fields(NewPreview)))}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def preview(store: Store, file_id: int) -> PreviewRecord | None:
    """The preview of the image's present content, None before there is one."""
    p = image_previews.c
    same = and_(files.c.id == p.file_id, files.c.content_version == p.content_version)
    columns = [p[field.name] for field in fields(PreviewRecord)]
    query = select(*columns).select_from(image_previews.join(files, same)).where(p.file_id == file_id)
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else PreviewRecord(*row)


def previews_of(store: Store, file_ids: Sequence[int]) -> list[StoredPreview]:
    """Every preview of these images, whatever its content."""
    query = select(*_KEY, image_previews.c.uri)
    with store.reading() as connection:
        return [
            StoredPreview(*row)
            for ids in chunks(file_ids)
            for row in connection.execute(query.where(image_previews.c.file_id.in_(ids)).order_by(*_KEY))
        ]


def former_previews(store: Store, before: datetime, after: StoredPreview | None = None) -> list[StoredPreview]:
    """A page of previews of content that their image no longer has, and that nothing else has stood for since then."""
    p, made = image_previews.c, image_proxies.c
    present = exists().where(files.c.id == p.file_id, files.c.content_version == p.content_version)
    lately = or_(made.superseded_at.is_(None), made.superseded_at >= before)
    needed = exists().where(made.file_id == p.file_id, made.content_version == p.content_version, lately)
    query = select(*_KEY, p.uri).where(p.created_at < before, not_(present), not_(needed))
    if after is not None:
        query = query.where(tuple_(*_KEY) > tuple_(after.file_id, after.content_version))
    with store.reading() as connection:
        return [StoredPreview(*row) for row in connection.execute(query.order_by(*_KEY).limit(PAGE))]


def delete_previews(store: Store, previews: Sequence[StoredPreview]) -> None:
    """Deletes rows of previews whose objects are gone."""
    for some in chunks(previews):
        with store.writing() as connection:
            gone = [(one.file_id, one.content_version) for one in some]
            connection.execute(delete(image_previews).where(tuple_(*_KEY).in_(gone)))
