"""What a run did, asked of the rows. Nothing here was collected on the side."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, and_, case, func, or_, select

from include.catalog.daily import storage_bytes, storage_sums
from include.catalog.records import ImageReport, ImageSizes, Outcome, RunCounts, RunFigures
from include.catalog.runs import ENDED, Run, final_outcome, load_run
from include.catalog.store import Store, analysis_key, proxy_key
from include.catalog.tables import (
    files,
    image_analyses,
    image_attempts,
    image_proxies,
    image_run_items,
    image_runs,
)

MEGABYTE = 1_000_000  # "over 1 MB" means more bytes than this

_item = image_run_items.c
_proxy = image_proxies.c


def run_counts(store: Store, run_id: str) -> RunCounts:
    """How many images of the run ended how; undecided are those that lack an outcome at a wanted stage."""
    with store.reading() as connection:
        return _counts(connection, load_run(connection, run_id))


def run_figures(store: Store, run_id: str) -> RunFigures:
    """The run in numbers. Bytes and savings are those of proxies made and originals kept by this run: kept images are
    in with what they are served as, failed ones are out."""
    with store.reading() as connection:
        run = load_run(connection, run_id)
        stored = connection.execute(select(image_runs).where(image_runs.c.run_id == run_id)).one()
        counts = _counts(connection, run)
        by_outcome = counts.by_outcome
        return RunFigures(
            run_id=run_id,
            dag_id=stored.dag_id,
            dag_run_id=stored.dag_run_id,
            nova_endpoint=stored.nova_endpoint,
            started_at=stored.started_at,
            finished_at=stored.finished_at,
            images_listed=counts.listed,
            failed=by_outcome.get(Outcome.FAILED, 0),
            skipped=by_outcome.get(Outcome.SKIPPED, 0),
            returned=by_outcome.get(Outcome.RETURNED, 0),
            undecided=counts.undecided,
            proxy_seconds=_proxy_seconds(connection, run_id),
            **_stage_counts(connection, run_id),
            **_bytes(connection, run_id),
            **_calls(connection, run_id),
            model_id=stored.model_id,
            plan_note=stored.plan_note,
            returned_codes=_returned_codes(connection, run),
            storage=storage_bytes(_analysed_storage(connection, run_id)),
            image_sizes=_analysed_sizes(connection, run_id),
        )


def run_images(store: Store, run_id: str) -> list[ImageReport]:
    """Every image of the run, by file id, with the proxy and the analysis it has now or had from this run."""
    with store.reading() as connection:
        run = load_run(connection, run_id)
        return [_report(row) for row in connection.execute(_images(run))]


def run_failures(store: Store, run_id: str) -> list[ImageReport]:
    """The images that failed, by file id."""
    with store.reading() as connection:
        run = load_run(connection, run_id)
        failed = _images(run).where(final_outcome(run.stages) == Outcome.FAILED.value)
        return [_report(row) for row in connection.execute(failed)]


def _counts(connection: Connection, run: Run) -> RunCounts:
    outcome = final_outcome(run.stages)
    rows = connection.execute(
        select(outcome, func.count()).where(_item.run_id == run.run_id).group_by(outcome).order_by(outcome)
    )
    counts = {name: int(count) for name, count in rows}
    return RunCounts(
        listed=sum(counts.values()),
        by_outcome={Outcome(name): count for name, count in counts.items() if name is not None},
        undecided=counts.get(None, 0),
    )


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _stage_counts(connection: Connection, run_id: str) -> dict[str, Any]:
    counted = {
        "proxies_created": _count_if(_item.proxy_outcome == Outcome.PROXIED.value),
        "originals_kept": _count_if(_item.proxy_outcome == Outcome.KEPT.value),
        "analyses_written": _count_if(_item.analysis_outcome == Outcome.ANALYSED.value),
    }
    query = select(*(value.label(name) for name, value in counted.items())).where(_item.run_id == run_id)
    return dict(connection.execute(query).mappings().one())


def _made_by(run_id: str) -> ColumnElement[bool]:
    good = (Outcome.PROXIED.value, Outcome.KEPT.value)
    return and_(_item.run_id == run_id, _item.proxy_outcome.in_(good))


_ITEM_PROXIES = image_run_items.join(image_proxies, _proxy.id == _item.proxy_id)


def _bytes(connection: Connection, run_id: str) -> dict[str, Any]:
    large = _proxy.original_bytes > MEGABYTE
    sums = {
        "bytes_original": func.sum(_proxy.original_bytes),
        "bytes_served": func.sum(_proxy.proxy_bytes),
        "bytes_uploaded": func.sum(_proxy.bytes_uploaded),
        "bytes_original_over_1mb": func.sum(case((large, _proxy.original_bytes))),
        "bytes_served_over_1mb": func.sum(case((large, _proxy.proxy_bytes))),
    }
    means = {
        "mean_saving_ratio": func.avg(_proxy.saving_ratio),
        "mean_saving_ratio_over_1mb": func.avg(case((large, _proxy.saving_ratio))),
    }
    columns = [value.label(name) for name, value in {**sums, **means}.items()]
    row = connection.execute(select(*columns).select_from(_ITEM_PROXIES).where(_made_by(run_id))).mappings().one()
    return {name: int(row[name] or 0) for name in sums} | {name: row[name] for name in means}


def _proxy_seconds(connection: Connection, run_id: str) -> tuple[float, ...]:
    created = _item.proxy_outcome == Outcome.PROXIED.value
    return tuple(
        connection.scalars(
            select(_proxy.seconds)
            .select_from(_ITEM_PROXIES)
            .where(_made_by(run_id), created, _proxy.seconds.is_not(None))
            .order_by(_proxy.seconds)
        )
    )


def _calls(connection: Connection, run_id: str) -> dict[str, Any]:
    attempt = image_attempts.c
    query = select(
        func.count().label("nova_calls"),
        func.sum(attempt.input_tokens).label("input_tokens"),
        func.sum(attempt.output_tokens).label("output_tokens"),
        func.sum(attempt.cost_usd).label("cost_usd"),
        func.sum(attempt.cost_usd_projected).label("cost_usd_projected"),
        *(func.sum(attempt[name]).label(name) for name in ("billed_input_tokens", "request_bytes")),
    ).where(attempt.run_id == run_id, attempt.called)
    row = dict(connection.execute(query).mappings().one())
    counts = ("input_tokens", "output_tokens", "billed_input_tokens", "request_bytes")
    return {
        **row,
        **{name: int(row[name] or 0) for name in counts},
        "tiers": _distinct(connection, run_id, attempt.tier),
        "price_dates": _distinct(connection, run_id, attempt.price_date),
    }


def _distinct(connection: Connection, run_id: str, column: ColumnElement[Any]) -> tuple[str, ...]:
    attempt = image_attempts.c
    asked = select(column).where(attempt.run_id == run_id, attempt.called, column.is_not(None)).distinct()
    return tuple(sorted(connection.scalars(asked)))


def _returned_codes(connection: Connection, run: Run) -> dict[str, int]:
    at_proxy = _item.proxy_outcome == Outcome.RETURNED.value
    code = case((at_proxy, _item.proxy_code), else_=_item.analysis_code)
    returned = final_outcome(run.stages) == Outcome.RETURNED.value
    query = select(code, func.count()).where(_item.run_id == run.run_id, returned).group_by(code).order_by(code)
    return {name or "unknown": int(count) for name, count in connection.execute(query)}


# The proxies that Nova was shown by a run, whoever made them.
_SHOWN = image_run_items.join(image_analyses, image_analyses.c.id == _item.analysis_id).join(
    image_proxies, _proxy.id == image_analyses.c.proxy_id
)


def _analysed_by(run_id: str) -> ColumnElement[bool]:
    return and_(_item.run_id == run_id, _item.analysis_outcome == Outcome.ANALYSED.value)


def _analysed_storage(connection: Connection, run_id: str) -> dict[str, Any]:
    sums = [value.label(name) for name, value in storage_sums().items()]
    source = _SHOWN.outerjoin(files, files.c.id == _item.file_id)
    query = select(*sums).select_from(source).where(_analysed_by(run_id))
    return dict(connection.execute(query).mappings().one())


def _analysed_sizes(connection: Connection, run_id: str) -> tuple[ImageSizes, ...]:
    sides = (_proxy.original_width, _proxy.original_height, _proxy.width, _proxy.height)
    known = and_(*(side.is_not(None) for side in sides))
    query = select(*sides, func.count()).select_from(_SHOWN).where(_analysed_by(run_id), known).group_by(*sides)
    return tuple(ImageSizes(*row) for row in connection.execute(query.order_by(*sides)))


def _images(run: Run) -> Select[Any]:
    """Each item with the rows that this run wrote, or else the current ones of the run's key."""
    p, a = image_proxies.alias("p"), image_analyses.alias("a")
    outcome = final_outcome(run.stages)
    ended_at_proxy = or_(_item.analysis_outcome.is_(None), _item.proxy_outcome.in_(ENDED))
    joined = (
        image_run_items.outerjoin(files, files.c.id == _item.file_id)
        .outerjoin(p, p.c.id == func.coalesce(_item.proxy_id, _current_proxy(run)))
        .outerjoin(a, a.c.id == func.coalesce(_item.analysis_id, _current_analysis(run)))
    )
    return (
        select(
            _item.file_id,
            func.coalesce(files.c.uri, "").label("uri"),
            func.coalesce(files.c.filename, "").label("filename"),
            outcome.label("outcome"),
            p.c.action,
            p.c.reason,
            case((ended_at_proxy, _item.proxy_code), else_=_item.analysis_code).label("code"),
            case((ended_at_proxy, _item.proxy_message), else_=_item.analysis_message).label("message"),
            func.coalesce(p.c.original_bytes, files.c.size_bytes, 0).label("original_bytes"),
            func.coalesce(p.c.original_width, files.c.resolution_width).label("original_width"),
            func.coalesce(p.c.original_height, files.c.resolution_height).label("original_height"),
            p.c.proxy_bytes,
            p.c.width,
            p.c.height,
            p.c.seconds,
            a.c.description,
        )
        .select_from(joined)
        .where(_item.run_id == run.run_id)
        .order_by(_item.file_id)
    )


def _current_proxy(run: Run) -> ScalarSelect[int]:
    key = proxy_key(_item.file_id, _item.content_version, run.key)
    good = and_(_proxy.superseded_at.is_(None), _proxy.status != Outcome.FAILED.value)
    return select(_proxy.id).where(key, good).correlate(image_run_items).scalar_subquery()


def _current_analysis(run: Run) -> ScalarSelect[int]:
    analysis = image_analyses.c
    key = analysis_key(_item.file_id, _item.content_version, run.key)
    good = and_(analysis.superseded_at.is_(None), analysis.status != Outcome.FAILED.value)
    return select(analysis.id).where(key, good).correlate(image_run_items).scalar_subquery()


def _report(row: Row[Any]) -> ImageReport:
    values = dict(row._mapping)
    return ImageReport(**values | {"outcome": None if row.outcome is None else Outcome(row.outcome)})
