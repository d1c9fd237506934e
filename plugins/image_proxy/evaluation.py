"""Operators of `proxy_quality_evaluation`: each reads connections and settings, and calls one step of the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from image_proxy.operators import CatalogOperator, identity_of

if TYPE_CHECKING:
    from airflow.sdk import Context


def _s3(conn_id: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(conn_id).conn


class PlanEvaluationOperator(CatalogOperator):
    """Draw the sample and check the projected cost; the sample is stored, so that a retry takes the same pictures.

    Wrong params, an empty sample and a projected cost above `max_cost_usd` fail the task at once, before anything is
    asked. Returns the number of pictures and of questions.
    """

    ui_color = "#e8f1fb"

    def execute(self, context: Context) -> dict[str, int]:
        from image_proxy.hooks.nova import nova_hook
        from include.nova import NovaError
        from include.pipeline.evaluation import NothingToEvaluate, plan_evaluation
        from include.pipeline.evaluation_params import parse_evaluation
        from include.pipeline.params import InvalidParams
        from include.pipeline.plan import CostLimitExceeded
        from include.pipeline.settings import SettingsError
        from include.storage.destinations import UnusableDestination

        settings = self.settings()
        try:
            params = parse_evaluation({**dict(context["params"]), **(context["dag_run"].conf or {})})
            _ = settings.required_bucket
            self.check_pools(context)
            endpoint = nova_hook(settings, params.model_id).endpoint
            run_id = identity_of(context).run_id
            evaluation = plan_evaluation(self.catalog(settings), run_id, params, settings, nova_endpoint=endpoint)
        except (
            InvalidParams,
            SettingsError,
            NothingToEvaluate,
            CostLimitExceeded,
            UnusableDestination,
            NovaError,
        ) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        pictures, questions = len(evaluation.file_ids), len(evaluation.file_ids) * len(params.calls_a_picture)
        self.log.info("%d pictures, %d questions to %s", pictures, questions, endpoint)
        return {"pictures": pictures, "questions": questions}


class EvaluateProxiesOperator(CatalogOperator):
    """Copy each picture of the sample at each size into a temporary folder of the bucket, and have Nova describe all.

    It keeps as many requests in flight as it takes slots of its pool (``pool_slots``). Each answer is in the catalog
    before the thread that got it asks again; a retry asks only what has no answer. The copies are removed at the end.
    Returns the number of calls by what came of them.
    """

    ui_color = "#efe6fa"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> Mapping[str, int]:
        from image_proxy.hooks.nova import nova_hook
        from include.pipeline.analysis import NovaRefused
        from include.pipeline.evaluation import EvaluationStage, NothingToEvaluate, PromptChanged

        self._stop = threading.Event()
        settings = self.settings()
        catalog, run_id = self.catalog(settings), identity_of(context).run_id
        evaluation = catalog.evaluation(run_id)
        if evaluation is None:
            raise AirflowFailException(f"no evaluation is stored for {run_id}: planning did not finish")
        nova = nova_hook(settings, evaluation.model_id).conn
        source_s3 = _s3(settings.source_aws_conn_id) if settings.reads_apart else None
        s3 = _s3(settings.aws_conn_id)
        stage = EvaluationStage(catalog, nova, s3, settings, self.pool_slots, self._stop, source_s3)
        try:
            counts = stage.run(run_id)
        except (NovaRefused, NothingToEvaluate, PromptChanged) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        self.log.info("calls: %s", counts)
        return counts

    def on_kill(self) -> None:
        """Ask nothing more; an answer that arrives is still written, for it has been paid."""
        if self._stop is not None:
            self._stop.set()


class ReportEvaluationOperator(CatalogOperator):
    """Build the report from the catalog, store it there and in files, and print it into the log.

    Runs whatever became of the questions, and is red when some have no answer, unless the highest cost was reached.
    Returns counts, cost, and whether any of it is Nova's.
    """

    ui_color = "#fdf3d8"

    def execute(self, context: Context) -> dict[str, Any]:
        from include.pipeline.evaluation import EvaluationIncomplete, NothingToEvaluate, report_evaluation
        from include.savings.evaluation_text import evaluation_markdown
        from include.storage.destinations import UnusableDestination

        settings = self.settings()
        try:
            report = report_evaluation(
                self.catalog(settings), identity_of(context).run_id, _s3(settings.aws_conn_id), settings
            )
        except (NothingToEvaluate, UnusableDestination) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        self.log.info("%s", evaluation_markdown(report))
        if not report.data["complete"] and not report.data["stopped_by_cost"]:
            left = report.data["calls"]["open"]
            raise AirflowFailException(f"{EvaluationIncomplete.code}: {left} questions have no answer")
        return report.headline()


class RemoveCopiesOperator(CatalogOperator):
    """Remove the evaluation's copies from the bucket, should a task that was killed have left any. Runs in any case."""

    ui_color = "#eeeeee"

    def execute(self, context: Context) -> int:
        from include.pipeline.evaluation import remove_copies

        settings = self.settings()
        removed = remove_copies(_s3(settings.aws_conn_id), settings, identity_of(context).run_id)
        self.log.info("removed %d copies that were left", removed)
        return removed
