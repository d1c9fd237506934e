"""Plain records of what people browse: images with their state, savings, failures, progress. Frozen, no SQLAlchemy.

Times are timezone-aware UTC. Sizes are bytes, dimensions pixels after orientation, durations seconds, money US dollars.
Texts written by others (file names, messages, Nova's words) are as they came: whoever shows them escapes them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class InvalidCursor(ValueError):
    """A page's cursor is not one that was given out."""

    code = "invalid_cursor"


class ImageStatus(StrEnum):
    """How far an image is. One of the first six is its state; the last two are for filtering only."""

    PENDING = "pending"  # no proxy yet, nobody works on it
    IN_PROGRESS = "in_progress"  # a run holds it at this moment
    PROXIED = "proxied"
    KEPT = "kept"  # the original serves as it is
    FAILED = "failed"  # its proxy, with a code
    NOT_AN_IMAGE = "not_an_image"  # a video or a document: never worked on
    ANALYSED = "analysed"  # filter: has a current analysis
    NOT_ANALYSED = "not_analysed"  # filter: has a proxy (or is kept), and no current analysis


class SavingsGroup(StrEnum):
    """What a table of savings has a row for."""

    DAY = "day"  # UTC day on which the proxy was made
    RUN = "run"
    FORMAT = "format"  # of the original
    SIZE = "size"  # class of the original's size


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which rows of `files` to list; every condition that is set holds. Proxies are never listed."""

    status: ImageStatus | None = None
    format: str | None = None  # the original's, in any case: jpeg, png, ...
    min_bytes: int | None = None  # inclusive
    max_bytes: int | None = None  # inclusive
    uploaded_from: datetime | None = None  # inclusive
    uploaded_to: datetime | None = None  # exclusive
    name: str | None = None  # part of the file name, in any case
    run_id: str | None = None  # the catalog's: only images of this run ...
    batch_id: int | None = None  # ... and of this batch of it
    images_only: bool = True


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: by time, newest first, then by id."""

    at: datetime
    row_id: int
    stage: str = ""  # of a failure; ids are unique within a stage only

    def text(self) -> str:
        """Return it as an opaque text for an address."""
        plain = json.dumps([self.at.isoformat(), self.row_id, self.stage])
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of `text`. Raises `InvalidCursor`."""
        try:
            at, row_id, stage = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            moment = datetime.fromisoformat(at).astimezone(UTC)
            if not (type(row_id) is int and 0 <= row_id < 2**63 and stage in ("", "proxy", "analyse")):
                raise ValueError(row_id)
        except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError) as error:
            raise InvalidCursor("this cursor was not given out by a page before") from error
        return cls(moment, row_id, stage)


@dataclass(frozen=True, slots=True)
class ProxyEntry:
    """One row of `image_proxies`: a proxy, a kept original or a failure; current while `superseded_at` is None."""

    proxy_id: int
    file_id: int
    content_version: str
    recipe_version: str
    status: str  # proxied, kept, failed
    action: str | None  # resized, converted, stripped, kept
    reason: str | None  # why an original was kept that a proxy was tried for
    uri: str | None
    format: str | None
    width: int | None
    height: int | None
    original_width: int | None
    original_height: int | None
    original_bytes: int | None
    proxy_bytes: int | None
    bytes_uploaded: int | None
    saved_bytes: int | None  # measured; negative when the proxy is larger
    saving_ratio: float | None  # measured: 1 - proxy / original
    seconds: float | None
    code: str | None
    message: str | None
    transient: bool
    attempts: int
    next_try_at: datetime | None
    run_id: str
    created_at: datetime
    superseded_at: datetime | None


@dataclass(frozen=True, slots=True)
class AnalysisEntry:
    """One row of `image_analyses`; current while `superseded_at` is None."""

    analysis_id: int
    file_id: int
    content_version: str
    recipe_version: str
    model_id: str
    prompt_version: str
    proxy_id: int | None
    status: str  # analysed, failed
    description: str | None
    labels: tuple[Mapping[str, Any], ...]  # {"name", "confidence"}
    visible_text: str | None
    objects: tuple[Mapping[str, Any], ...]  # {"name", "box": [x1, y1, x2, y2] in 0..1000}
    stop_reason: str | None
    endpoint: str | None  # "aws", or "stand-in": then words and figures are not Nova's
    tier: str | None
    input_tokens: int | None
    output_tokens: int | None
    latency_ms: int | None
    seconds: float | None
    cost_usd: float | None  # paid; None on the stand-in
    cost_usd_projected: float | None
    price_date: str | None
    code: str | None
    message: str | None
    transient: bool
    attempts: int
    next_try_at: datetime | None
    run_id: str
    created_at: datetime
    superseded_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """One row of `image_attempts`: a try at one stage, or a request that reached Nova."""

    attempt_id: int
    run_id: str
    stage: str
    called: bool
    endpoint: str | None
    tier: str | None
    started_at: datetime | None
    seconds: float | None
    code: str | None  # None: it went well
    message: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    cost_usd_projected: float | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimEntry:
    """A run that holds the image at this moment."""

    run_id: str
    stage: str
    claimed_at: datetime
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class NewPreview:
    """A small picture of an original that a worker stored. `uri` is an S3 address, `format` as of proxies."""

    uri: str
    format: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PreviewRecord:
    """The stored preview of one content of an image."""

    file_id: int
    content_version: str
    uri: str
    format: str
    width: int
    height: int
    bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One row of a page of images: the file, its newest current proxy and analysis for its present content."""

    file_id: int
    uri: str
    filename: str
    media_type: str
    size_bytes: int
    content_version: str
    format: str | None
    resolution_width: int | None
    resolution_height: int | None
    uploaded_at: datetime
    is_image: bool
    status: ImageStatus
    proxy: ProxyEntry | None  # a good one before a failed one
    analysis: AnalysisEntry | None
    claim: ClaimEntry | None
    preview: PreviewRecord | None


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of images, newest upload first."""

    files: tuple[FileEntry, ...]
    next_cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class FileRun:
    """What became of the image in one run."""

    run_id: str
    dag_id: str
    dag_run_id: str
    batch_id: int
    started_at: datetime
    proxy_outcome: str | None
    proxy_code: str | None
    analysis_outcome: str | None
    analysis_code: str | None


@dataclass(frozen=True, slots=True)
class ItemOutcomes:
    """What stands on an image's item of a run at each stage: outcome, code and message, None while undecided."""

    proxy_outcome: str | None
    proxy_code: str | None
    proxy_message: str | None
    analysis_outcome: str | None
    analysis_code: str | None
    analysis_message: str | None


