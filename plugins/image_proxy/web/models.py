"""What the API answers with, where the catalog's own records are not already the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from image_proxy.web.jobs import FINISHING, Job, JobState
from image_proxy.web.values import InUtc, Storable
from include.catalog.browse_records import (
    AnalysisEntry,
    AttemptEntry,
    FailureEntry,
    FailurePage,
    FileCost,
    FileDetail,
    FileEntry,
    FileFilter,
    FilePage,
    FileRun,
    ImageStatus,
    ProxyEntry,
)
from include.catalog.records import Stage
from include.pipeline.survey import Survey

NEXT = Field(None, description="Send as `after` for the next page; null at the end")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class FilePageModel(_Answer):
    """A page of images."""

    model_config = ConfigDict(title="FilePage")

    files: list[FileEntry]
    next_cursor: str | None = NEXT

    @classmethod
    def of(cls, page: FilePage) -> Self:
        """Return the answer for a page."""
        return cls(files=list(page.files), next_cursor=page.next_cursor.text() if page.next_cursor else None)


class FileDetailModel(_Answer):
    """One image in full; histories newest first."""

    model_config = ConfigDict(title="FileDetail", from_attributes=True)

    file: FileEntry
    proxies: list[ProxyEntry]
    analyses: list[AnalysisEntry]
    attempts: list[AttemptEntry]
    runs: list[FileRun]
    cost: FileCost

    @classmethod
    def of(cls, detail: FileDetail) -> Self:
        """Return the answer for one image."""
        return cls.model_validate(detail)


class FailuresModel(_Answer):
    """A page of images that are failed now."""

    model_config = ConfigDict(title="FailurePage")

    failures: list[FailureEntry]
    next_cursor: str | None = NEXT

    @classmethod
    def of(cls, page: FailurePage) -> Self:
        """Return the answer for a page."""
        return cls(failures=list(page.failures), next_cursor=page.next_cursor.text() if page.next_cursor else None)


# -- jobs --------------------------------------------------------------------------------------------------------------

MOST_FILES = 10_000  # of one batch: what the pipeline's param `file_ids` takes
MAX_ID = 2**63 - 1
FileIds = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_ID)]],
    Field(min_length=1, max_length=MOST_FILES, description="Rows of the catalog's table `files`"),
]
Text = Annotated[str, Storable]
Moment = Annotated[AwareDatetime, InUtc]
Cost = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FilterBody(_Request):
    """Which images: every condition that is set holds."""

    model_config = ConfigDict(title="FileFilter", extra="forbid", frozen=True)

    status: ImageStatus | None = None
    format: Text | None = Field(None, max_length=20)
    min_bytes: int | None = Field(None, ge=0, le=MAX_ID)
    max_bytes: int | None = Field(None, ge=0, le=MAX_ID)
    uploaded_from: Moment | None = None
    uploaded_to: Moment | None = None
    name: Text | None = Field(None, max_length=200)

    def as_filter(self) -> FileFilter:
        """Return the catalog's filter."""
        return FileFilter(**self.model_dump())


class BatchBody(_Request):
    """Images by id, or by filter (at most 10,000, newest upload first)."""

    model_config = ConfigDict(title="BatchRequest", extra="forbid", frozen=True)

    file_ids: FileIds | None = None
    filter: FilterBody | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_ids is None) == (self.filter is None):
            raise ValueError("give file_ids or filter, one of them")
        return self


class AnalysisBatchBody(BatchBody):
    """A batch of analyses. Without `confirm` nothing is started: the answer holds the projected cost."""

    model_config = ConfigDict(title="AnalysisBatchRequest", extra="forbid", frozen=True)

    confirm: bool = False
    max_cost_usd: Cost = Field(None, description="Refuse above this; usual: the projected cost itself")


class RetryBody(_Request):
    """Failures to try again, with force: those of `file_ids`, those with `code`, or all at the stage."""

    model_config = ConfigDict(title="RetryRequest", extra="forbid", frozen=True)

    stage: Stage
    file_ids: FileIds | None = None
    code: Text | None = Field(None, max_length=100)
    confirm: bool = Field(False, description="Needed for analyses: they cost")
    max_cost_usd: Cost = None


