"""Images come into `files`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Select, Table, and_, exists, false, func, not_, select, update

from include.catalog import low_water
from include.catalog.adoption import TableIsMapped
from include.catalog.records import NewImage, Outcome, RegisterCounts
from include.catalog.store import Store, chunks, upsert
from include.catalog.tables import files, image_analyses, image_proxies

_PROXY_KEY = ("file_id", "content_version", "recipe_version")
_KEYS = {
    image_proxies.name: [image_proxies.c[name] for name in _PROXY_KEY],
    image_analyses.name: [image_analyses.c[name] for name in (*_PROXY_KEY, "model_id", "prompt_version")],
}


def register(store: Store, images: Sequence[NewImage]) -> RegisterCounts:
    """Adds what is new by uri and updates what has another content version; calling it again changes nothing.

    A changed image keeps its id; what was made of its old content is superseded and stays as history. Content that
    comes back finds what was made of it before: that has been paid. A uri that is one of our own
    proxies is left alone, so that listing the proxies' bucket does no harm. Of one uri given twice, the last counts.
    Raises `TableIsMapped`.
    """
    if store.mapped:
        raise TableIsMapped
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
            follow_content(connection, [image.uri for image in other], store.now())
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


def follow_content(connection: Connection, uris: Sequence[str], now: datetime) -> None:
    """Supersede what was made of other content than the images have now, and take up again what was made of this."""
    if not uris:
        return
    changed = select(files.c.id).where(files.c.uri.in_(uris))
    for table in (image_proxies, image_analyses):
        of_now = exists().where(files.c.id == table.c.file_id, files.c.content_version == table.c.content_version)
        connection.execute(
            update(table)
            .where(table.c.file_id.in_(changed), table.c.superseded_at.is_(None), not_(of_now))
            .values(superseded_at=now)
        )
        _take_up_again(connection, table, changed)


def _take_up_again(connection: Connection, table: Table, changed: Select[tuple[int]]) -> None:
    """The newest good row of each key whose content is back, where no row is current."""
    key = _KEYS[table.name]
    other = table.alias("other")
    same = and_(*(other.c[column.name] == column for column in key))
    newest = (
        select(func.max(table.c.id))
        .join(files, and_(files.c.id == table.c.file_id, files.c.content_version == table.c.content_version))
        .where(table.c.file_id.in_(changed), table.c.status != Outcome.FAILED.value)
        .group_by(*key)
    )
    taken = exists().where(same, other.c.superseded_at.is_(None))
    connection.execute(update(table).where(table.c.id.in_(newest), not_(taken)).values(superseded_at=None))
