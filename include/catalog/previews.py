"""Previews of originals: one for each content of an image, written by workers and read by the pages."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import func, select

from include.catalog.records import NewPreview
from include.catalog.store import Store, upsert
from include.catalog.tables import files, image_previews


def record_preview(store: Store, run_id: str, file_id: int, content_version: str, preview: NewPreview) -> None:
    """Write the preview of an image's content over the one that was there. Needs no claim: it decides nothing."""
    values = asdict(preview) | {"run_id": run_id, "created_at": store.now()}
    with store.writing() as connection:
        statement = upsert(connection, image_previews).values(
            file_id=file_id, content_version=content_version, **values
        )
        key = [image_previews.c.file_id, image_previews.c.content_version]
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=values))


def preview(store: Store, file_id: int) -> NewPreview | None:
    """The preview of the image's present content."""
    c = image_previews.c
    query = (
        select(c.uri, c.format, c.width, c.height, c.size_bytes)
        .join(files, (files.c.id == c.file_id) & (files.c.content_version == c.content_version))
        .where(c.file_id == file_id)
    )
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else NewPreview(**row._mapping)


def preview_bytes(store: Store) -> int:
    """Bytes that all stored previews have: storage that is spent for people, not for Nova."""
    with store.reading() as connection:
        return int(connection.scalar(select(func.sum(image_previews.c.size_bytes))) or 0)