class ProjectionModel(_Answer):
    """What a run would do. Every figure is an estimate."""

    model_config = ConfigDict(title="Projection")

    images: int
    bytes_original: int
    bytes_proxies_estimated: int
    cost_usd_estimated: float
    model_id: str | None
    price_date: str | None

    @classmethod
    def of(cls, found: Survey) -> Self:
        """Return the projection of a survey."""
        p = found.projection
        return cls(
            images=p.images,
            bytes_original=p.bytes_original,
            bytes_proxies_estimated=p.bytes_proxies_estimated,
            cost_usd_estimated=p.cost_usd_estimated,
            model_id=found.model_id,
            price_date=found.price_date,
        )


class BatchModel(_Answer):
    """What became of a request for many images. `job_id` is null when nothing was started, and `message` says why."""

    model_config = ConfigDict(title="Batch")

    job_id: str | None
    total_files: int = Field(description="Images that have work left, and so are in the job")
    message: str
    projection: ProjectionModel


class ProxyModel(_Answer):
    """An image's current proxy. Dimensions are [width, height] after orientation."""

    model_config = ConfigDict(title="Proxy")

    proxy_id: int
    source_id: int
    original_size_bytes: int
    proxy_size_bytes: int
    savings_percent: float = Field(description="Measured: 100 * (1 - proxy / original); 0 for a kept original")
    original_dimensions: tuple[int, int]
    proxy_dimensions: tuple[int, int]
    status: str = Field(description="proxied, or kept: the original serves as it is")
    job_id: str = Field(description="The run that made it")

    @classmethod
    def of(cls, proxy: ProxyEntry) -> Self:
        """Return the answer for a good row."""
        return cls(
            proxy_id=proxy.proxy_id,
            source_id=proxy.file_id,
            original_size_bytes=proxy.original_bytes or 0,
            proxy_size_bytes=proxy.proxy_bytes or 0,
            savings_percent=round(100 * (proxy.saving_ratio or 0.0), 2),
            original_dimensions=(proxy.original_width or 0, proxy.original_height or 0),
            proxy_dimensions=(proxy.width or 0, proxy.height or 0),
            status=proxy.status,
            job_id=proxy.run_id.partition("/")[2],
        )


class AcceptedModel(_Answer):
    """The work goes on: ask for the job, or make the same request again."""

    model_config = ConfigDict(title="Accepted")

    job_id: str
    status_url: str
    message: str


class JobModel(_Answer):
    """A job as it stands. `total` = `done` + `failed` + `returned` + `undecided`; null until its images are listed."""

    model_config = ConfigDict(title="Job")

    job_id: str
    state: JobState
    total: int | None
    done: int
    failed: int
    returned: int = Field(description="Put back to pending: throttled, cancelled, or changed meanwhile")
    undecided: int | None
    bytes_saved: int
    images_per_second: float | None
    eta_seconds: float | None = Field(description="Estimate at the present rate")
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    requested_by: str | None
    outcomes: dict[str, int] = Field(description="Images by outcome")
    nova_calls: int
    cost_usd: float | None = Field(description="Paid; null on the stand-in")
    cost_usd_projected: float | None
    message: str | None = Field(description="Why it does not move, and what to do; or that only its last tasks go on")

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the answer for a job. A queued or cancelled one may have no progress at all."""
        p = job.progress
        return cls(
            job_id=job.job_id,
            state=job.state,
            total=p.total if p else job.asked_for,
            done=p.done if p else 0,
            failed=p.failed if p else 0,
            returned=p.returned if p else 0,
            undecided=p.undecided if p else job.asked_for,
            bytes_saved=p.bytes_saved if p else 0,
            images_per_second=p.images_per_second if p else None,
            eta_seconds=p.eta_seconds if p and not job.ended else None,
            queued_at=job.queued_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            requested_by=job.requested_by,
            outcomes=dict(p.by_outcome) if p else {},
            nova_calls=p.nova_calls if p else 0,
            cost_usd=p.cost_usd if p else None,
            cost_usd_projected=p.cost_usd_projected if p else None,
            message=job.stuck or (FINISHING if job.finishing else None),
        )
