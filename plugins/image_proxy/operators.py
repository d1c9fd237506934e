"""Operators: each reads its connections and settings, and calls one stage of `include.pipeline`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, conf
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from image_proxy.links import ImagesLink
from image_proxy.retries import no_useless_retries
from include.catalog.records import Outcome, Stage
from include.pipeline.identity import RunIdentity, Window, window_of
from include.pipeline.params import PipelineParams, parse_params
from include.pipeline.refusals import told_to_a_person
from include.pipeline.settings import Settings, load_settings
from include.pipeline.slots import POOL_FACTS, check_pools

EMPTY_BATCH = -1

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.catalog.catalog import Catalog
    from include.pipeline.plan import Plan


def identity_of(context: Context, task: str | None = None) -> RunIdentity:
    """Return the run's name in the catalog; with ``task``, that of one operator which plans its own work."""
    run = context["dag_run"]
    return RunIdentity(run.dag_id, run.run_id, task, None if task else run.run_type.value)


def _skip_empty(batch: Mapping[str, Any]) -> None:
    if batch["batch_id"] == EMPTY_BATCH:
        raise AirflowSkipException("planned again, the run has fewer batches than before")


def _named(counts: Mapping[Outcome, int]) -> dict[str, int]:
    return {outcome.value: count for outcome, count in counts.items()}


class CatalogOperator(BaseOperator):
    """What all operators share: deployment settings, the catalog they name, and their docstring as the UI's doc."""

    def __init__(self, **kwargs: Any) -> None:
        own = {"doc_md": inspect.getdoc(type(self)), "retry_policy": no_useless_retries()}
        super().__init__(**{**own, **kwargs})

    def settings(self, **overrides: Any) -> Settings:
        """Return the deployment's settings."""
        return load_settings(**overrides)

    def catalog(self, settings: Settings) -> Catalog:
        from image_proxy.hooks.catalog import CatalogHook

        with told_to_a_person():
            return CatalogHook(settings.catalog_conn_id).get_conn()

    def check_pools(self, context: Context) -> None:
        """Refuse a pool that could never give its slots, by what the scheduler left (see `image_proxy.pools`)."""
        facts: Any = context["task_state_store"].get(POOL_FACTS)
        if facts is None:
            self.log.info("no scheduler told which pools there are: they are not checked")
        else:
            check_pools(facts)

    def why_skip(self, context: Context, catalog: Catalog) -> str | None:
        """Return why the task would only be started to skip itself, where an upstream task can tell."""
        return None

    def unneeded(self, context: Context, catalog: Catalog) -> list[tuple[str, int]]:
        """Return the direct downstream tasks that would only be started to skip themselves."""
        found = []
        for task in self.downstream_list:
            reason = task.why_skip(context, catalog) if isinstance(task, CatalogOperator) else None
            if reason:
                self.log.info("%s is skipped: %s", task.task_id, reason)
                found.append((task.task_id, -1))
        return found

    def succeed(self, context: Context, result: Any, skipped: list[tuple[str, int]]) -> Any:
        """End the task with this result, and skip downstream tasks (by id and map index) without starting them.

        One that starts and skips itself costs a process and a turn of the scheduler; and on a busy core Airflow may see
        that process gone, and the task skipped, only after `[workers] min_heartbeat_interval`.
        """
        if not skipped:
            return result
        if result is not None and self.do_xcom_push:  # Airflow takes no result from a task that skips others
            context["ti"].xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=result)
        raise DownstreamTasksSkipped(tasks=skipped)


