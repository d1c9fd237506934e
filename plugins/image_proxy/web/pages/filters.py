"""The filter form of the page of images: what its fields mean, and the query that says the same again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Form, Query

from image_proxy.web.jobs import catalog_run_id
from image_proxy.web.problems import Problem
from image_proxy.web.values import Storable
from include.catalog.browse_records import FileFilter, ImageStatus

STATUSES = {
    "pending": "No proxy yet",
    "proxied": "Proxy made",
    "kept": "Original kept",
    "failed": "Failed",
    "in_progress": "In progress",
    "analysed": "Analysed",
    "not_analysed": "Not analysed",
}
FORMATS = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "heif", "avif", "jxl", "jp2", "ico")
SIZES: dict[str, tuple[str, int | None, int | None]] = {
    "small": ("Under 1 MB", None, 999_999),
    "medium": ("1 to 5 MB", 1_000_000, 4_999_999),
    "large": ("5 MB and more", 5_000_000, None),
}

Text = Annotated[str, Query(max_length=250), Storable]


@dataclass(frozen=True, slots=True)
class Filters:
    """The form's fields as they were sent; empty ones filter nothing."""

    name: str = ""
    status: str = ""
    format: str = ""
    size: str = ""
    since: str = ""  # a day, inclusive
    until: str = ""  # a day, inclusive
    kind: str = ""  # "all": videos and documents too
    job_id: str = ""
    batch_id: str = ""

    @property
    def active(self) -> bool:
        """Whether anything is filtered."""
        return any((self.name, self.status, self.format, self.size, self.since, self.until, self.job_id))

    def query(self, **more: str) -> str:
        """Return the fields that are set, and more, as an address's query."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return urlencode({name: value for name, value in {**own, **more}.items() if value})

    def without_job(self) -> Filters:
        """Return the same over all images."""
        return replace(self, job_id="", batch_id="")

    def as_filter(self) -> FileFilter:
        """Return the catalog's filter. 422 for a value that the form does not offer."""
        if self.status not in ("", *STATUSES) or self.size not in ("", *SIZES):
            raise Problem(422, "invalid_request", "unknown status or size: use the form's own values")
        if self.batch_id and not (self.batch_id.isdecimal() and len(self.batch_id) < 8):  # noqa: PLR2004
            raise Problem(422, "invalid_request", "batch_id is a number")
        _, low, high = SIZES[self.size] if self.size else ("", None, None)
        return FileFilter(
            status=ImageStatus(self.status) if self.status else None,
            format=self.format or None,
            min_bytes=low,
            max_bytes=high,
            uploaded_from=_day(self.since),
            uploaded_to=_day(self.until, after=1),
            name=self.name or None,
            run_id=catalog_run_id(self.job_id) if self.job_id else None,
            batch_id=int(self.batch_id) if self.batch_id else None,
            images_only=self.kind != "all",
        )


def from_query(
    name: Text = "",
    status: Text = "",
    format: Text = "",
    size: Text = "",
    since: Text = "",
    until: Text = "",
    kind: Text = "",
    job_id: Text = "",
    batch_id: Text = "",
) -> Filters:
    """Return the filters in an address."""
    return Filters(name, status, format, size, since, until, kind, job_id, batch_id)


FormText = Annotated[str, Form(max_length=250), Storable]


def from_form(
    name: FormText = "",
    status: FormText = "",
    format: FormText = "",
    size: FormText = "",
    since: FormText = "",
    until: FormText = "",
    kind: FormText = "",
    job_id: FormText = "",
    batch_id: FormText = "",
) -> Filters:
    """Return the filters that a form was sent with."""
    return Filters(name, status, format, size, since, until, kind, job_id, batch_id)


FiltersDep = Annotated[Filters, Depends(from_query)]
FormFiltersDep = Annotated[Filters, Depends(from_form)]


def _day(text: str, after: int = 0) -> datetime | None:
    """The beginning of a day, or of that many days after it."""
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=after)
    except (ValueError, OverflowError):
        raise Problem(422, "invalid_request", "a day is written like 2026-11-22") from None
