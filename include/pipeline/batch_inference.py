"""One batch inference job, from a planned batch of images to its answers in the catalog.

Follow one job: `go_on` finds out from its row how far it came and does the next step. `_prepare` claims the images and
fills the job's folder, `_start` asks Bedrock, `_look` tells whether it is over, `_join` writes the answers. Each step
can be cut off anywhere and done again: whoever comes next goes on from the row, and nothing is started or paid twice.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from include.catalog.records import BatchJob, Failure, JobState, Outcome, ProxyRecord, Stage, WorkItem
from include.nova import Disposition, endpoint_of
from include.nova.batch import (
    FAILED,
    MIN_RECORDS,
    TERMINAL,
    JobNames,
    build_job,
    build_record,
    names_of,
    rest_of,
)
from include.nova.errors import failure_of
from include.pipeline.batch_answers import RECORDS_FILE, JobAnswers, copy_uri
from include.pipeline.batch_plan import TIER
from include.pipeline.batches import RunCancelled, skip, skip_busy
from include.pipeline.params import PipelineParams, parse_params
from include.pipeline.plan import projected_costs
from include.pipeline.prompting import prompt_of
from include.pipeline.settings import Settings
from include.pipeline.spending import limits_of, message_of
from include.pipeline.telemetry import NO_METRICS, Metrics
from include.storage.copies import copy_object, delete_folder, split_uri
from include.storage.errors import SourceError, StorageError
from include.storage.objects import clean_stem, upload_object

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

COPY_THREADS = 16  # copies are S3's work: these wait for it
COPIES_PER_RENEWAL = 2000
# Filling the folder of a full job takes minutes; images of a task that died meanwhile are free again after this.
PREPARING_SECONDS = 3600
# Between the end of a job and the end of its join: a task has to be scheduled, and 50,000 rows written.
JOINING = timedelta(hours=2)
# A run that is alive reads a job's answers within minutes of its end; after this somebody else does.
LEFT_BEHIND = timedelta(minutes=30)
COUNTED = (Outcome.ANALYSED, Outcome.FAILED, Outcome.RETURNED)
_LOST = "Lost"  # Bedrock does not know the job any more


class BatchRefused(PermissionError):
    """Bedrock would not start the job, and will not at the next try; the images are pending again."""

    code = "batch_refused"


class BatchNotStarted(RuntimeError):
    """Bedrock did not take the job now: too many jobs or requests, or no answer. The same job is asked for again."""

    code = "batch_not_started"


class BatchFailed(RuntimeError):
    """The job failed as a whole; the images are pending again. The message is Bedrock's."""

    code = "batch_failed"