class PlanBatchesOperator(CatalogOperator):
    """List unprocessed images, project their cost, and store the run's batches in the catalog.

    Returns one small mapping per batch (`run_id`, `batch_id`, `label`); membership stays on the catalog's rows. It
    takes the images that the spending limits pay for; the rest stays pending, and the run's note says so. Unknown or
    wrong params, wrong settings, and a pool that is missing or too small fail the task at once, before anything is
    written. Under `dry_run` it writes nothing, logs the projection and returns no batches.
    """

    ui_color = "#e8f1fb"

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from image_proxy.notifications import check_notifier
        from include.pipeline.plan import MadeOnRequest, plan_run

        run = context["dag_run"]
        params = parse_params({**dict(context["params"]), **(run.conf or {})})
        settings = self.settings()
        if "analyse" in params.stages:
            self.check_pools(context)
        check_notifier(settings)
        catalog = self.catalog(settings)
        try:
            with told_to_a_person():
                plan = plan_run(
                    catalog,
                    identity_of(context),
                    params,
                    settings,
                    window_of(run.run_type, run.data_interval_start, run.data_interval_end, run.start_date),
                    nova_endpoint=self._nova_endpoint(settings, params),
                    max_batches=conf.getint("core", "max_map_length"),
                )
        except MadeOnRequest as error:
            raise AirflowSkipException(str(error)) from error
        self._tell_backlog(plan)
        self._tell_ledger(catalog, params, settings)
        self._tell(context, dataclasses.asdict(plan.projection), params)
        run_id = identity_of(context).run_id
        batches = [{"run_id": run_id, "batch_id": batch.batch_id, "label": label_of(batch)} for batch in plan.batches]
        return batches + self._empty(run_id, catalog.mapped_batches(run_id) - len(batches))

    def _nova_endpoint(self, settings: Settings, params: PipelineParams) -> str | None:
        """Return who will answer; None for a run that makes proxies only."""
        if "analyse" not in params.stages:
            return None
        from image_proxy.hooks.nova import nova_hook

        return nova_hook(settings, params.model_id).endpoint

    def _empty(self, run_id: str, count: int) -> list[dict[str, Any]]:
        """Return batches without images, in place of those that an earlier planning of the run had.

        Airflow 3.3.2 marks mapped instances as removed when a cleared run maps fewer, and does not bring them back when
        it is cleared again and maps more: their batches would never be worked on.
        """
        return [{"run_id": run_id, "batch_id": EMPTY_BATCH, "label": "nothing left"}] * max(0, count)

    def _tell_backlog(self, plan: Plan) -> None:
        from image_proxy.telemetry import AirflowMetrics

        metrics = AirflowMetrics()
        metrics.gauge("backlog.images", plan.projection.images + plan.projection.images_left_pending)
        metrics.gauge("backlog.age_seconds", plan.oldest_seconds)

    def _tell_ledger(self, catalog: Catalog, params: PipelineParams, settings: Settings) -> None:
        from include.pipeline.plan import work_key

        ledger = catalog.ledger_counts(work_key(params, settings))
        self.log.info(
            "failed before: %d due again, %d wait for their next try%s, %d left alone until force",
            *(ledger.due, ledger.waiting, f" (the first at {ledger.next_try_at})" if ledger.next_try_at else ""),
            ledger.given_up,
        )

    def _tell(self, context: Context, projection: dict[str, Any], params: PipelineParams) -> None:
        verb = "dry run, nothing was written: would take" if params.dry_run else "takes"
        self.log.info("%s %s", verb, projection)
        context["ti"].xcom_push(key="projection", value=projection)


class ImageProxyOperator(CatalogOperator):
    """Make the proxies of one batch with all cores, and upload them to S3.

    With ``batch`` (from `PlanBatchesOperator`, mapped) it works on images that a run has planned. Without, it plans
    for itself: the unprocessed images among ``file_ids``, or all of them up to ``limit``. A picture that cannot be
    proxied is an outcome on its catalog row and never fails the task; storage, database or disk trouble does, and a
    retry repeats only images without an outcome. Creating a proxy never calls Nova. Returns the number of images by
    outcome.

    :param batch: What to work on: `run_id` and `batch_id` of a stored plan. (templated)
    :param file_ids: Rows of the catalog's table `files`, when there is no batch; a list, or JSON of one. (templated)
    :param limit: Most images to take, when there is no batch.
    :param force: Redo proxies that exist.
    :param target_short_side: Shorter side of a proxy in pixels, 256 to 2048.
    :param quality: JPEG quality of photographs, 50 to 95.
    :param graphics_format: "png" or "webp" (lossless) for graphics, text and transparency.
    :param detail: "fixed", or "auto" to let pictures of small text keep the pixels that it needs.
    :param bucket: Bucket in place of the setting ``IMAGE_PROXY_BUCKET``. (templated)
    """

    template_fields: Sequence[str] = ("batch", "file_ids", "bucket")
    operator_extra_links = (ImagesLink(),)
    ui_color = "#dff3e4"

    def __init__(
        self,
        *,
        batch: Mapping[str, Any] | None = None,
        file_ids: Sequence[int] | str | None = None,
        limit: int | None = None,
        force: bool = False,
        target_short_side: int = 896,
        quality: int = 85,
        graphics_format: str = "png",
        detail: str = "fixed",
        bucket: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.file_ids = file_ids
        self.limit = limit
        self.force = force
        self.target_short_side = target_short_side
        self.quality = quality
        self.graphics_format = graphics_format
        self.detail = detail
        self.bucket = bucket
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, int]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from image_proxy.telemetry import AirflowMetrics
        from include.pipeline.plan import proxy_options
        from include.pipeline.proxies import ProxyStage

        self._stop = threading.Event()
        settings = self.settings(**({"bucket": self.bucket} if self.bucket else {}))
        catalog = self.catalog(settings)
        totals: Counter[Outcome] = Counter()
        s3, source_s3 = S3Hook(settings.aws_conn_id).conn, None
        if settings.reads_apart:
            source_s3 = S3Hook(settings.source_aws_conn_id).conn
        for run_id, batch_id in self._batches(context, catalog, settings):
            params = parse_params(catalog.run_params(run_id))
            if Stage.PROXY not in catalog.run_stages(run_id):
                raise AirflowSkipException("this run analyses only")
            options, metrics = proxy_options(params), AirflowMetrics()
            stage = ProxyStage(catalog, s3, settings, options, self._stop, source_s3, metrics)
            with told_to_a_person():
                totals.update(stage.run(run_id, batch_id))
        self.log.info("outcomes: %s", _named(totals))
        return self.succeed(context, _named(totals), self._analyses(context, catalog))

    def _analyses(self, context: Context, catalog: Catalog) -> list[tuple[str, int]]:
        """Return the analysis of the same batch, when its run makes proxies only."""
        if self.batch is None or "analyse" in parse_params(catalog.run_params(self.batch["run_id"])).stages:
            return []
        analyses = [task for task in self.downstream_list if task.task_type == NovaAnalysisOperator.__name__]
        return [(task.task_id, context["ti"].map_index) for task in analyses]

    def _batches(self, context: Context, catalog: Catalog, settings: Settings) -> list[tuple[str, int]]:
        if self.batch is not None:
            _skip_empty(self.batch)
            return [(self.batch["run_id"], self.batch["batch_id"])]
        from include.pipeline.plan import plan_run

        params = self._own_params()
        instance = context["ti"]
        identity = identity_of(context, f"{instance.task_id}[{instance.map_index}]")
        plan = plan_run(catalog, identity, params, settings, Window(), nova_endpoint=None, max_batches=1)
        return [(identity.run_id, batch.batch_id) for batch in plan.batches]

    def _own_params(self) -> PipelineParams:
        file_ids = json.loads(self.file_ids) if isinstance(self.file_ids, str) else self.file_ids
        return parse_params(
            {
                "stages": ["proxy"],
                "file_ids": None if file_ids is None else list(file_ids),
                "limit": self.limit,
                "force": self.force,
                "target_short_side": self.target_short_side,
                "quality": self.quality,
                "graphics_format": self.graphics_format,
                "detail": self.detail,
            }
        )

    def on_kill(self) -> None:
        """Begin no further image; what is in flight ends or goes back to pending."""
        if self._stop is not None:
            self._stop.set()


