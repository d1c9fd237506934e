"""What stored bytes cost a month: an estimate from measured bytes and a price with its date.

A proxy of an original that lies in S3 anyway adds storage. Where the original lies elsewhere, the proxy stands in S3 in
its place, and the difference is storage that was avoided.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from include.catalog.records import StorageBytes


@dataclass(frozen=True, slots=True)
class StoragePrice:
    """US dollars for a GB (of `bytes_per_gb`) and month, with the day and place it was read."""

    usd_per_gb_month: float
    bytes_per_gb: int
    what: str
    date: str
    source: str

    def usd_month(self, count: int) -> float:
        """Return US dollars a month for that many bytes."""
        return count / self.bytes_per_gb * self.usd_per_gb_month


def storage_price(own_usd_per_gb_month: float | None = None) -> StoragePrice:
    """Return the packaged price, or a team's own in its place."""
    price = _packaged()
    if own_usd_per_gb_month is None:
        return price
    return replace(price, usd_per_gb_month=own_usd_per_gb_month, what="own price", date="configured", source="settings")


@cache
def _packaged() -> StoragePrice:
    text = resources.files("include.savings").joinpath("storage_price.json").read_text("utf-8")
    return StoragePrice(**json.loads(text))


def bytes_avoided(storage: StorageBytes) -> int:
    """Return bytes that would stand in S3 if originals had been uploaded instead; negative when proxies are larger."""
    return storage.original_elsewhere - storage.uploaded_for_elsewhere


def bytes_added(storage: StorageBytes) -> int:
    """Return bytes that stand in S3 beside originals that lie there anyway."""
    return storage.uploaded_for_s3


def s3_reduction_percent(storage: StorageBytes) -> float | None:
    """Return how much less stands in S3 than with all originals there: negative where proxies only add to it."""
    without = storage.original_in_s3 + storage.original_elsewhere
    with_proxies = storage.original_in_s3 + storage.uploaded_for_s3 + storage.uploaded_for_elsewhere
    return round(100 * (1 - with_proxies / without), 2) if without else None
