"""Keep catalog and bucket in agreement: what is missing, unknown, expired, vanished, too old, or to be forgotten.

Nothing is changed under ``dry_run``, which is the default. Objects are deleted only in our bucket, only below our
prefix, and only where the key has the form that `object_key` gives it.

The bucket's listing and the catalog are both walked in byte order, side by side, so that memory stays bounded at any
size. That order only makes it quick: what is found is asked for once more before anything is done about it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from include.catalog.records import Derived, StoredPreview
from include.pipeline.maintenance_params import MaintenanceParams
from include.pipeline.settings import Settings
from include.storage.errors import SourceError
from include.storage.listings import Listed, Source, list_folder, list_prefix, parse_source
from include.storage.objects import delete_objects, is_missing
from include.storage.sources import fetch_source

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

TOLD: Final = 50  # findings that are written to the log one by one
_PAGE: Final = 1000
_LEASE_GRACE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The five steps, each for itself. ``s3`` is a boto3 S3 client. Every step returns counts."""

    catalog: Catalog
    s3: Any
    settings: Settings
    params: MaintenanceParams

    def leases(self) -> dict[str, int]:
        """Remove claims whose lease ended more than an hour ago: of tasks that were killed, on images free again."""
        before = self.catalog.now() - _LEASE_GRACE
        return {"expired_leases": self.catalog.expired_claims(before, remove=not self.params.dry_run)}

    def bucket(self) -> dict[str, int]:
        """Compare the bucket with the catalog.

        A current proxy without its object is superseded, so that the next run makes it again. An object without a row
        is reported, and deleted when the param says so.
        """
        counts: Counter[str] = Counter(
            objects=0, recorded=0, missing=0, unknown=0, unknown_deleted=0, young=0, others=0
        )
        missing, unknown = _Told("missing in the bucket"), _Told("in the bucket without a row")
        youngest = self.catalog.now() - timedelta(hours=self.params.grace_hours)
        for finding in _pages(self._compared(counts)):
            lost = [uri for uri, found, recorded in finding if recorded and found is None and is_missing(self.s3, uri)]
            counts["missing"] += missing.tell(lost)
            if not self.params.dry_run:
                self.catalog.supersede_missing(lost)
            strange = {uri: found for uri, found, recorded in finding if recorded is None and found is not None}
            strange = {uri: strange[uri] for uri in strange.keys() - self.catalog.known_objects(list(strange))}
            old = sorted(uri for uri, found in strange.items() if found.changed_at < youngest)
            counts["young"] += len(strange) - len(old)
            counts["unknown"] += unknown.tell(old)
            if self.params.delete_unknown_objects and not self.params.dry_run:
                counts["unknown_deleted"] += self._delete(old)
        return dict(counts)

    def sources(self) -> dict[str, int]:
        """Look for originals that are gone, below each source of the settings.

        They are reported, and noted in `image_vanished` when the param says so; an analysis of an existing proxy needs
        no original. Raises for a source that cannot be listed: an unmounted folder has not lost its pictures.
        """
        counts: Counter[str] = Counter(images=0, vanished=0, noted=0, there_again=0)
        told = _Told("gone from its source")
        for source in map(parse_source, self.settings.ingest_sources):
            pairs = self._compared_source(source)
            for page in _pages(pairs):
                rows = [(uri, found, file_id) for uri, found, file_id in page if file_id is not None]
                gone = {uri: file_id for uri, found, file_id in rows if found is None and self._is_gone(uri)}
                counts["images"] += len(rows)
                counts["vanished"] += told.tell(sorted(gone))
                self._note(counts, rows, set(gone.values()))
        return dict(counts)

    def retention(self) -> dict[str, int]:
        """Supersede what was made of content that an image no longer has, and delete what was superseded long ago.

        Without `retention_days` nothing is deleted. What Nova was paid stays in `image_attempts`.
        """
        act = not self.params.dry_run
        counts = Counter(of_other_content=self.catalog.of_other_content(supersede=act))
        if self.params.retention_days is None:
            return dict(counts)
        before = self.catalog.now() - timedelta(days=self.params.retention_days)
        counts["old_analyses"] = self.catalog.superseded_analyses(before, remove=act)
        last = 0
        while rows := self.catalog.superseded(before, last):
            last = rows[-1].proxy_id
            counts["old_proxies"] += len(rows)
            counts["objects_deleted"] += self._remove(rows)
        former: StoredPreview | None = None
        while previews := self.catalog.former_previews(before, former):
            former = previews[-1]
            counts["old_previews"] += len(previews)
            counts["objects_deleted"] += self._remove_previews(previews)
        return dict(counts)

    def deletion(self) -> dict[str, int]:
        """Forget images: their analyses, their proxies and previews with the objects, and their rows.

        Originals are not touched.
        """
        ids, refused = self.catalog.deletable(self.params.file_ids_to_delete)
        for file_id, why in refused.items():
            log.warning("image %s is not deleted: %s", file_id, why)
        derived, previews = self.catalog.derived_of(ids), self.catalog.previews_of(ids)
        counts = Counter(images=len(ids), refused=len(refused), proxies=len(derived), previews=len(previews))
        counts["analyses"] = self.catalog.count_analyses(ids)
        named = [one.uri for one in derived if one.uri] + [one.uri for one in previews]
        _Told("to be deleted" if self.params.dry_run else "deleted").tell(named)
        if not self.params.dry_run:
            counts["objects_deleted"] = self._remove(derived) + self._remove_previews(previews)
            self.catalog.forget(ids)
        return dict(counts)

    def _compared(self, counts: Counter[str]) -> Iterator[tuple[str, Listed | None, bool | None]]:
        """Bucket and catalog side by side: uri, what the bucket has, and whether the catalog's row is current."""
        base = f"s3://{self.settings.required_bucket}/{self.settings.prefix.strip('/')}/"
        listed = self._own_objects(base, counts)
        for uri, found, current in side_by_side(listed, self.catalog.recorded_uris(base)):
            counts["objects"] += found is not None
            counts["recorded"] += bool(current)
            if (found is None and current) or current is None:
                yield uri, found, current

    def _own_objects(self, base: str, counts: Counter[str]) -> Iterator[tuple[str, Listed]]:
        bucket, prefix = base.removeprefix("s3://").split("/", 1)
        for _, page in list_prefix(self.s3, bucket, prefix):
            for found in page:
                if is_own_object(found.uri, self.settings):
                    yield found.uri, found
                else:
                    counts["others"] += 1  # somebody else's, below our prefix: none of our business

    def _compared_source(self, source: Source) -> Iterator[tuple[str, Listed | None, int | None]]:
        if source.folder is not None:
            next(list_folder(source.folder))  # raises when it cannot be listed
            rows = self.catalog.source_uris(f"{source.name.rstrip('/')}/")
            return ((uri, None, file_id) for uri, file_id in rows)  # each is looked at: that is quick here
        pages = list_prefix(self.s3, str(source.bucket), source.prefix)
        listed = ((found.uri, found) for _, page in pages for found in page)
        return side_by_side(listed, self.catalog.source_uris(source.name))

    def _is_gone(self, uri: str) -> bool:
        if uri.startswith("s3://"):
            return is_missing(self.s3, uri)
        try:
            fetch_source(uri, Path())
        except SourceError as error:
            return error.code == "source_missing"
        return False

    def _note(self, counts: Counter[str], rows: Sequence[tuple[str, Any, int]], gone: set[int]) -> None:
        noted = self.catalog.vanished_ids([file_id for _, _, file_id in rows])
        there_again = noted - gone
        counts["there_again"] += len(there_again)
        if self.params.mark_vanished and not self.params.dry_run:
            self.catalog.mark_vanished(sorted(gone - noted), sorted(there_again))
            counts["noted"] += len(gone - noted)

    def _remove(self, rows: Sequence[Derived]) -> int:
        """Delete objects, then their rows: after a crash between the two the next run ends it."""
        if self.params.dry_run:
            return 0
        uris = {row.uri for row in rows if row.uri and not row.shared and is_own_object(row.uri, self.settings)}
        deleted = self._delete(sorted(uris))
        self.catalog.delete_proxy_rows(rows)
        return deleted

    def _remove_previews(self, previews: Sequence[StoredPreview]) -> int:
        if self.params.dry_run:
            return 0
        deleted = self._delete([one.uri for one in previews if is_own_preview(one.uri, self.settings)])
        self.catalog.delete_previews(previews)
        return deleted

    def _delete(self, uris: Sequence[str]) -> int:
        bucket = self.settings.required_bucket
        return delete_objects(self.s3, bucket, [uri.removeprefix(f"s3://{bucket}/") for uri in uris])