@dataclass(frozen=True, slots=True)
class BatchInference:
    """Everything that a job needs. ``bedrock`` is a boto3 `bedrock` client, ``s3`` a boto3 S3 client."""

    catalog: Catalog
    bedrock: Any
    s3: Any
    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = NO_METRICS

    def go_on(self, run_id: str, batch_id: int) -> BatchJob:
        """Bring the batch's job as far as it can be without waiting, and return it.

        Its state is then `waiting` (call again when Bedrock is done), `joined`, or `handed_over` (too few images for a
        job). Raises `BatchRefused`, `BatchNotStarted`, `BatchFailed`, `RunCancelled`, and what storage raises.
        """
        job = self.catalog.latest_job(run_id, batch_id)
        if job is None or job.state is JobState.REFUSED or (job.state is JobState.JOINED and job.status == FAILED):
            job = self._store(run_id, batch_id, 1 if job is None else job.number + 1)
        if job.state is JobState.STARTING:
            job = self._unless_lapsed(job)
        if job.state is JobState.PREPARING:
            job = self._prepare(job)
        if job.state is JobState.STARTING:
            job = self._start(job)
        if job.state is JobState.WAITING:
            job = self._look(job)
        if job.state is JobState.WAITING and self.stop.is_set():
            self.cancel(job)
            raise RunCancelled("stopped, and the job with it; what it has answered will be read")
        return job

    def _store(self, run_id: str, batch_id: int, number: int) -> BatchJob:
        names = names_of(run_id, batch_id, number)
        settings = self.settings
        folder = f"s3://{settings.required_bucket}/{settings.batch_prefix}/{clean_stem(run_id)}/{names.folder}"
        owner = f"batch-job-{names.token}"
        return self.catalog.store_job(run_id, batch_id, number, token=names.token, owner=owner, folder=folder)

    # -- before Bedrock ------------------------------------------------------------------------------------------

    def _prepare(self, job: BatchJob) -> BatchJob:
        """Claim the images, copy what Nova will read into the job's folder, and put the records beside."""
        batch = self.catalog.claim_batch(job.run_id, job.batch_id, Stage.ANALYSE, job.owner, PREPARING_SECONDS)
        skip_busy(self.catalog, job.run_id, batch.busy, Stage.ANALYSE)
        try:
            items = [item for item in batch.items if self._is_to_do(job, item)]
            if len(items) >= MIN_RECORDS:
                items = self._set_aside(job, items)
            count = len(items)
            if count >= MIN_RECORDS:
                count = self._fill(job, items)
            if count < MIN_RECORDS:
                return self._hand_over(job, count)
            return self.catalog.move_job(job, JobState.STARTING, records=count)
        except BaseException:
            self.catalog.release(job.owner)
            raise

    def _set_aside(self, job: BatchJob, items: list[WorkItem]) -> list[WorkItem]:
        """Have the limits count what the job will cost while it is answered; return the images that they pay for now.
        Another run, planned at the same moment, may have taken the money since: then the rest is pending again."""
        params = self._params(job)
        usd = projected_costs([item.image for item in items], params, self.settings, TIER)
        costs = {item.image.file_id: each for item, each in zip(items, usd, strict=True)}
        limits = limits_of(params, self.settings, job.run_id, self.catalog.now()) if any(usd) else ()
        count, reached = self.catalog.set_aside(job.owner, costs, limits)
        if reached is not None:
            left, why = items[count:], message_of(reached)
            log.warning("%s: %d of %d images are left for a later run", why, len(left), len(items))
            for item in left:
                self.catalog.record_return(
                    job.run_id, job.owner, item.image.file_id, Stage.ANALYSE, code=reached.code, message=why
                )
        return items[:count]

    def _is_to_do(self, job: BatchJob, item: WorkItem) -> bool:
        code = "analysis_exists" if item.analysed else "no_proxy" if item.proxy is None else None
        if code is not None:
            skip(self.catalog, job.run_id, job.owner, item, Stage.ANALYSE, code)
        return code is None

    def _hand_over(self, job: BatchJob, count: int) -> BatchJob:
        log.info("%d images are fewer than the %d that a job needs: for on demand", count, MIN_RECORDS)
        self.catalog.release(job.owner)
        self._clean_up(job)
        return self.catalog.move_job(job, JobState.HANDED_OVER)

    def _fill(self, job: BatchJob, items: Sequence[WorkItem]) -> int:
        """Write copies and records; return how many images are in. The JSONL is written through a local file."""
        params, prompt = self._params(job), prompt_of(self.settings)
        bucket, prefix = split_uri(f"{job.folder}/input")
        count = 0
        with tempfile.TemporaryDirectory(prefix="nova-batch-", dir=self.settings.temp_dir) as scratch:
            path = Path(scratch) / RECORDS_FILE
            with path.open("w", encoding="utf-8") as records:
                for proxy, uri in self._copies(job, items):
                    line = build_record(
                        proxy.file_id, params.model_id, uri, proxy.format, prompt, self.settings.bucket_owner
                    )
                    records.write(line + "\n")
                    count += 1
                    if count % COPIES_PER_RENEWAL == 0:
                        self.catalog.renew(job.owner, PREPARING_SECONDS)
            token = job.client_request_token
            upload_object(
                self.s3,
                path,
                bucket,
                f"{prefix}/{RECORDS_FILE}",
                content_type="application/jsonl",
                source_id=token,
                rules=self.settings.object_rules,
            )
        return count

    def _copies(self, job: BatchJob, items: Sequence[WorkItem]) -> Iterator[tuple[ProxyRecord, str]]:
        """Copy each image's proxy within S3; those that arrived, in order."""
        executor = ThreadPoolExecutor(COPY_THREADS, thread_name_prefix="copy")
        try:
            for copied in executor.map(lambda item: self._copy(job, item), items):
                if copied is not None:
                    yield copied
        finally:
            executor.shutdown(cancel_futures=True)

    def _copy(self, job: BatchJob, item: WorkItem) -> tuple[ProxyRecord, str] | None:
        if self.stop.is_set():
            raise RunCancelled("stopped while the job was prepared; its images are pending again")
        proxy, file_id = item.proxy, item.image.file_id
        if proxy is None:
            return None
        uri = copy_uri(job, proxy)
        try:
            copy_object(self.s3, proxy.uri, uri, self.settings.object_rules.copy())
        except SourceError as error:
            if error.code == "source_missing":
                message = f"{proxy.uri} is gone: {error}"
                self.catalog.record_missing_proxy(job.run_id, job.owner, file_id, message=message)
            else:
                failure = Failure(error.code, str(error), transient=error.transient)
                self.catalog.record_failure(job.run_id, job.owner, file_id, Stage.ANALYSE, failure)
            return None
        return proxy, uri

    def _unless_lapsed(self, job: BatchJob) -> BatchJob:
        """A job that nobody came back to in time is prepared anew, unless Bedrock has it: since its leases ran out
        others may have done its images, and spent its money."""
        if self.catalog.count_leased(job.owner) == job.records:
            return job
        arn = self._find(job)
        if arn is not None:
            return self.catalog.move_job(job, JobState.WAITING, job_arn=arn, status="Submitted")
        return self.catalog.move_job(job, JobState.PREPARING)

    def _start(self, job: BatchJob) -> BatchJob:
        """Ask Bedrock for the job. Asked again with the same token it gives the job that it has."""
        # From here on Bedrock may work on the images, whatever becomes of this task: nobody else may take them.
        self.catalog.renew(job.owner, self._life(job, None))
        try:
            arn = str(self.bedrock.create_model_invocation_job(**self._request(job))["jobArn"])
        except self.bedrock.exceptions.ConflictException as conflict:
            # A setting was changed since an earlier try, which Bedrock took: that job is the one.
            arn = self._find(job) or self._not_started(job, conflict)
        except Exception as exception:
            self._not_started(job, exception)
        job = self.catalog.move_job(job, JobState.WAITING, job_arn=arn, status="Submitted")
        log.info("batch job %s: %s images, token %s", arn, job.records, job.client_request_token)
        return job

    def _request(self, job: BatchJob) -> dict[str, Any]:
        settings = self.settings
        return build_job(
            JobNames(job.client_request_token),
            model_id=self._params(job).model_id,
            role_arn=settings.required_batch_role_arn,
            input_uri=f"{job.folder}/input/",
            output_uri=f"{job.folder}/output/",
            timeout_hours=settings.batch_timeout_hours,
            bucket_owner=settings.bucket_owner,
        )

    def _not_started(self, job: BatchJob, exception: Exception) -> NoReturn:
        failure = failure_of(exception)
        if failure is None:
            raise exception
        error = failure.error
        if error.disposition in (Disposition.RETRY, Disposition.RETURN):
            if error.code == "throttled":  # it has certainly not begun, so nobody need wait for its timeout
                self.catalog.renew(job.owner, PREPARING_SECONDS)
            raise BatchNotStarted(str(error)) from exception
        self.catalog.return_rest(job, code=error.code, message=error.message)
        self.catalog.move_job(job, JobState.REFUSED, message=error.message)
        self._clean_up(job)
        raise BatchRefused(f"{error}. Role: {self.settings.batch_role_arn}") from exception

    def _life(self, job: BatchJob, expires: datetime | None) -> float:
        """Seconds for which the job may go on and be joined: until Bedrock gives it up, and a margin."""
        ends = expires or job.created_at + timedelta(hours=self.settings.batch_timeout_hours)
        return max((ends + JOINING - datetime.now(UTC)).total_seconds(), JOINING.total_seconds())

    # -- while Bedrock has it ------------------------------------------------------------------------------------

    def _look(self, job: BatchJob) -> BatchJob:
        try:
            found = self._ask(job.job_arn)
        except Exception as exception:
            failure = failure_of(exception)
            if failure is None or failure.error.disposition not in (Disposition.RETRY, Disposition.RETURN):
                raise
            log.warning("cannot look at batch job %s, waiting on: %s", job.job_arn, failure.error)
            return job
        status = str(found["status"])
        job = self.catalog.update_job(job, status=status, message=found.get("message"))
        if status in TERMINAL or status == _LOST:
            return self._join(job, found)
        self.catalog.renew(job.owner, self._life(job, found.get("jobExpirationTime")))
        return job

    def _ask(self, arn: str | None) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.bedrock.get_model_invocation_job(jobIdentifier=arn)
        except self.bedrock.exceptions.ResourceNotFoundException as error:
            return {"status": _LOST, "message": str(error)}
        return found

    def cancel(self, job: BatchJob) -> None:
        """Have Bedrock stop the job; what it has answered by then is billed and will be joined."""
        if job.state is not JobState.WAITING or job.job_arn is None:
            return
        log.info("stopping batch job %s", job.job_arn)
        try:
            self.bedrock.stop_model_invocation_job(jobIdentifier=job.job_arn)
        except self.bedrock.exceptions.ConflictException:
            log.info("batch job %s is over already", job.job_arn)

    # -- after Bedrock -------------------------------------------------------------------------------------------

    def _join(self, job: BatchJob, found: dict[str, Any]) -> BatchJob:
        """Write every answer, put back what has none, clean up. Raises `BatchFailed` for a job that failed."""
        self.catalog.renew(job.owner, JOINING.total_seconds())
        answers = JobAnswers(
            self.catalog,
            self.s3,
            job,
            self._params(job),
            self.settings,
            endpoint_of(self.bedrock),
            self.stop,
            self.metrics,
        )
        read = answers.write_all()
        status = str(found["status"])
        rest = rest_of(status, found.get("message"))
        returned = self.catalog.return_rest(job, code=rest.code, message=rest.message)
        if returned:
            self.metrics.count(f"images.analyse.{Outcome.RETURNED.value}", returned)
            self.metrics.count(f"codes.{rest.code}", returned)
        counts = self.catalog.job_outcomes(job)
        columns = {outcome.value: counts.get(outcome, 0) for outcome in COUNTED}
        job = self.catalog.move_job(job, JobState.JOINED, ended_at=found.get("endTime"), **columns)
        log.info(
            "batch job %s %s: %d answers read, %d images put back, %s", job.job_arn, status, read, returned, counts
        )
        self._clean_up(job)
        if status == FAILED:
            raise BatchFailed(f"batch job {job.job_arn} failed: {found.get('message') or 'no message'}")
        if answers.fatal:
            raise BatchFailed(
                f"{len(answers.fatal)} or more images cannot succeed as things are set up: {answers.fatal[0]}"
            )
        return job

    def _clean_up(self, job: BatchJob) -> None:
        """Delete the copies and the records. The output stays: it is small, and what Bedrock billed."""
        try:
            delete_folder(self.s3, f"{job.folder}/input")
        except StorageError as error:
            log.warning("the copies below %s/input stay: %s", job.folder, error)

    def _params(self, job: BatchJob) -> PipelineParams:
        return parse_params(self.catalog.run_params(job.run_id))

    # -- jobs whose task is no more ------------------------------------------------------------------------------

    def finish_own(self, run_id: str) -> BatchJob | None:
        """Join what the run's own tasks left, and stop what goes on without them; return a job that is not over yet.

        A task that was cancelled before a triggerer had taken it over could not stop its job itself.
        """
        for left in self.catalog.open_jobs():
            job = self._settle(left) if left.run_id == run_id else None
            if job is not None and job.state is JobState.WAITING:
                self.cancel(job)
                return job
        self.catalog.release_run(run_id)  # of tasks that were killed before they had a job
        return None

    def settle_left_behind(self, run_id: str) -> int:
        """Join jobs of other runs that ended while nobody was there to read them; return how many.

        Their answers are paid for, and their images would wait for a lease of days. A job that its own run joins at the
        same moment takes no harm: every answer is written once.
        """
        settled = 0
        long_ago = datetime.now(UTC) - LEFT_BEHIND
        for job in self.catalog.open_jobs():
            if job.run_id == run_id or job.created_at > long_ago:
                continue
            try:
                settled += self._settle(job, long_ago).state is JobState.JOINED
            except Exception:  # an old job that cannot be read must not keep new ones from starting
                log.warning("batch job %s of run %s cannot be settled", job.job_arn, job.run_id, exc_info=True)
        return settled

    def _settle(self, job: BatchJob, ended_before: datetime | None = None) -> BatchJob:
        arn = job.job_arn or self._find(job)
        found: dict[str, Any] = self._ask(arn) if arn else {"status": _LOST, "message": "it was never started"}
        job = self.catalog.move_job(job, JobState.WAITING, job_arn=arn, status=found["status"])
        ended: datetime | None = found.get("endTime")
        recent = ended is not None and ended_before is not None and ended > ended_before
        if recent or found["status"] not in (*TERMINAL, _LOST):
            return job
        log.info("job %s of run %s was left behind; it is %s", arn, job.run_id, found["status"])
        try:
            return self._join(job, found)
        except BatchFailed as error:
            log.warning("%s", error)
            return dataclasses.replace(job, state=JobState.JOINED)

    def _find(self, job: BatchJob) -> str | None:
        """The job that Bedrock made of a request whose answer nobody stored."""
        name = JobNames(job.client_request_token).job_name
        jobs = self.bedrock.list_model_invocation_jobs(nameContains=name).get("invocationJobSummaries", [])
        return next((str(found["jobArn"]) for found in jobs if found["jobName"] == name), None)
