"""The catalog as the other rooms see it: one class, whose methods are documented where they are implemented."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy import Engine

from include.catalog import (
    batch_jobs,
    browse,
    claims,
    daily,
    evaluations,
    exports,
    figures,
    ledger,
    lookups,
    maintenance,
    previews,
    proxy_results,
    registration,
    reports,
    results,
    runs,
    selection,
    sources,
    spending,
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
    AnalysisFilter,
    BatchJob,
    ClaimedBatch,
    DayFigures,
    Derived,
    Evaluation,
    EvaluationCall,
    FailedImage,
    Failure,
    ImageReport,
    JobState,
    LedgerCounts,
    MadeProxy,
    NewAnalysis,
    NewEvaluation,
    NewImage,
    NovaCall,
    Outcome,
    PlannedBatch,
    ProxyRecord,
    RecordedProxies,
    RegisterCounts,
    RunCounts,
    RunFigures,
    RunPlan,
    Selection,
    SourceImage,
    SpendingLimit,
    Stage,
    StoredPreview,
    WorkKey,
)
from include.catalog.results import DEFAULT_MAX_ATTEMPTS
from include.catalog.store import Store
from include.catalog.targets import TargetFigures

T = TypeVar("T")


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

    def appraise_unprocessed(self, wanted: Selection, appraise: Callable[[list[SourceImage]], T]) -> T:
        """What `appraise` makes of these images. It may be called twice, and must not write."""
        return selection.appraise_unprocessed(self._store, wanted, appraise)

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

    def require_held(self, owner: str, file_id: int) -> None:
        """Raises LeaseLost when the image is not the owner's any more."""
        claims.require_held(self._store, owner, file_id)

    def count_leased(self, owner: str) -> int:
        """How many images `owner` holds under a lease that has not run out."""
        return claims.count_leased(self._store, owner)

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

    def record_proxies(self, run_id: str, owner: str, made: Sequence[MadeProxy]) -> RecordedProxies:
        """Proxies were stored, or originals kept; and previews of originals."""
        return proxy_results.record_proxies(self._store, run_id, owner, made)

    def record_call(self, run_id: str, file_id: int, call: NovaCall) -> None:
        """A request reached Nova and brought no valid answer."""
        results.record_call(self._store, run_id, file_id, call)

    def record_analysis(self, run_id: str, owner: str, file_id: int, analysis: NewAnalysis, call: NovaCall) -> None:
        """A valid answer and the call that brought it, in one transaction."""
        results.record_analysis(self._store, run_id, owner, file_id, analysis=analysis, call=call)

    def record_failure(
        self,
        run_id: str,
        owner: str,
        file_id: int,
        stage: Stage,
        failure: Failure,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    ) -> None:
        """The image was refused; a transient failure is tried again by later runs, `max_attempts` times in all."""
        results.record_failure(
            self._store, run_id, owner, file_id, stage=stage, failure=failure, max_attempts=max_attempts
        )

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

    # -- spending ------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The moment, by the catalog's clock: aware UTC."""
        return self._store.now()

    def spent_usd(
        self, *, run_id: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> float:
        """US dollars of requests to Nova (on the stand-in: projected), of one run or of all."""
        return spending.spent_usd(self._store, run_id=run_id, since=since, until=until)

    def reserve(self, owner: str, file_id: int, usd: float, limits: Sequence[SpendingLimit]) -> SpendingLimit | None:
        """Sets a request's projected cost aside; returns the limit that it would pass, None when it fits."""
        return spending.reserve(self._store, owner, file_id, usd, limits)

    def set_aside(
        self, owner: str, costs: Mapping[int, float], limits: Sequence[SpendingLimit]
    ) -> tuple[int, SpendingLimit | None]:
        """Sets a batch job's projected costs (US dollars by file id) aside, of as many images as the limits pay for;
        returns how many, and the limit that pays for no more."""
        return spending.set_aside(self._store, owner, costs, limits)

    def reserved_usd(self, *, but_run: str | None = None) -> float:
        """US dollars that are set aside for requests and batch jobs in flight, without those of one run."""
        return spending.reserved_usd(self._store, but_run=but_run)

    def run_key(self, run_id: str) -> WorkKey:
        """The recipe, model and prompt that the run was planned with."""
        return runs.run_key(self._store, run_id)

    def daily_figures(self, first: date, last: date) -> list[DayFigures]:
        """The work of each UTC day, both ends inclusive, over all runs."""
        return daily.daily_figures(self._store, first, last)

    # -- export and evaluation -----------------------------------------------------------------------------------

    def current_analyses(self, wanted: AnalysisFilter) -> Iterator[Mapping[str, Any]]:
        """Rows of the view `current_image_analyses` that pass the filter, as a stream."""
        return exports.current_analyses(self._store, wanted)

    def sample_images(self, size: int, seed: int, short_side: int) -> tuple[int, ...]:
        """Ids of images chosen at random among those not known to be smaller than `short_side` px."""
        return evaluations.sample_images(self._store, size, seed, short_side)

    def store_evaluation(self, evaluation: NewEvaluation) -> Evaluation:
        """Writes an evaluation; again for the same run it returns what is there."""
        return evaluations.store_evaluation(self._store, evaluation)

    def evaluation(self, run_id: str) -> Evaluation | None:
        """A stored evaluation, None before it is planned."""
        return evaluations.evaluation(self._store, run_id)

    def record_evaluation_call(self, run_id: str, call: EvaluationCall) -> None:
        """A request of an evaluation and what came of it, or why there was none."""
        evaluations.record_call(self._store, run_id, call)

    def evaluation_calls(self, run_id: str) -> list[EvaluationCall]:
        """All calls of an evaluation, in the order in which they were recorded."""
        return evaluations.calls(self._store, run_id)

    def finish_evaluation(
        self, run_id: str, report: Mapping[str, Any], *, note: str | None, report_uri: str | None
    ) -> None:
        """The report of an evaluation, and where its file went."""
        evaluations.finish(self._store, run_id, report, note=note, report_uri=report_uri)

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

    # -- batch inference jobs ------------------------------------------------------------------------------------

    def planned_batches(self, run_id: str) -> tuple[PlannedBatch, ...]:
        """The batches that were stored for the run, in order."""
        return batch_jobs.planned_batches(self._store, run_id)

    def latest_job(self, run_id: str, batch_id: int) -> BatchJob | None:
        """The batch's newest job, None before the first."""
        return batch_jobs.latest_job(self._store, run_id, batch_id)

    def store_job(self, run_id: str, batch_id: int, number: int, *, token: str, owner: str, folder: str) -> BatchJob:
        """Writes a job that is about to be prepared."""
        return batch_jobs.store_job(self._store, run_id, batch_id, number, token=token, owner=owner, folder=folder)

    def update_job(self, job: BatchJob, **values: Any) -> BatchJob:
        """Changes columns of the job's row; returns it as it is now."""
        return batch_jobs.update_job(self._store, job, **values)

    def move_job(self, job: BatchJob, state: JobState, **values: Any) -> BatchJob:
        """Changes the job's state, with the time of it, and other columns."""
        return batch_jobs.move_job(self._store, job, state, **values)

    def open_jobs(self) -> list[BatchJob]:
        """Jobs that Bedrock may have and that nobody has joined, of all runs."""
        return batch_jobs.open_jobs(self._store)

    def sent_proxies(self, job: BatchJob, file_ids: Sequence[int]) -> dict[int, ProxyRecord]:
        """The proxies that the job was made with, by image."""
        return batch_jobs.sent_proxies(self._store, job, file_ids)

    def record_answer(self, job: BatchJob, file_id: int, analysis: NewAnalysis, call: NovaCall) -> bool:
        """A valid answer out of a job's output; written once, however often it is read. Whether it was written now."""
        return results.record_analysis(
            self._store, job.run_id, job.owner, file_id, analysis=analysis, call=call, once=True
        )

    def record_refusal(
        self, job: BatchJob, file_id: int, *, outcome: Outcome, failure: Failure, call: NovaCall
    ) -> bool:
        """Any other answer of a job; written once, however often it is read. Whether it was written now."""
        return results.record_refusal(
            self._store, job.run_id, job.owner, file_id, outcome=outcome, failure=failure, call=call
        )

    def return_rest(self, job: BatchJob, *, code: str, message: str) -> int:
        """Puts back what the job holds and did not decide; returns how many."""
        return batch_jobs.return_rest(self._store, job, code=code, message=message)

    def job_outcomes(self, job: BatchJob) -> dict[str, int]:
        """How many images of the job's batch ended how; None is left out."""
        return batch_jobs.job_outcomes(self._store, job)

    # -- sources of new images -----------------------------------------------------------------------------------

    def watermark(self, source: str) -> datetime | None:
        """When the last whole listing of the source began; None before the first."""
        return sources.watermark(self._store, source)

    def record_listing(self, source: str, began_at: datetime, listed: int) -> None:
        """A listing of the source reached its end."""
        sources.record_listing(self._store, source, began_at, listed)

    # -- maintenance: see `include.catalog.maintenance` ----------------------------------------------------------

    def recorded_uris(self, base: str) -> Iterator[tuple[str, bool]]:
        """Every recorded object below `base` in byte order, and whether it is current."""
        return maintenance.recorded_uris(self._store, base)

    def source_uris(self, base: str) -> Iterator[tuple[str, int]]:
        """Uri and file id of every image below `base`, in byte order."""
        return maintenance.source_uris(self._store, base)

    def known_objects(self, uris: Sequence[str]) -> frozenset[str]:
        """Which of these are recorded."""
        return maintenance.known_objects(self._store, uris)

    def supersede_missing(self, uris: Sequence[str]) -> int:
        """The rows of objects that are gone are superseded."""
        return maintenance.supersede_missing(self._store, uris)

    def expired_claims(self, before: datetime, *, remove: bool) -> int:
        """How many leases ended before this moment; with `remove` they are deleted."""
        act = claims.release_expired if remove else maintenance.expired_claims
        return act(self._store, before)

    def mark_vanished(self, vanished: Sequence[int], found: Sequence[int]) -> None:
        """Notes originals that are gone, and forgets the note of those that are there again."""
        maintenance.mark_vanished(self._store, vanished, found)

    def vanished_ids(self, file_ids: Sequence[int]) -> frozenset[int]:
        """Which of these images are noted as vanished."""
        return maintenance.vanished_ids(self._store, file_ids)

    def of_other_content(self, *, supersede: bool) -> int:
        """How many current rows are of content that their image no longer has; with `supersede` they are."""
        act = maintenance.supersede_other_content if supersede else maintenance.count_of_other_content
        return act(self._store)

    def superseded(self, before: datetime, after_id: int = 0) -> list[Derived]:
        """A page of proxy rows superseded before this moment, by id."""
        return maintenance.superseded(self._store, before, after_id)

    def superseded_analyses(self, before: datetime, *, remove: bool) -> int:
        """How many analyses were superseded before this moment; with `remove` they are deleted."""
        act = maintenance.delete_superseded_analyses if remove else maintenance.count_superseded_analyses
        return act(self._store, before)

    def delete_proxy_rows(self, derived: Sequence[Derived]) -> None:
        """Deletes rows of proxies whose objects are gone."""
        maintenance.delete_proxy_rows(self._store, derived)

    def derived_of(self, file_ids: Sequence[int]) -> list[Derived]:
        """Every proxy row of these images."""
        return maintenance.derived_of(self._store, file_ids)

    def previews_of(self, file_ids: Sequence[int]) -> list[StoredPreview]:
        """Every preview of these images."""
        return previews.previews_of(self._store, file_ids)

    def former_previews(self, before: datetime, after: StoredPreview | None = None) -> list[StoredPreview]:
        """A page of previews of content that was given up before this moment."""
        return previews.former_previews(self._store, before, after)

    def delete_previews(self, rows: Sequence[StoredPreview]) -> None:
        """Deletes rows of previews whose objects are gone."""
        previews.delete_previews(self._store, rows)

    def deletable(self, file_ids: Sequence[int]) -> tuple[list[int], dict[int, str]]:
        """Which of these images may be forgotten, and why the others may not."""
        return maintenance.deletable(self._store, file_ids)

    def count_analyses(self, file_ids: Sequence[int]) -> int:
        """How many analyses these images have."""
        return maintenance.count_analyses(self._store, file_ids)

    def forget(self, file_ids: Sequence[int]) -> None:
        """Deletes all that was made of these images, and their rows where they are ours."""
        maintenance.forget(self._store, file_ids)

    # -- how runs follow one another, and the failure ledger -------------------------------------------------------

    def is_same_request(self, run_id: str, run_type: str | None, params: Mapping[str, Any]) -> bool:
        """Whether the run was last planned with these params and started in this way."""
        return runs.is_same_request(self._store, run_id, run_type, params)

    def mapped_batches(self, run_id: str) -> int:
        """The most batches that one planning of the run handed to Airflow; 0 before the first."""
        return runs.mapped_batches(self._store, run_id)

    def run_stages(self, run_id: str) -> frozenset[Stage]:
        """The stages that the run goes through: those asked for, and what these need."""
        return runs.run_stages(self._store, run_id)

    def others_at_work(self, run_id: str, run_types: Sequence[str]) -> bool:
        """Whether another run of these types is working on an image at this moment."""
        return ledger.others_at_work(self._store, run_id, run_types)

    def failed_images(self, file_ids: Sequence[int] | None = None, limit: int = 1000) -> list[FailedImage]:
        """What failed and stands so: attempts, last reason, next try."""
        return ledger.failures(self._store, file_ids, limit)

    def ledger_counts(self, key: WorkKey) -> LedgerCounts:
        """How many failures are due, wait, or are left alone until `force`."""
        return ledger.ledger_counts(self._store, key)

    def target_figures(self) -> TargetFigures:
        """What the targets are held against, measured."""
        return self._targets.get()
