"""Images come into `files`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, and_, false, select

from include.catalog import low_water
from include.catalog.records import NewImage, RegisterCounts
from include.catalog.store import Store, chunks, upsert
from include.catalog.tables import files


def register(store: Store, images: Sequence[NewImage]) -> RegisterCounts:
    """Adds what is new by uri and updates what has another content version; calling it again changes nothing.

    A changed image keeps its id; what was made of its old content stays as history. A uri that is one of our own
    proxies is left alone, so that listing the proxies' bucket does no harm. Of one uri given twice, the last counts.
    """
    latest = {image.uri: image for image in images}
    new = changed = 0
    # Sorted, so that two who register the same images lock the rows in the same order and never wait in a circle.
    for uris in chunks(sorted(latest)):
        with store.writing() as connection:
            known = _known_versions(connection, uris)
            fresh = [latest[uri] for uri in uris if uri not in known]
            other = [latest[uri] for uri in uris if known.get(uri) not in (None, latest[uri].content_version)]
            _write(connection, fresh + other)
            if other:
                low_water.forget(connection, store.now())
        new += len(fresh)
        changed += len(other)
    return RegisterCounts(new=new, changed=changed, unchanged=len(latest) - new - changed)


def _known_versions(connection: Connection, uris: Sequence[str]) -> dict[str, str | None]:
    """Content version by uri; None for a proxy of ours, which is never changed here."""
    rows = connection.execute(
        select(files.c.uri, files.c.content_version, files.c.is_proxy).where(files.c.uri.in_(uris))
    )
    return {row.uri: None if row.is_proxy else row.content_version for row in rows}


def _write(connection: Connection, images: Sequence[NewImage]) -> None:
    if not images:
        return
    statement = upsert(connection, files)
    given = statement.excluded
    values = [asdict(image) | {"media_type": image.media_type.lower()} for image in images]
    updates = {name: given[name] for name in values[0] if name != "uri"}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[files.c.uri],
            set_=updates,
            where=and_(files.c.is_proxy == false(), files.c.content_version != given.content_version),
        ),
        values,
    )
