"""How far the listing of each source has come."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import case, select

from include.catalog.store import Store, upsert
from include.catalog.tables import image_sources


def watermark(store: Store, source: str) -> datetime | None:
    """When the last whole listing of the source began; None before the first."""
    with store.reading() as connection:
        return connection.scalar(select(image_sources.c.watermark).where(image_sources.c.source == source))


def record_listing(store: Store, source: str, began_at: datetime, listed: int) -> None:
    """A listing reached its end. Of two at the same moment the later beginning counts, whichever ends first."""
    values = {"watermark": began_at, "listed": listed, "listed_at": store.now()}
    with store.writing() as connection:
        statement = upsert(connection, image_sources).values(source=source, **values)
        given, own = statement.excluded, image_sources.c
        later = case((given.watermark > own.watermark, given.watermark), else_=own.watermark)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[own.source],
                set_={"watermark": later, "listed": given.listed, "listed_at": given.listed_at},
            )
        )
