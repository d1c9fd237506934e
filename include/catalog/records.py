"""Plain records that leave and enter the catalog. Frozen, without SQLAlchemy, so that every room may hold them.

Times are timezone-aware UTC. Sizes are bytes, dimensions pixels after orientation, durations seconds, money US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """A step that an image goes through in a run."""

    PROXY = "proxy"
    ANALYSE = "analyse"


class Outcome(StrEnum):
    """What became of an image at one stage of one run. Every listed image ends with one, or the run is red."""

    PROXIED = "proxied"  # a proxy was made and stored by this run
    KEPT = "kept"  # the original serves as it is
    ANALYSED = "analysed"  # Nova's answer was written by this run
    SKIPPED = "skipped"  # nothing to do: done before, or another run has it
    FAILED = "failed"  # refused, with a code
    RETURNED = "returned"  # put back to pending, not the image's fault


@dataclass(frozen=True, slots=True)
class NewImage:
    """A picture (or other file) to register in `files`; `uri` identifies it, `content_version` its bytes."""

    uri: str
    filename: str
    media_type: str
    size_bytes: int
    content_version: str
    uploaded_at: datetime
    format: str | None = None
    resolution_width: int | None = None
    resolution_height: int | None = None


@dataclass(frozen=True, slots=True)
class RegisterCounts:
    """What became of the images that were registered."""

    new: int
    changed: int  # known by uri, with another content version
    unchanged: int


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One listed row of `files`."""

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


@dataclass(frozen=True, slots=True)
class WorkKey:
    """What "done" means: a proxy by recipe, an analysis by recipe, model and prompt; each for a content version."""

    recipe_version: str
    model_id: str
    prompt_version: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which unprocessed images a run takes, oldest upload first."""

    key: WorkKey
    stages: frozenset[Stage]
    run_id: str
    limit: int | None = None
    planned_before: bool = False  # only images that this run listed before: it is planned again
    force: bool = False  # take what was not yet redone by this run, done or failed alike
    file_ids: tuple[int, ...] | None = None
    uploaded_from: datetime | None = None  # inclusive
    uploaded_to: datetime | None = None  # exclusive


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to store: its identity, its parameters and its batches of file ids (in order)."""

    run_id: str  # "{dag_id}/{Airflow run id}"
    dag_id: str
    dag_run_id: str
    params: Mapping[str, Any]
    key: WorkKey
    stages: frozenset[Stage]
    force: bool
    nova_endpoint: str | None  # "aws" or "stand-in", None when no analysis is wanted
    batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A stored batch: all that a task needs to be told, the members stand in the catalog."""

    batch_id: int
    size: int


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    """A current proxy (or a kept original) as stored: where Nova finds it, and what it cost and saved."""

    proxy_id: int
    file_id: int
    content_version: str
    recipe_version: str
    outcome: Outcome  # PROXIED or KEPT
    action: str  # resized, converted, stripped, kept
    uri: str  # what Nova is given
    format: str  # jpeg, png, webp, gif
    width: int
    height: int
    original_width: int
    original_height: int
    original_bytes: int
    proxy_bytes: int
    bytes_uploaded: int
    seconds: float
    run_id: str


@dataclass(frozen=True, slots=True)
class NewProxy:
    """What the proxy stage writes for one image. `reason` is the code for which an original was kept, if any."""

    outcome: Outcome  # PROXIED or KEPT
    action: str
    uri: str
    format: str
    width: int
    height: int
    original_width: int
    original_height: int
    original_bytes: int
    proxy_bytes: int
    bytes_uploaded: int
    seconds: float
    sha256: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NovaCall:
    """One request that reached Nova, billed or refused; every one is kept, so that cost is a sum over rows."""

    endpoint: str  # "aws" or "stand-in"
    tier: str
    started_at: datetime
    seconds: float
    code: str | None  # None: a valid answer
    message: str | None
    input_tokens: int
    output_tokens: int
    latency_ms: int | None
    cost_usd: float | None  # None on the stand-in
    cost_usd_projected: float | None
    price_date: str | None


@dataclass(frozen=True, slots=True)
class NewAnalysis:
    """A validated answer, to be written together with the call that brought it."""

    description: str
    labels: tuple[Mapping[str, Any], ...]  # {"name": str, "confidence": float}
    visible_text: str
    objects: tuple[Mapping[str, Any], ...]  # {"name": str, "box": [x1, y1, x2, y2] in 0..1000}
    stop_reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image was refused. `transient` failures may be tried again by a later run, others wait for `force`."""

    code: str
    message: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One claimed image of a batch, with what already exists for the run's key."""

    image: SourceImage
    proxy: ProxyRecord | None  # the current one, whoever made it
    proxied: bool  # a current proxy exists and, under force, was made (or kept) by this run
    analysed: bool  # a current analysis exists and, under force, was written by this run


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What a task holds after claiming: the images that are its own, and those that another run has."""

    owner: str
    items: tuple[WorkItem, ...]
    busy: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageReport:
    """One image of one run, for the summary table."""

    file_id: int
    uri: str
    filename: str
    outcome: Outcome | None  # the furthest stage's outcome; None: lost
    action: str | None
    reason: str | None  # why an original was kept that a proxy was tried for
    code: str | None
    message: str | None
    original_bytes: int
    original_width: int | None
    original_height: int | None
    proxy_bytes: int | None
    width: int | None
    height: int | None
    seconds: float | None
    description: str | None


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What the gate judges from."""

    listed: int
    by_outcome: Mapping[Outcome, int] = field(default_factory=dict)
    undecided: int = 0  # listed or claimed, and without an outcome at a wanted stage


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Sums over one run's rows; every figure is a query over catalog columns."""

    run_id: str
    dag_id: str
    dag_run_id: str
    nova_endpoint: str | None
    started_at: datetime
    finished_at: datetime | None
    images_listed: int
    proxies_created: int
    originals_kept: int
    failed: int
    skipped: int
    returned: int
    undecided: int
    analyses_written: int
    nova_calls: int
    bytes_original: int  # of images proxied or kept by this run, whatever became of their analysis
    bytes_served: int  # of what Nova reads in their place
    bytes_uploaded: int
    bytes_original_over_1mb: int  # "over 1 MB": the original has more than 1,000,000 bytes
    bytes_served_over_1mb: int
    mean_saving_ratio: float | None  # mean over images of 1 - served / original
    mean_saving_ratio_over_1mb: float | None
    proxy_seconds: tuple[float, ...]  # sorted, one for each proxy created
    input_tokens: int
    output_tokens: int
    cost_usd: float | None  # None when no call of the run carries a cost
    cost_usd_projected: float | None

    @property
    def seconds(self) -> float | None:
        """Return wall seconds from planning to the summary; None while the run goes on."""
        return None if self.finished_at is None else (self.finished_at - self.started_at).total_seconds()
