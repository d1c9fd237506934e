"""Operators for batch inference: each reads its connections and settings, and calls `include.pipeline`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from image_proxy.operators import CatalogOperator, NovaAnalysisOperator, SummariseRunOperator, identity_of, label_of
from include.pipeline.batch_params import batch_param_schemas, parse_batch_params
from include.pipeline.identity import window_of
from include.pipeline.params import InvalidParams
from include.pipeline.settings import Settings, SettingsError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from image_proxy.triggers import BatchJobTrigger
    from include.catalog.catalog import Catalog
    from include.catalog.records import BatchJob
    from include.pipeline.batch_inference import BatchInference


def batch_params() -> dict[str, Param]:
    """Return the trigger form of `nova_batch_inference`, in the order of its fields."""
    return {name: Param(schema.pop("default"), **schema) for name, schema in batch_param_schemas().items()}


def _inference(settings: Settings, catalog: Catalog, stop: threading.Event) -> BatchInference:
    from airflow.providers.amazon.aws.hooks.bedrock import BedrockHook
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from image_proxy.telemetry import AirflowMetrics
    from include.pipeline.batch_inference import BatchInference

    bedrock, s3 = BedrockHook(aws_conn_id=settings.aws_conn_id).conn, S3Hook(settings.aws_conn_id).conn
    return BatchInference(catalog, bedrock, s3, settings, stop, AirflowMetrics())


def _trigger(job: BatchJob, settings: Settings) -> BatchJobTrigger:
    from image_proxy.triggers import BatchJobTrigger

    return BatchJobTrigger(str(job.job_arn), settings.aws_conn_id, settings.batch_poll_seconds)


class PlanBatchJobsOperator(CatalogOperator):
    """List images that have a proxy and no analysis, project the cost of batch inference, and split them into jobs.

    Returns one small mapping per job (`run_id`, `batch_id`, `label`); membership stays on the catalog's rows. Wrong
    params, wrong or missing settings (`IMAGE_PROXY_BATCH_ROLE_ARN`) and a projected cost above `max_cost_usd` fail the
    task at once, before anything is written. Jobs that an earlier run left behind are joined first.
    """

    ui_color = "#e8f1fb"

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from include.nova import NovaError, endpoint_of
        from include.pipeline.batch_plan import plan_batch_run
        from include.pipeline.plan import CostLimitExceeded

        run, identity = context["dag_run"], identity_of(context)
        try:
            params = parse_batch_params({**dict(context["params"]), **(run.conf or {})})
            settings = self.settings()
            self.check_pools(context)
            catalog = self.catalog(settings)
            inference = _inference(settings, catalog, threading.Event())
            if not params.dry_run:
                inference.settle_left_behind(identity.run_id)
            plan = plan_batch_run(
                catalog,
                identity,
                params,
                settings,
                window_of(run.run_type, run.data_interval_start, run.data_interval_end, run.start_date),
                nova_endpoint=endpoint_of(inference.bedrock),
            )
        except (InvalidParams, SettingsError, CostLimitExceeded, NovaError) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        projection = dataclasses.asdict(plan.projection)
        self.log.info("%s %s", "dry run, nothing was written: would take" if params.dry_run else "takes", projection)
        context["ti"].xcom_push(key="projection", value=projection)
        return [
            {"run_id": identity.run_id, "batch_id": batch.batch_id, "label": label_of(batch)} for batch in plan.batches
        ]


class NovaBatchJobOperator(CatalogOperator):
    """Have Nova describe one planned batch in a batch inference job, at half price.

    Fills a folder with the records and with copies of the proxies, starts the job, waits for it in the triggerer
    (without a worker slot), and writes the answers to the catalog. Whoever executes it after a crash, a retry or a
    restart goes on from the job's row: a job is never started twice, an answer never written twice. Images that the job
    did not answer are pending again. Cancelling the task stops the job. Too few images for a job are left to the task
    behind this one. Returns the number of images by outcome.

    :param batch: What to work on: `run_id` and `batch_id` of a stored plan. (templated)
    """

    template_fields: Sequence[str] = ("batch",)
    ui_color = "#efe6fa"

    def __init__(self, *, batch: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, int]:
        from include.catalog.records import JobState
        from include.pipeline.batch_inference import BatchFailed, BatchRefused

        settings = self.settings()
        catalog = self.catalog(settings)
        self._stop = threading.Event()
        inference = _inference(settings, catalog, self._stop)
        run_id, batch_id = self.batch["run_id"], self.batch["batch_id"]
        try:
            job = inference.go_on(run_id, batch_id)
        except (BatchRefused, BatchFailed, SettingsError) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        if job.state is JobState.WAITING:
            self.defer(trigger=_trigger(job, settings), method_name="resume")
        counts = catalog.job_outcomes(job)
        self.log.info("job %s is %s; outcomes: %s", job.job_arn, job.status or job.state.value, counts)
        return counts

    def resume(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Go on after the trigger fired; what the job came to is asked of Bedrock, not of the event."""
        self.log.info("the trigger says: %s", event)
        return self.execute(context)

    def on_kill(self) -> None:
        """Begin nothing more, and stop the job as soon as there is one; what it has answered stays to be read."""
        if self._stop is not None:
            self._stop.set()


class OnDemandRestOperator(NovaAnalysisOperator):
    """Have Nova describe, on demand, a batch that was too small for a job; skipped where there was a job.

    :param batch: What to work on: `run_id` and `batch_id` of a stored plan. (templated)
    """

    def execute(self, context: Context) -> dict[str, int]:
        from include.catalog.records import JobState

        job = self.catalog(self.settings()).latest_job(self.batch["run_id"], self.batch["batch_id"])
        if job is None or job.state is not JobState.HANDED_OVER:
            raise AirflowSkipException("a batch job had these images")
        return super().execute(context)


class SummariseBatchRunOperator(SummariseRunOperator):
    """Read what cancelled or failed tasks left of their jobs, close the run, log its figures. Runs whatever happened.

    A job that goes on without its task is stopped. It needs a moment to end; that is waited for in the triggerer too.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        settings = self.settings()
        inference = _inference(settings, self.catalog(settings), threading.Event())
        job = inference.finish_own(identity_of(context).run_id)
        if job is not None:
            self.defer(trigger=_trigger(job, settings), method_name="resume")
        return super().execute(context)

    def resume(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger fired."""
        self.log.info("the trigger says: %s", event)
        return self.execute(context)
