"""New images come into the catalog: from a listing of a source, or from the messages that a bucket sends.

Only the first bytes of a new or changed file are read; its content version is what S3 calls its ETag, or a file's size
and time of change. Registering is idempotent, so whatever is seen twice does no harm.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from include.catalog.records import NewImage
from include.imaging import DecodeWorkers, HeaderInfo, ProxyError
from include.pipeline.batches import RunCancelled
from include.pipeline.settings import Settings
from include.storage.errors import SourceError
from include.storage.events import Created
from include.storage.listings import (
    Head,
    Listed,
    Source,
    is_hidden,
    list_folder,
    list_prefix,
    read_file_head,
    read_object_head,
)
from include.storage.media_types import media_type_of
from include.storage.sources import fetch_source, split_s3_uri

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

READERS: Final = 8  # range requests at the same moment; a header is mostly waiting
DECODERS: Final = 2
# A header may lie behind a large colour profile or preview. Read again from the start, once.
LONGER: Final = 16
_MAYBE_LONGER: Final = frozenset({"truncated", "corrupt"})
_UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class IngestCounts:
    """What became of what was listed, or named by events."""

    listed: int  # by the listing, or by the events
    older: int  # before the watermark: not looked at
    new: int
    changed: int
    unchanged: int
    skipped: Mapping[str, int]  # by reason
    header_reads: int
    header_bytes: int  # read from S3 or disk in all, for headers
    complete: bool = True  # False: the limit was reached, the next run goes on

    @property
    def registered(self) -> int:
        """Return how many images are new or have new content."""
        return self.new + self.changed

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for an asset event."""
        names = ("listed", "older", "new", "changed", "unchanged", "header_reads", "header_bytes", "complete")
        return {name: getattr(self, name) for name in names} | {"skipped": dict(self.skipped)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be new. `version` is None when only an event named it."""

    uri: str
    filename: str
    version: str | None = None
    size_bytes: int = 0

    @property
    def key(self) -> tuple[str, str] | None:
        """Return bucket and key, None for a folder's file."""
        return split_s3_uri(self.uri) if self.uri.startswith("s3://") else None


@dataclass
class _Totals:
    """What has been counted so far. Only its owner's thread writes."""

    listed: int = 0
    older: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    header_reads: int = 0
    header_bytes: int = 0
    complete: bool = True
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Described:
    """One candidate after its header was read: the row to register, or why there is none."""

    image: NewImage | None = None
    reason: str = ""
    reads: int = 0
    bytes_read: int = 0


class Registrar:
    """Registers candidates, a page at a time; a context manager, for it keeps threads and decode processes.

    ``s3`` is a boto3 S3 client; it may be None where only folders are read.
    """

    def __init__(self, catalog: Catalog, s3: Any, settings: Settings) -> None:
        self._catalog, self._s3, self._settings = catalog, s3, settings
        self.totals = _Totals()
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            folder = tempfile.TemporaryDirectory(prefix="image-headers-", dir=self._settings.temp_dir)
            self._scratch = Path(starting.enter_context(folder))
            self._workers = starting.enter_context(DecodeWorkers(DECODERS))
            self._threads = starting.enter_context(ThreadPoolExecutor(READERS, thread_name_prefix="header"))
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def counts(self) -> IngestCounts:
        """Return the totals so far."""
        return IngestCounts(**{**vars(self.totals), "skipped": dict(self.totals.skipped)})

    def register(self, candidates: Sequence[Candidate], limit: int | None = None) -> frozenset[str]:
        """Register one page, at most ``limit`` files of it; return the uris that could not be read, nor registered.

        Raises `StorageUnavailable`; pages before stay registered.
        """
        wanted = {candidate.uri: candidate for candidate in candidates if not self._passes_by(candidate)}
        known = self._catalog.content_versions(list(wanted))
        fresh = [candidate for candidate in wanted.values() if not self._is_known(candidate, known)]
        self.totals.unchanged += len(wanted) - len(fresh)
        if limit is not None and len(fresh) > limit:
            fresh, self.totals.complete = fresh[:limit], False
        described = list(self._threads.map(lambda candidate: self._describe(candidate, known), fresh))
        for result in described:
            self.totals.header_reads += result.reads
            self.totals.header_bytes += result.bytes_read
            if result.reason:
                self.totals.skipped[result.reason] += 1
        counts = self._catalog.register([result.image for result in described if result.image])
        self.totals.new += counts.new
        self.totals.changed += counts.changed
        self.totals.unchanged += counts.unchanged
        return frozenset(
            candidate.uri for candidate, result in zip(fresh, described, strict=True) if result.reason == "unreadable"
        )

    def _passes_by(self, candidate: Candidate) -> bool:
        reason = why_not(candidate, self._settings)
        if reason:
            self.totals.skipped[reason] += 1
        return reason is not None

    def _is_known(self, candidate: Candidate, known: Mapping[str, str]) -> bool:
        version = known.get(candidate.uri)
        if version is None or candidate.version is None:
            return False
        if version.startswith("sha256:") and candidate.version.startswith("stat:"):
            return version == _sha256(candidate)  # registered by its bytes before: only its bytes say that it changed
        return version == candidate.version

    def _describe(self, candidate: Candidate, known: Mapping[str, str]) -> _Described:
        count = self._settings.ingest_header_bytes
        try:
            head = self._read(candidate, count)
        except SourceError as error:
            return self._unreadable(candidate, error)
        reads, size = 1, len(head.data)
        if candidate.version is None and known.get(candidate.uri) == head.version:
            return _Described(_row(candidate, head, None), "", reads, size)  # the same event twice
        header, code = self._header(candidate, head)
        if code in _MAYBE_LONGER and head.size_bytes > count:
            try:
                head = self._read(candidate, LONGER * count)
            except SourceError as error:
                return self._unreadable(candidate, error)
            reads, size = reads + 1, size + len(head.data)
            header, _ = self._header(candidate, head)
        return _Described(_row(candidate, head, header), "", reads, size)

    def _read(self, candidate: Candidate, count: int) -> Head:
        if candidate.key is not None:
            return read_object_head(self._s3, candidate.uri, count)
        return read_file_head(fetch_source(candidate.uri, self._scratch).path, count)

    def _unreadable(self, candidate: Candidate, error: SourceError) -> _Described:
        """Registered all the same when the listing said enough: then its run says what is wrong, on its row."""
        if error.code == "source_missing":
            return _Described(reason="vanished")
        log.warning("%s: %s", candidate.uri, error)
        if candidate.version is None:
            return _Described(reason="unreadable")
        return _Described(_row(candidate, Head(b"", candidate.size_bytes, candidate.version, None), None))

    def _header(self, candidate: Candidate, head: Head) -> tuple[HeaderInfo | None, str]:
        """What the first bytes say, or the code of why they say nothing."""
        media_type = media_type_of(candidate.filename, head.data)
        if not head.data or not media_type.startswith(("image/", _UNKNOWN_TYPE)):
            return None, ""
        with tempfile.NamedTemporaryFile(dir=self._scratch) as file:
            file.write(head.data)
            file.flush()
            try:
                header = self._workers.read_header(file.name)
            except ProxyError as error:
                return None, error.code
        is_raw = header.format == "tiff" and media_type not in ("image/tiff", _UNKNOWN_TYPE)  # its first is a preview
        return (None, "") if is_raw else (header, "")


def ingest_source(
    catalog: Catalog,
    s3: Any,
    settings: Settings,
    source: Source,
    *,
    full: bool = False,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> IngestCounts:
    """List a source and register what is new or changed; ``full`` looks at every file, not only at recent ones.

    The watermark moves only when a listing reached its end, to the moment when it *began*: a file that came meanwhile
    behind the listing's back is younger than that. Raises `StorageUnavailable`, `SourceError` for a folder that
    cannot be listed, `RunCancelled` when stopped; what was registered until then stays.
    """
    watermark = None if full else catalog.watermark(source.name)
    since = watermark - timedelta(seconds=settings.ingest_overlap_seconds) if watermark else None
    began_at: datetime | None = None
    with Registrar(catalog, s3, settings) as registrar:
        totals = registrar.totals
        for answered_at, page in _pages(source, s3):
            began_at = began_at or answered_at
            if stop is not None and stop.is_set():
                raise RunCancelled(f"stopped after {totals.listed} files; what was registered stays")
            recent = [listed for listed in page if since is None or listed.changed_at >= since]
            totals.listed += len(page)
            totals.older += len(page) - len(recent)
            room = None if limit is None else limit - totals.new - totals.changed
            registrar.register([_candidate(listed) for listed in recent], room)
            if not totals.complete:
                break
        if totals.complete and began_at is not None:
            catalog.record_listing(source.name, began_at, totals.listed)
        return registrar.counts


def why_not(candidate: Candidate, settings: Settings) -> str | None:
    """Return why a file is no candidate at all, by its name; None when it is one."""
    if "\0" in candidate.uri:
        return "name_not_storable"
    if candidate.key is None:
        return None
    bucket, key = candidate.key
    if key.endswith("/"):
        return "folder_marker"
    if is_hidden(key):
        return "hidden"
    return _whose(key, settings) if bucket == settings.bucket else None


def _whose(key: str, settings: Settings) -> str | None:
    """What of ours lies under a key of our bucket. A preview that came in as an image would get one of its own."""
    ours = {
        settings.prefix: "own_proxy",
        settings.preview_prefix: "own_preview",
        settings.evaluation_prefix: "own_copy",
        settings.batch_prefix: "own_batch_file",
    }
    return next((reason for prefix, reason in ours.items() if key.startswith(f"{prefix.strip('/')}/")), None)


def candidate_of(created: Created) -> Candidate:
    """Return the candidate that an event names."""
    return Candidate(created.uri, created.key.rpartition("/")[2])


def _pages(source: Source, s3: Any) -> Iterator[tuple[datetime, list[Listed]]]:
    if source.folder is not None:
        return list_folder(source.folder)
    return list_prefix(s3, str(source.bucket), source.prefix)


def _candidate(listed: Listed) -> Candidate:
    return Candidate(listed.uri, listed.filename, listed.version, listed.size_bytes)


def _row(candidate: Candidate, head: Head, header: HeaderInfo | None) -> NewImage:
    now = datetime.now(UTC)
    media_type = media_type_of(candidate.filename, head.data)
    if header is not None and media_type == _UNKNOWN_TYPE:
        media_type = header.media_type
    return NewImage(
        uri=candidate.uri,
        filename=candidate.filename,
        media_type=media_type,
        size_bytes=head.size_bytes,
        content_version=head.version,
        # Never ahead of our own clock, or a run that starts at once would leave it for the next one.
        uploaded_at=min(head.modified_at or now, now),
        format=header.format if header else None,
        resolution_width=header.width if header else None,
        resolution_height=header.height if header else None,
    )


def _sha256(candidate: Candidate) -> str | None:
    try:
        with fetch_source(candidate.uri, Path()).path.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except (SourceError, OSError):
        return None