@dataclass(frozen=True, slots=True)
class FileCost:
    """All that Nova was asked about the image, whatever came of it."""

    calls: int
    stand_in_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None  # None when no call carries a cost
    cost_usd_projected: float | None


@dataclass(frozen=True, slots=True)
class FileDetail:
    """One image in full. Histories are newest first, the newest `HISTORY` rows of each."""

    file: FileEntry
    proxies: tuple[ProxyEntry, ...]
    analyses: tuple[AnalysisEntry, ...]
    attempts: tuple[AttemptEntry, ...]
    runs: tuple[FileRun, ...]
    cost: FileCost


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """Measured bytes of images proxied or kept; of each image the newest proxy counts. Costs are of calls made.

    `bytes_avoided` is storage that S3 does not hold: originals that are not in S3, less what was stored in their place.
    A proxy of an original that is in S3 anyway adds to storage, so it counts negatively.
    """

    group: str  # 2026-11-22, a run id, jpeg, or a size class
    images: int
    kept: int
    bytes_original: int
    bytes_served: int  # of what Nova reads in their place
    bytes_saved: int
    bytes_uploaded: int
    bytes_avoided: int
    mean_saving_ratio: float | None
    nova_calls: int | None = None  # of days and runs only
    stand_in_calls: int | None = None
    cost_usd: float | None = None
    cost_usd_projected: float | None = None


@dataclass(frozen=True, slots=True)
class Savings:
    """A table of savings, the sum over everything, and the moment it was read."""

    by: SavingsGroup
    groups: tuple[SavingsRow, ...]
    total: SavingsRow
    as_of: datetime


@dataclass(frozen=True, slots=True)
class FailureReason:
    """How many images have this failure now."""

    stage: str  # proxy, analyse
    code: str
    images: int
    transient: int  # of them will be tried again by a later run
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """A failed image."""

    stage: str
    row_id: int
    file_id: int
    filename: str
    uri: str
    code: str
    message: str
    transient: bool
    attempts: int
    next_try_at: datetime | None
    run_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FailurePage:
    """One page of failures, newest first."""

    failures: tuple[FailureEntry, ...]
    next_cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run as it stands. `total` = `done` + `failed` + `returned` + `undecided`."""

    run_id: str
    dag_id: str
    dag_run_id: str
    stages: tuple[str, ...]
    started_at: datetime
    finished_at: datetime | None
    note: str | None
    nova_endpoint: str | None
    total: int
    done: int  # proxied, kept, analysed or skipped at the last stage
    failed: int
    returned: int  # put back to pending
    undecided: int
    bytes_original: int
    bytes_saved: int
    nova_calls: int
    cost_usd: float | None
    cost_usd_projected: float | None
    as_of: datetime
    work_started_at: datetime | None = None
    last_decided_at: datetime | None = None
    by_outcome: Mapping[str, int] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float | None:
        """Return the rate since the first image was begun; None before one is decided."""
        decided = self.total - self.undecided
        until = self.as_of if self.undecided and not self.finished_at else self.last_decided_at
        if not decided or self.work_started_at is None or until is None:
            return None
        seconds = (until - self.work_started_at).total_seconds()
        return decided / seconds if seconds > 0 else None

    @property
    def eta_seconds(self) -> float | None:
        """Return the seconds left at the present rate, an estimate; None when it has ended or none is known."""
        rate = self.images_per_second
        return None if self.finished_at or not rate else self.undecided / rate
