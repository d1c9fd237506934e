"""Small questions about single images, and one average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, cast, func, select

from include.catalog.records import Outcome, SourceImage
from include.catalog.store import SOURCE_COLUMNS, Store, chunks, is_source, source_image
from include.catalog.tables import current_image_analyses, files, image_proxies

_RECENT = 10_000  # proxies that an average is taken over


def proxy_bytes_per_pixel(store: Store) -> dict[str, float]:
    """Measured output bytes per output pixel by format, over the newest proxies; empty while there are none."""
    recent = (
        select(
            image_proxies.c.format,
            image_proxies.c.proxy_bytes,
            (cast(image_proxies.c.width, BigInteger) * image_proxies.c.height).label("pixels"),
        )
        .where(image_proxies.c.status == Outcome.PROXIED.value)
        .order_by(image_proxies.c.id.desc())
        .limit(_RECENT)
        .subquery()
    )
    sums = select(recent.c.format, func.sum(recent.c.proxy_bytes), func.sum(recent.c.pixels)).group_by(recent.c.format)
    with store.reading() as connection:
        return {name: int(size) / int(pixels) for name, size, pixels in connection.execute(sums) if pixels}


def content_versions(store: Store, uris: Sequence[str]) -> dict[str, str]:
    """The content version of each uri that is registered."""
    known: dict[str, str] = {}
    with store.reading() as connection:
        for some in chunks(uris):
            rows = connection.execute(select(files.c.uri, files.c.content_version).where(files.c.uri.in_(some)))
            known.update((row.uri, row.content_version) for row in rows)
    return known


def image(store: Store, file_id: int) -> SourceImage | None:
    """One row of `files` that is an image of the team's."""
    query = select(*SOURCE_COLUMNS).where(files.c.id == file_id, is_source())
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else source_image(row)


def current(store: Store, file_id: int) -> dict[str, Any] | None:
    """The image's row of the view `current_image_analyses`."""
    view = current_image_analyses
    with store.reading() as connection:
        row = connection.execute(select(view).where(view.c.file_id == file_id)).mappings().one_or_none()
    return None if row is None else dict(row)