class NovaAnalysisOperator(CatalogOperator):
    """Have Nova describe one batch of proxies, and write each answer to the catalog before the next call.

    It keeps as many requests in flight as it takes slots of its pool (``pool_slots``), so that the pool bounds
    requests across tasks, runs and backfills. Throttled images and those beyond a spending limit go back to pending; a
    refused one is an outcome on its row; a missing permission or model fails the task at once. Returns the number of
    images by outcome.

    :param batch: What to work on: `run_id` and `batch_id` of a stored plan. (templated)
    """

    template_fields: Sequence[str] = ("batch",)
    operator_extra_links = (ImagesLink(),)
    ui_color = "#efe6fa"

    def __init__(self, *, batch: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, int]:
        _skip_empty(self.batch)
        self._stop = threading.Event()
        settings = self.settings()
        catalog = self.catalog(settings)
        params = parse_params(catalog.run_params(self.batch["run_id"]))
        if "analyse" not in params.stages:
            raise AirflowSkipException("this run makes proxies only")
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from image_proxy.hooks.nova import nova_hook
        from image_proxy.telemetry import AirflowMetrics
        from include.pipeline.analysis import AnalysisStage

        nova, s3 = nova_hook(settings, params.model_id).conn, S3Hook(settings.aws_conn_id).conn
        slots, metrics = self.pool_slots, AirflowMetrics()
        stage = AnalysisStage(catalog, nova, s3, settings, params, slots, self._stop, metrics)
        with told_to_a_person():
            counts = stage.run(self.batch["run_id"], self.batch["batch_id"])
        self.log.info("outcomes: %s", _named(counts))
        return _named(counts)

    def on_kill(self) -> None:
        """Make no further call; an answer that arrives is still written, for it has been paid."""
        if self._stop is not None:
            self._stop.set()


class SummariseRunOperator(CatalogOperator):
    """Close the run in the catalog and log its figures, all of them queried from its rows. Runs whatever happened."""

    ui_color = "#fdf3d8"

    def execute(self, context: Context) -> dict[str, Any]:
        from include.pipeline.summary import summarise

        catalog = self.catalog(self.settings())
        report = summarise(catalog, identity_of(context).run_id)
        self.log.info("%s", report.text() if report else "no run is stored: a dry run, or planning failed")
        return self.succeed(context, report.counts() if report else {}, self.unneeded(context, catalog))


class RunGateOperator(CatalogOperator):
    """Fail the run when it did not do what it planned, judged from the catalog.

    Red when more than ``max_failure_ratio`` of the attempted images failed, or when any listed image has no outcome
    (infrastructure gave way). Wire it downstream of the plan and of the summary: ``[plan, summary] >> gate``.
    """

    ui_color = "#fbe3e0"

    def execute(self, context: Context) -> None:
        from include.pipeline.gate import check_run

        params, catalog = parse_params(dict(context["params"])), self.catalog(self.settings())
        if not params.dry_run:
            check_run(catalog, identity_of(context).run_id, params.max_failure_ratio)
        # Not before: a run's colour is that of its last tasks, and skipped earlier they would hide a red gate.
        self.succeed(context, None, self.unneeded(context, catalog))


def label_of(batch: Any) -> str:
    """Return what a mapped task of this batch is called in the UI."""
    return f"batch {batch.batch_id}: {batch.size} image{'' if batch.size == 1 else 's'}"
