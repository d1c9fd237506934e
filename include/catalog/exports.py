"""Current analyses on their way out of the catalog, one row an image, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select

from include.catalog.records import AnalysisFilter, Outcome
from include.catalog.store import Store, is_source
from include.catalog.tables import current_image_analyses, files, image_analyses, image_proxies

ROWS_AT_ONCE = 1000  # what a cursor brings into memory at a time


def current_analyses(store: Store, wanted: AnalysisFilter) -> Iterator[Mapping[str, Any]]:
    """Rows with the columns of the view `current_image_analyses`, by file id, of images that have an analysis.

    Without a filter these are the view's rows. With one, each image's newest current analysis *that passes it*: what
    one model said is found also where another was asked since. One statement in one transaction, so that the rows are
    of one moment, and `ROWS_AT_ONCE` of them in memory.
    """
    with store.streaming() as connection:
        rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(_query(wanted))
        for row in rows.mappings():
            yield dict(row)


def _query(wanted: AnalysisFilter) -> Select[Any]:
    f, p = files.c, image_proxies.c
    newest_analysis, newest_proxy = image_analyses.alias("newest_analysis"), image_proxies.alias("newest_proxy")
    n = newest_analysis.c
    analysis_id = (
        select(func.max(n.id))
        .where(_current(n, Outcome.ANALYSED.value), *_passes(n, wanted))
        .correlate(files)
        .scalar_subquery()
    )
    proxy_id = (
        select(func.max(newest_proxy.c.id))
        .where(_current(newest_proxy.c, Outcome.PROXIED.value, Outcome.KEPT.value))
        .correlate(files)
        .scalar_subquery()
    )
    query = (
        select(*_columns())
        .select_from(files)
        .join(image_analyses, image_analyses.c.id == analysis_id)
        .outerjoin(image_proxies, p.id == proxy_id)
        .where(is_source())
        .order_by(f.id)
    )
    if wanted.run_id is not None:  # so that a small run of a large catalog is found by its index
        of_run = select(image_analyses.c.file_id).where(image_analyses.c.run_id == wanted.run_id)
        query = query.where(f.id.in_(of_run))
    return query


def _current(rows: Any, *statuses: str) -> ColumnElement[bool]:
    """Current rows of one image's present content; the image is the query's row of `files`."""
    f = files.c
    image = and_(rows.file_id == f.id, rows.content_version == f.content_version)
    return and_(image, rows.superseded_at.is_(None), rows.status.in_(statuses))


def _passes(rows: Any, wanted: AnalysisFilter) -> list[ColumnElement[bool]]:
    equal = {
        "run_id": wanted.run_id,
        "model_id": wanted.model_id,
        "prompt_version": wanted.prompt_version,
        "endpoint": wanted.endpoint,
    }
    tests = [rows[name] == value for name, value in equal.items() if value is not None]
    if wanted.written_from is not None:
        tests.append(rows.created_at >= wanted.written_from)
    if wanted.written_to is not None:
        tests.append(rows.created_at < wanted.written_to)
    return tests


_RENAMED = {
    "file_id": files.c.id,
    "proxy_status": image_proxies.c.status,
    "proxy_uri": image_proxies.c.uri,
    "proxy_recipe_version": image_proxies.c.recipe_version,
    "proxy_format": image_proxies.c.format,
    "proxy_width": image_proxies.c.width,
    "proxy_height": image_proxies.c.height,
    "analysed_recipe_version": image_analyses.c.recipe_version,
    "analysed_at": image_analyses.c.created_at,
    "content_version": files.c.content_version,
    "uri": files.c.uri,
}


def _columns() -> list[ColumnElement[Any]]:
    """The view's columns, in its order, from the tables that the view takes them from."""
    found: list[ColumnElement[Any]] = []
    for name in (column.name for column in current_image_analyses.c):
        tables = (image_analyses, files, image_proxies)
        source = _RENAMED.get(name)
        if source is None:
            source = next(table.c[name] for table in tables if name in table.c)
        found.append(source.label(name))
    return found
