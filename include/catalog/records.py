"""Plain records that leave and enter the catalog. Frozen, without SQLAlchemy, so that every room may hold them.

Times are timezone-aware UTC. Sizes are bytes, dimensions pixels after orientation, durations seconds, money US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from include.catalog.browse_records import NewPreview


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
    force_proxies: bool = True  # under force, redo the proxies too; False: only make those that are missing
    file_ids: tuple[int, ...] | None = None
    uploaded_from: datetime | None = None  # inclusive
    uploaded_to: datetime | None = None  # exclusive
    keep_mark: bool = True  # let the next planning begin where this one found the first work; a dry run writes nothing


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
    note: str | None = None  # why it takes fewer images than it found

    run_type: str | None = None  # how Airflow started it: scheduled, backfill, manual, asset_triggered...


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
class MadeProxy:
    """One image's proxy to be written, and the preview of its original, if there is one."""

    file_id: int
    proxy: NewProxy
    preview: NewPreview | None = None


@dataclass(frozen=True, slots=True)
class RecordedProxies:
    """What became of a group of made proxies: written, not written since the image's own row was deleted, and not
    written since the image is somebody else's, with who has it."""

    written: frozenset[int]
    gone: frozenset[int]
    lost: Mapping[int, str | None]


@dataclass(frozen=True, slots=True)
class NovaCall:
    """One request that reached Nova, billed or refused; every one is kept, so that cost is a sum over rows."""

    endpoint: str  # "aws" or "stand-in"
    tier: str
    started_at: datetime
    seconds: float | None  # None: one of many in a job, nobody timed it
    code: str | None  # None: a valid answer
    message: str | None
    input_tokens: int
    output_tokens: int
    latency_ms: int | None
    cost_usd: float | None  # None on the stand-in
    cost_usd_projected: float | None
    price_date: str | None
    request_bytes: int | None = None  # of the HTTP body that was sent
    billed_input_tokens: int | None = None  # with the image's tokens as the model card bills them


@dataclass(frozen=True, slots=True)
class NewAnalysis:
    """A validated answer, to be written together with the call that brought it."""

    description: str
    labels: tuple[Mapping[str, Any], ...]  # {"name": str, "confidence": float}
    visible_text: str
    objects: tuple[Mapping[str, Any], ...]  # {"name": str, "box": [x1, y1, x2, y2] in 0..1000}
    stop_reason: str
    extra: Mapping[str, Any] | None = None  # JSON values: fields of a team's own output model


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image was refused. `transient` failures may be tried again by a later run, others wait for `force`."""

    code: str
    message: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class FailedImage:
    """One line of the failure ledger: an image's failure that stands, at one stage."""

    file_id: int
    uri: str
    stage: Stage
    code: str
    message: str
    attempts: int
    last_try_at: datetime
    next_try_at: datetime | None  # None: left alone until `force`
    run_id: str


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """The failure ledger in numbers, for one recipe, model and prompt."""

    due: int  # a run that starts now takes them
    waiting: int  # their next try is later
    given_up: int  # permanent, or out of attempts: left alone until `force`
    next_try_at: datetime | None  # of the first that waits


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
class StorageBytes:
    """Where bytes lie, measured. A proxy of an original that is in S3 anyway adds storage; elsewhere it stands for it.

    "Elsewhere" are originals whose uri is not s3://. `uploaded` is what stands in S3 because of us.
    """

    original_in_s3: int = 0
    uploaded_for_s3: int = 0
    original_elsewhere: int = 0
    uploaded_for_elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Images that have the same pixels before and after."""

    original_width: int
    original_height: int
    width: int
    height: int
    images: int


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """What may be spent: by one run, or by all from a moment on. `code` is the outcome's when it is reached."""

    code: str
    usd: float
    run_id: str | None = None  # None: every run
    since: datetime | None = None  # None: always


@dataclass(frozen=True, slots=True)
class DayCalls:
    """Requests to Nova of one UTC day, by who answered and at which tier. Figures of "stand-in" are not Nova's."""

    endpoint: str
    tier: str
    nova_calls: int
    input_tokens: int
    billed_input_tokens: int
    output_tokens: int
    request_bytes: int
    cost_usd: float | None  # None on the stand-in
    cost_usd_projected: float | None


