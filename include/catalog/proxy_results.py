"""What became of images at the proxy stage, several in one transaction: a commit costs as much for one as for fifty.

Locked are first the images' own rows, so that none is deleted meanwhile, then their claims, each in the order of file
ids, as everywhere (see claims.py). So of two who decide about one image the second sees what the first wrote, and
nobody waits in a circle. Only what a team's own statements lock has no order: see `persist` in store.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, insert, select, tuple_, update

from include.catalog import low_water
from include.catalog.claims import skip_gone
from include.catalog.errors import UnknownImages
from include.catalog.previews import write_previews
from include.catalog.records import MadeProxy, NewProxy, Outcome, RecordedProxies, Stage
from include.catalog.runs import Run, load_run
from include.catalog.store import Store, is_source, tried_again, upsert
from include.catalog.tables import (
    files,
    image_attempts,
    image_claims,
    image_proxies,
    image_run_items,
)


@dataclass(frozen=True, slots=True)
class _Made:
    """One image's proxy, and the content that it was claimed for."""

    made: MadeProxy
    content: str
    started_at: datetime | None

    @property
    def file_id(self) -> int:
        return self.made.file_id

    @property
    def proxy(self) -> NewProxy:
        return self.made.proxy


@tried_again
def record_proxies(store: Store, run_id: str, owner: str, made: Sequence[MadeProxy]) -> RecordedProxies:
    """Proxies were stored, or originals kept. Each becomes the current one; the one before stays as history.

    Nothing is written of an image that is not `owner`'s any more, nor of one whose own row was deleted meanwhile (it is
    skipped: there is nothing left that a proxy could belong to); the others are written all the same. No image may be
    there twice.
    """
    now, listed = store.now(), not store.mapped
    with store.writing() as connection:
        sources = _sources(connection, [one.file_id for one in made], lock=listed)
        holders = _holders(connection, [one.file_id for one in made])
        run = load_run(connection, run_id)
        images = _with_items(connection, run_id, [one for one in made if holders.get(one.file_id) == owner])
        ids = frozenset(image.file_id for image in images)
        there, gone = ids & sources, ids - sources
        if there:
            _write(connection, run, [image for image in images if image.file_id in there], now, listed=listed)
        if gone:
            skip_gone(connection, [image_run_items.c.run_id == run_id, image_run_items.c.file_id.in_(gone)], now)
        c = image_claims.c
        connection.execute(delete(image_claims).where(c.owner == owner, c.file_id.in_(ids)))
    lost = {one.file_id: holders.get(one.file_id) for one in made if holders.get(one.file_id) != owner}
    return RecordedProxies(there, gone, lost)


def _sources(connection: Connection, file_ids: Sequence[int], *, lock: bool) -> frozenset[int]:
    """Which of these images are still there. Their rows can be changed meanwhile, not deleted: the rows of `files` that
    are written for their proxies refer to them. Those of a mapped table are not ours to lock, and nothing refers to
    them."""
    query = select(files.c.id).where(files.c.id.in_(file_ids), is_source()).order_by(files.c.id)
    return frozenset(connection.scalars(query.with_for_update(read=True, key_share=True) if lock else query))


def _holders(connection: Connection, file_ids: Sequence[int]) -> dict[int, str]:
    """Who holds these images. The claims are locked until the transaction ends, so that none is taken meanwhile."""
    c = image_claims.c
    claims = select(c.file_id, c.owner).where(c.file_id.in_(file_ids)).order_by(c.file_id).with_for_update()
    return {row.file_id: row.owner for row in connection.execute(claims)}


def _with_items(connection: Connection, run_id: str, held: Sequence[MadeProxy]) -> list[_Made]:
    c = image_run_items.c
    query = select(c.file_id, c.content_version, c.proxy_started_at)
    query = query.where(c.run_id == run_id, c.file_id.in_([one.file_id for one in held]))
    items = {row.file_id: row for row in connection.execute(query)}
    missing = tuple(one.file_id for one in held if one.file_id not in items)
    if missing:
        raise UnknownImages(missing, f"run {run_id}")
    return [_Made(one, items[one.file_id].content_version, items[one.file_id].proxy_started_at) for one in held]


def _write(connection: Connection, run: Run, images: Sequence[_Made], now: datetime, *, listed: bool) -> None:
    if _any_refused_for_good(connection, run, images):
        low_water.forget(connection, now)  # a forced run brings them back: they can be analysed now
    listed_ids = _list_proxies(connection, images, now) if listed else {}
    row_ids = _write_proxies(connection, run, images, listed_ids, now)
    previews = [(image.file_id, image.content, image.made.preview) for image in images if image.made.preview]
    write_previews(connection, previews, now)
    _write_attempts(connection, run, images, now)
    _decide(connection, run, images, row_ids, now)


