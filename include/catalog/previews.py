"""Previews: a small picture of each original, made by a worker for people to look at."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime

from sqlalchemy import Connection, and_, select

from include.catalog.browse_records import NewPreview, PreviewRecord
from include.catalog.store import Store, upsert
from include.catalog.tables import files, image_previews


def record_preview(store: Store, file_id: int, content_version: str, preview: NewPreview) -> None:
    """Writes the preview of this content of the image, in place of one that was there."""
    with store.writing() as connection:
        write_preview(connection, file_id, content_version, preview, store.now())


def write_preview(
    connection: Connection, file_id: int, content_version: str, preview: NewPreview, now: datetime
) -> None:
    """As `record_preview`, as a part of a transaction that writes more."""
    values = {**asdict(preview), "created_at": now}
    statement = upsert(connection, image_previews).values(file_id=file_id, content_version=content_version, **values)
    keys = [image_previews.c.file_id, image_previews.c.content_version]
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))


def preview(store: Store, file_id: int) -> PreviewRecord | None:
    """The preview of the image's present content, None before there is one."""
    p = image_previews.c
    same = and_(files.c.id == p.file_id, files.c.content_version == p.content_version)
    columns = [p[field.name] for field in fields(PreviewRecord)]
    query = select(*columns).select_from(image_previews.join(files, same)).where(p.file_id == file_id)
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else PreviewRecord(*row)