@dataclass(frozen=True, slots=True)
class DayFigures:
    """Sums over the rows that one UTC day wrote, over all runs. Everything here was measured."""

    day: date
    proxies_created: int
    originals_kept: int
    proxies_failed: int
    analyses_written: int
    analyses_failed: int
    bytes_original: int  # of images proxied or kept that day
    bytes_served: int
    bytes_uploaded: int
    storage: StorageBytes  # what the day brought: an image or object that was counted before is not in it again
    calls: tuple[DayCalls, ...]


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
    model_id: str | None = None
    plan_note: str | None = None  # why the plan took fewer images than it found
    returned_codes: Mapping[str, int] = field(default_factory=dict)  # images put back to pending, by code
    tiers: tuple[str, ...] = ()  # of its calls
    price_dates: tuple[str, ...] = ()
    billed_input_tokens: int = 0
    request_bytes: int = 0
    storage: StorageBytes = StorageBytes()  # of the images it analysed
    image_sizes: tuple[ImageSizes, ...] = ()  # of the images it analysed

    @property
    def seconds(self) -> float | None:
        """Return wall seconds from planning to the summary; None while the run goes on."""
        return None if self.finished_at is None else (self.finished_at - self.started_at).total_seconds()


# -- export and evaluation -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnalysisFilter:
    """Which current analyses are exported; None is any. All that are given must hold."""

    run_id: str | None = None  # written by this run
    written_from: datetime | None = None  # inclusive
    written_to: datetime | None = None  # exclusive
    model_id: str | None = None
    prompt_version: str | None = None
    endpoint: str | None = None  # "aws" or "stand-in"


@dataclass(frozen=True, slots=True)
class NewEvaluation:
    """An evaluation to store, before its first call."""

    run_id: str  # "{dag_id}/{Airflow run id}"
    params: Mapping[str, Any]
    model_id: str
    prompt_version: str
    nova_endpoint: str
    file_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A stored evaluation, with its report once there is one."""

    run_id: str
    params: Mapping[str, Any]
    model_id: str
    prompt_version: str
    nova_endpoint: str
    file_ids: tuple[int, ...]
    created_at: datetime
    finished_at: datetime | None
    note: str | None
    report: Mapping[str, Any] | None
    report_uri: str | None


@dataclass(frozen=True, slots=True)
class EvaluationCall:
    """One request about one picture at one size, or why there was none (`called` False).

    `final`: nothing more will be asked for this picture, size and repeat; `code` None means that it was answered.
    """

    file_id: int
    variant: str  # "896", "1344", "auto", "original"
    repeat: int  # from 0
    called: bool
    final: bool
    code: str | None = None
    message: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    image_bytes: int | None = None
    original_bytes: int | None = None
    prepare_seconds: float | None = None
    upload_seconds: float | None = None
    endpoint: str | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    latency_ms: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    cost_usd_projected: float | None = None
    price_date: str | None = None
    description: str | None = None
    labels: tuple[Mapping[str, Any], ...] = ()
    visible_text: str | None = None
    objects: tuple[Mapping[str, Any], ...] = ()

    @property
    def answered(self) -> bool:
        """Whether this is a valid answer."""
        return self.called and self.code is None


class JobState(StrEnum):
    """How far our own work on a batch inference job came."""

    PREPARING = "preparing"  # its folder is being filled; Bedrock knows nothing of it
    STARTING = "starting"  # Bedrock is asked to start it, and may have done so
    WAITING = "waiting"  # Bedrock has it
    JOINED = "joined"  # its answers stand in the catalog, what it left is pending again
    REFUSED = "refused"  # Bedrock would not start it
    HANDED_OVER = "handed_over"  # too small for a job: for on demand


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A batch inference job of one planned batch, as stored before and while Bedrock works on it."""

    job_id: int
    run_id: str
    batch_id: int
    number: int  # of the batch's jobs, from 1
    client_request_token: str
    owner: str
    folder: str  # s3://bucket/prefix
    state: JobState
    status: str | None  # Bedrock's
    message: str | None
    job_arn: str | None
    records: int | None
    created_at: datetime
    started_at: datetime | None  # when Bedrock was asked for it first


@dataclass(frozen=True, slots=True)
class Derived:
    """A row of `image_proxies` that is to go, with the object that it names."""

    proxy_id: int
    file_id: int
    uri: str | None  # None for a failure
    shared: bool  # the object stays: another row has it too


@dataclass(frozen=True, slots=True)
class StoredPreview:
    """A row of `image_previews`, with the object that it names."""

    file_id: int
    content_version: str
    uri: str
