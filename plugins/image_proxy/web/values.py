"""Checks of values in requests: what passes them, every database and every clock takes."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AfterValidator


def _storable(text: str) -> str:
    if "\0" in text:  # PostgreSQL takes none
        raise ValueError("it holds a NUL character, and no text in the catalog does")
    return text


def _in_utc(moment: datetime) -> datetime:
    """The first and the last hours of the calendar can be beyond it in UTC. Naive ones are refused elsewhere."""
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is outside of the years 1 to 9999 in UTC") from None


Storable = AfterValidator(_storable)
InUtc = AfterValidator(_in_utc)
