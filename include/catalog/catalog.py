"""The catalog as the other rooms see it: one class, whose methods are documented where they are implemented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine

from include.catalog import (
    browse,
    claims,
    figures,
    lookups,
    previews,
    registration,
    reports,
    results,
    runs,
    selection,
    targets,
)
from include.catalog.browse_records import (
    AnalysisEntry,
    Cursor,
    FailurePage,
    FailureReason,
    FileDetail,
    FileEntry,
    FileFilter,
    FilePage,
    ItemOutcomes,
    NewPreview,
    PreviewRecord,
    ProxyEntry,
    RunProgress,
    Savings,
    SavingsGroup,
    SavingsRow,
)
from include.catalog.columns import Clock, utc_now
from include.catalog.kept import Kept
from include.catalog.records import (
    ClaimedBatch,
    Failure,
    ImageReport,
    NewAnalysis,
    NewImage,
    NewProxy,
    NovaCall,
    PlannedBatch,
    ProxyRecord,
    RegisterCounts,
    RunCounts,
    RunFigures,
    RunPlan,
    Selection,
    SourceImage,
    Stage,
    WorkKey,
)
from include.catalog.store import Store
from include.catalog.targets import TargetFigures


class Catalog:
    """Questions to and changes of one catalog database. Safe to share between threads; not across a fork."""

    def __init__(self, engine: Engine, clock: Clock = utc_now) -> None:
        self._store = Store(engine, clock)
        self._savings = figures.SavingsFigures(self._store)
        self._targets = Kept(self._store, targets.target_figures)

    # -- what exists, and what is left to do ---------------------------------------------------------------------

    def register(self, images: Sequence[NewImage]) -> RegisterCounts:
        """Adds new images and updates those whose content changed; idempotent by uri."""
        return registration.register(self._store, images)

    def select_unprocessed(self, wanted: Selection) -> list[SourceImage]:
        """Images with work left at the wanted stages, oldest upload first."""
        return selection.select_unprocessed(self._store, wanted)

    def content_versions(self, uris: Sequence[str]) -> dict[str, str]:
        """The content versions of those that are registered, by uri."""
        return lookups.content_versions(self._store, uris)

    def image(self, file_id: int) -> SourceImage | None:
        """One image, None if there is none (or the file is a video, a document or a proxy)."""
        return lookups.image(self._store, file_id)

    def current(self, file_id: int) -> dict[str, Any] | None:
        """The image's row of the view `current_image_analyses`."""
        return lookups.current(self._store, file_id)

    def proxy_bytes_per_pixel(self) -> dict[str, float]:
        """Measured output bytes per output pixel by format; empty while there are no proxies."""
        return lookups.proxy_bytes_per_pixel(self._store)

    # -- runs ----------------------------------------------------------------------------------------------------

    def store_plan(self, plan: RunPlan) -> tuple[PlannedBatch, ...]:
        """Writes a run and its items; again for the same run it keeps what was decided."""
        return runs.store_plan(self._store, plan)

    def finish_run(self, run_id: str, note: str | None = None) -> None:
        """Marks the run as ended."""
        runs.finish_run(self._store, run_id, note)

    def latest_run_id(self, dag_id: str) -> str | None:
        """The run of this DAG that was planned last, None before the first."""
        return runs.latest_run_id(self._store, dag_id)

    def is_planned(self, run_id: str) -> bool:
        """Whether a plan with images was stored for the run."""
        return runs.is_stored(self._store, run_id)

    def run_params(self, run_id: str) -> dict[str, Any]:
        """The parameters that the run was planned with."""
        return runs.run_params(self._store, run_id)

    def run_counts(self, run_id: str) -> RunCounts:
        """How many images ended how."""
        return reports.run_counts(self._store, run_id)

    def run_figures(self, run_id: str) -> RunFigures:
        """The run in numbers."""
        return reports.run_figures(self._store, run_id)

    def run_images(self, run_id: str) -> list[ImageReport]:
        """Every image of the run, by file id."""
        return reports.run_images(self._store, run_id)

    def run_failures(self, run_id: str) -> list[ImageReport]:
        """The images that failed, by file id."""
        return reports.run_failures(self._store, run_id)

    # -- claims --------------------------------------------------------------------------------------------------

    def claim_batch(self, run_id: str, batch_id: int, stage: Stage, owner: str, lease_seconds: float) -> ClaimedBatch:
        """Takes the batch's undecided images for `owner`, a name that no other try of any task has."""
        return claims.claim_batch(self._store, run_id, batch_id, stage, owner=owner, lease_seconds=lease_seconds)

    def renew(self, owner: str, lease_seconds: float) -> frozenset[int]:
        """Keeps the owner's leases alive; returns the images it still holds."""
        return claims.renew(self._store, owner, lease_seconds)

    def release(self, owner: str) -> int:
        """Gives back all that `owner` holds; returns how many."""
        return claims.release(self._store, owner)

    def release_run(self, run_id: str) -> int:
        """Gives back all that the run holds; returns how many."""
        return claims.release_run(self._store, run_id)

    def release_all(self) -> int:
        """Gives back everything; only for one who knows that nobody is alive."""
        return claims.release_all(self._store)

    # -- results -------------------------------------------------------------------------------------------------

    def record_proxy(self, run_id: str, owner: str, file_id: int, proxy: NewProxy) -> ProxyRecord:
        """A proxy was stored, or the original kept."""
        return results.record_proxy(self._store, run_id, owner, file_id, proxy)

    def record_call(self, run_id: str, file_id: int, call: NovaCall) -> None:
        """A request reached Nova and brought no valid answer."""
        results.record_call(self._store, run_id, file_id, call)

    def record_analysis(self, run_id: str, owner: str, file_id: int, analysis: NewAnalysis, call: NovaCall) -> None:
        """A valid answer and the call that brought it, in one transaction."""
        results.record_analysis(self._store, run_id, owner, file_id, analysis=analysis, call=call)

    def record_failure(self, run_id: str, owner: str, file_id: int, stage: Stage, failure: Failure) -> None:
        """The image was refused."""
        results.record_failure(self._store, run_id, owner, file_id, stage=stage, failure=failure)

    def record_missing_proxy(self, run_id: str, owner: str, file_id: int, *, message: str) -> None:
        """The proxy is not where its row says: pending again, to be made anew."""
        results.record_missing_proxy(self._store, run_id, owner, file_id, message=message)

    def record_skip(
        self, run_id: str, owner: str | None, file_id: int, stage: Stage, *, code: str, message: str
    ) -> None:
        """Nothing to do for this run; `owner` None for an image that was busy."""
        results.record_skip(self._store, run_id, owner, file_id, stage=stage, code=code, message=message)

    def record_return(self, run_id: str, owner: str, file_id: int, stage: Stage, *, code: str, message: str) -> None:
        """Put back to pending: throttled, out of time, or the lease was lost to another run."""
        results.record_return(self._store, run_id, owner, file_id, stage=stage, code=code, message=message)

    # -- what people look at ---------------------------------------------------------------------------------------

    def list_files(self, wanted: FileFilter, *, limit: int, after: Cursor | None = None) -> FilePage:
        """A page of images with their state, newest upload first."""
        return browse.list_files(self._store, wanted, limit=limit, after=after)

    def matching_ids(self, wanted: FileFilter, limit: int) -> tuple[int, ...]:
        """The ids of the first `limit` files that match, in the order of the pages."""
        return browse.matching_ids(self._store, wanted, limit)

    def known_images(self, file_ids: Sequence[int]) -> frozenset[int]:
        """Which of these ids are images of the team's."""
        return browse.known_images(self._store, file_ids)

    def file_entry(self, file_id: int) -> FileEntry | None:
        """One file with its state, None if there is none or it is a proxy."""
        return browse.file_entry(self._store, file_id)

    def file_detail(self, file_id: int) -> FileDetail | None:
        """One file with its histories and costs, None if there is none or it is a proxy."""
        return browse.file_detail(self._store, file_id)

    def current_proxy(self, file_id: int, key: WorkKey) -> ProxyEntry | None:
        """The current proxy, kept original or failure for the image's present content and this recipe."""
        return browse.current_proxy(self._store, file_id, key)

    def current_analysis(self, file_id: int, key: WorkKey) -> AnalysisEntry | None:
        """The current analysis or failure for the image's present content and this key."""
        return browse.current_analysis(self._store, file_id, key)

    def item_outcomes(self, run_id: str, file_id: int) -> ItemOutcomes | None:
        """What a run decided about an image so far; None where it did not list it."""
        return browse.item_outcomes(self._store, run_id, file_id)

    def undecided_in(self, run_ids: Sequence[str], file_id: int, stage: Stage) -> str | None:
        """Which of these runs listed the image and has not decided about it yet."""
        return browse.undecided_in(self._store, run_ids, file_id, stage)

    def savings(self, group: SavingsGroup, limit: int = figures.GROUPS) -> tuple[SavingsRow, ...]:
        """Measured savings by day, run, format or size class."""
        return self._savings.by(group, limit).groups

    def savings_table(self, group: SavingsGroup, limit: int = figures.GROUPS) -> Savings:
        """The same with the total and the moment of reading."""
        return self._savings.by(group, limit)

    def savings_total(self) -> SavingsRow:
        """Measured savings over everything."""
        return self._savings.total()

    def failure_reasons(self) -> tuple[FailureReason, ...]:
        """How many images have which failure now."""
        return figures.failure_reasons(self._store)

    def failures(
        self, *, limit: int, after: Cursor | None = None, stage: Stage | None = None, code: str | None = None
    ) -> FailurePage:
        """A page of images that are failed now, newest first."""
        return figures.failures(self._store, limit=limit, after=after, stage=stage, code=code)

    def failed_ids(
        self, stage: Stage, *, code: str | None = None, file_ids: Sequence[int] | None = None, limit: int
    ) -> tuple[int, ...]:
        """The images that are failed now at a stage, for trying them again."""
        return figures.failed_ids(self._store, stage, code=code, file_ids=file_ids, limit=limit)

    def progress(self, run_id: str) -> RunProgress:
        """A run as it stands; raises `UnknownRun` before its plan is stored."""
        return figures.progress(self._store, run_id)

    def record_preview(self, file_id: int, content_version: str, preview: NewPreview) -> None:
        """A worker stored a small picture of the original."""
        previews.record_preview(self._store, file_id, content_version, preview)

    def preview(self, file_id: int) -> PreviewRecord | None:
        """The preview of the image's present content."""
        return previews.preview(self._store, file_id)

    def target_figures(self) -> TargetFigures:
        """What the targets are held against, measured."""
        return self._targets.get()
