"""The failure ledger: what failed and stands so, how often it was tried, why it failed, when it is tried again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select

from include.catalog.records import FailedImage, LedgerCounts, Stage, WorkKey
from include.catalog.store import Store, chunks
from include.catalog.tables import image_claims, image_failures, image_runs


def failures(store: Store, file_ids: Sequence[int] | None = None, limit: int = 1000) -> list[FailedImage]:
    """The ledger's lines, oldest image first; of these images, or the first `limit` of all."""
    c = image_failures.c
    columns = (*(c.file_id, c.uri, c.stage, c.code, c.message, c.attempts, c.last_try_at, c.next_try_at, c.run_id),)
    query = select(*columns).order_by(c.file_id, c.stage).limit(limit)
    with store.reading() as connection:
        if file_ids is None:
            rows = list(connection.execute(query))
        else:
            rows = [row for ids in chunks(file_ids) for row in connection.execute(query.where(c.file_id.in_(ids)))]
    return [FailedImage(row[0], row[1], Stage(row.stage), *row[3:]) for row in rows]


def ledger_counts(store: Store, key: WorkKey) -> LedgerCounts:
    """The ledger in numbers, for what a run with this key would look at."""
    c, now = image_failures.c, store.now()
    of_key = or_(
        and_(c.stage == Stage.PROXY.value, c.recipe_version == key.recipe_version),
        and_(
            c.recipe_version == key.recipe_version,
            c.model_id == key.model_id,
            c.prompt_version == key.prompt_version,
        ),
    )
    later = func.min(c.next_try_at).filter(c.next_try_at > now)
    columns = (_count(c.next_try_at <= now), _count(c.next_try_at > now), _count(c.next_try_at.is_(None)), later)
    with store.reading() as connection:
        row = connection.execute(select(*columns).where(of_key)).one()
    return LedgerCounts(*row)


def others_at_work(store: Store, run_id: str, run_types: Sequence[str]) -> bool:
    """Whether another run of these types holds an image with a live lease at this moment."""
    claim, run = image_claims.c, image_runs.c
    query = (
        select(claim.file_id)
        .select_from(image_claims.join(image_runs, run.run_id == claim.run_id))
        .where(claim.run_id != run_id, claim.lease_until > store.now(), run.run_type.in_(run_types))
        .limit(1)
    )
    with store.reading() as connection:
        return connection.execute(query).first() is not None


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)