def _any_refused_for_good(connection: Connection, run: Run, images: Sequence[_Made]) -> bool:
    p = image_proxies.c
    refused = exists().where(
        p.file_id.in_([image.file_id for image in images]),  # by this SQLite seeks; by pairs alone it scans
        tuple_(p.file_id, p.content_version).in_([(image.file_id, image.content) for image in images]),
        p.recipe_version == run.key.recipe_version,
        and_(p.superseded_at.is_(None), p.status == Outcome.FAILED.value, p.next_try_at.is_(None)),
    )
    return bool(connection.scalar(select(refused)))


def _list_proxies(connection: Connection, images: Sequence[_Made], now: datetime) -> dict[int, int]:
    """The proxies as rows of `files`, so that the catalog knows every object that it caused; their ids by image."""
    rows = [_listed(image, now) for image in images if image.proxy.outcome is Outcome.PROXIED]
    if not rows:
        return {}
    statement = upsert(connection, files)
    changed = {name: statement.excluded[name] for name in rows[0] if name != "uri"}
    statement = statement.on_conflict_do_update(index_elements=[files.c.uri], set_=changed)
    found = connection.execute(statement.returning(files.c.source_file_id, files.c.id), rows)
    return {row.source_file_id: row.id for row in found}


def _listed(image: _Made, now: datetime) -> dict[str, Any]:
    proxy = image.proxy
    return {
        "uri": proxy.uri,
        "filename": proxy.uri.rpartition("/")[2],
        "media_type": f"image/{proxy.format.lower()}",
        "size_bytes": proxy.proxy_bytes,
        "format": proxy.format,
        "resolution_width": proxy.width,
        "resolution_height": proxy.height,
        "is_proxy": True,
        "source_file_id": image.file_id,
        "content_version": proxy.sha256 or "",
        "uploaded_at": now,
    }


def _write_proxies(
    connection: Connection, run: Run, images: Sequence[_Made], listed_ids: Mapping[int, int], now: datetime
) -> dict[int, int]:
    """The new current rows, their ids by image; the ones before are marked superseded."""
    p, recipe = image_proxies.c, run.key.recipe_version
    former = update(image_proxies).where(
        p.file_id.in_([image.file_id for image in images]),  # by this SQLite seeks; by pairs alone it scans
        tuple_(p.file_id, p.content_version).in_([(image.file_id, image.content) for image in images]),
        p.recipe_version == recipe,
        p.superseded_at.is_(None),
    )
    connection.execute(former.values(superseded_at=now))
    fixed = {"recipe_version": recipe, "attempts": 1, "run_id": run.run_id, "created_at": now, "superseded_at": None}
    rows = [{**fixed, **_measured(image), "proxy_file_id": listed_ids.get(image.file_id)} for image in images]
    found = connection.execute(insert(image_proxies).returning(p.file_id, p.id), rows)
    return {row.file_id: row.id for row in found}


def _measured(image: _Made) -> dict[str, Any]:
    proxy = image.proxy
    values = {field.name: getattr(proxy, field.name) for field in fields(proxy) if field.name != "outcome"}
    return values | {
        "file_id": image.file_id,
        "content_version": image.content,
        "status": proxy.outcome.value,
        "saved_bytes": proxy.original_bytes - proxy.proxy_bytes,
        "saving_ratio": 1 - proxy.proxy_bytes / proxy.original_bytes if proxy.original_bytes else None,
    }


def _write_attempts(connection: Connection, run: Run, images: Sequence[_Made], now: datetime) -> None:
    fixed = {"run_id": run.run_id, "stage": Stage.PROXY.value, "called": False, "recorded_at": now}
    rows = [
        {**fixed, "file_id": image.file_id, "started_at": image.started_at, "seconds": image.proxy.seconds}
        for image in images
    ]
    connection.execute(insert(image_attempts), rows)


def _decide(
    connection: Connection, run: Run, images: Sequence[_Made], row_ids: Mapping[int, int], now: datetime
) -> None:
    c = image_run_items.c
    decided = update(image_run_items).where(c.run_id == run.run_id, c.file_id == bindparam("of_file"))
    decided = decided.values(
        proxy_outcome=bindparam("outcome"),
        proxy_code=bindparam("reason"),
        proxy_message=None,
        proxy_decided_at=now,
        proxy_id=bindparam("row_id"),
    )
    connection.execute(
        decided,
        [
            {
                "of_file": image.file_id,
                "outcome": image.proxy.outcome.value,
                "reason": image.proxy.reason,
                "row_id": row_ids[image.file_id],
            }
            for image in images
        ],
    )