def is_own_object(uri: str, settings: Settings) -> bool:
    """Whether a uri is one that `object_key` gives: in our bucket, below our prefix, of that form."""
    return _has_form(uri, settings, settings.prefix, r"[0-9a-f]{12}-[0-9a-f]{12}/[^/]+_\d+_nova\.[a-z0-9]{1,8}")


def is_own_preview(uri: str, settings: Settings) -> bool:
    """Whether a uri is one that `preview_key` gives."""
    return _has_form(uri, settings, settings.preview_prefix, r"\d+-[0-9a-f]{12}/[^/]+_\d+_preview\.[a-z0-9]{1,8}")


def _has_form(uri: str, settings: Settings, prefix: str, form: str) -> bool:
    base = f"s3://{settings.bucket}/{prefix.strip('/')}/"
    return uri.startswith(base) and re.fullmatch(form, uri[len(base) :]) is not None


L = TypeVar("L")
R = TypeVar("R")


def side_by_side(
    left: Iterable[tuple[str, L]], right: Iterable[tuple[str, R]]
) -> Iterator[tuple[str, L | None, R | None]]:
    """Two streams in the order of their keys as one: each key, with what either has for it, or None."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - for the type checker
            yield one[0], one[1], None
            one = next(lefts, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(rights, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(lefts, None), next(rights, None)


def _pages(items: Iterator[L]) -> Iterator[list[L]]:
    while page := list(islice(items, _PAGE)):
        yield page


class _Told:
    """Writes the first findings of a kind to the log, and says when it stops."""

    def __init__(self, what: str) -> None:
        self._what, self._count = what, 0

    def tell(self, uris: Sequence[str]) -> int:
        """Log them; return how many there are."""
        for uri in uris:
            self._count += 1
            if self._count <= TOLD:
                log.warning("%s: %s", self._what, uri)
            elif self._count == TOLD + 1:
                log.warning("%s: and more, which are only counted", self._what)
        return len(uris)
