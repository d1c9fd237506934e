"""What the targets are held against: figures over all current proxies, measured, of each image the newest."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, not_, select

from include.catalog.figures import newest_good
from include.catalog.records import Outcome
from include.catalog.reports import MEGABYTE
from include.catalog.store import Store
from include.catalog.tables import files, image_previews, image_proxies

SECONDS_LIMIT = 2.0  # what an image may take


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """Measured; None or 0 where nothing was measured yet."""

    large_images: int  # originals above 1,000,000 bytes
    large_mean_saving_ratio: float | None
    timed_images: int  # proxies made, from fetching the original to the end of the upload
    in_time_images: int  # of them in under SECONDS_LIMIT
    mean_seconds: float | None
    outside_bytes: int  # originals that are not in S3 anyway
    outside_stored_bytes: int  # what S3 holds in their place, without previews
    preview_bytes: int  # stored for people to look at
    inside_images: int  # originals that are in S3 already: their proxies add storage


def target_figures(store: Store) -> TargetFigures:
    """The figures, in one pass over the proxies."""
    p, inside = image_proxies.c, files.c.uri.like("s3://%")
    large, made = p.original_bytes > MEGABYTE, p.status == Outcome.PROXIED.value
    timed = made & p.seconds.is_not(None)
    stored = case((made, p.proxy_bytes), else_=p.bytes_uploaded)
    query = (
        select(
            func.count(case((large, 1))),
            func.avg(case((large, p.saving_ratio))),
            func.count(case((timed, 1))),
            func.count(case((timed & (p.seconds < SECONDS_LIMIT), 1))),
            func.avg(case((timed, p.seconds))),
            func.sum(case((not_(inside), p.original_bytes), else_=0)),
            func.sum(case((not_(inside), stored), else_=0)),
            func.count(case((inside, 1))),
        )
        .select_from(image_proxies.join(files, files.c.id == p.file_id))
        .where(newest_good())
    )
    with store.reading() as connection:
        row = connection.execute(query).one()
        previews = connection.scalar(select(func.sum(image_previews.c.bytes)))
    ratio, seconds = row[1], row[4]
    return TargetFigures(
        large_images=row[0],
        large_mean_saving_ratio=None if ratio is None else float(ratio),
        timed_images=row[2],
        in_time_images=row[3],
        mean_seconds=None if seconds is None else float(seconds),
        outside_bytes=int(row[5] or 0),
        outside_stored_bytes=int(row[6] or 0),
        preview_bytes=int(previews or 0),
        inside_images=row[7],
    )
