"""Stage 3: one batch of proxies in, Nova's answers on the catalog's rows.

Every request that reaches Nova is a row of its own before the next one is made, so that nothing is paid twice and cost
is a sum over rows.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.catalog.errors import LeaseLost
from include.catalog.records import Failure, NewAnalysis, NovaCall, Outcome, ProxyRecord, Stage, WorkItem
from include.nova import (
    Backoff,
    CallRecord,
    Disposition,
    NovaError,
    Prompt,
    analyse_image,
    projected_cost_usd,
)
from include.pipeline.batches import skip, skip_busy, work_through
from include.pipeline.leases import LeaseKeeper, give_back
from include.pipeline.params import PipelineParams
from include.pipeline.pricing import priced
from include.pipeline.prompting import prompt_of
from include.pipeline.refusals import NeedsAPerson
from include.pipeline.settings import Settings
from include.pipeline.spending import SpendingGuard, message_of
from include.pipeline.telemetry import NO_METRICS, Metrics, tell_call, tell_outcome, timed
from include.storage.objects import is_missing

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

BACKOFF = Backoff()


class NovaRefused(NeedsAPerson, PermissionError):
    """Nova cannot be used at all as it is set up: retrying helps nobody. The message names what is missing."""

    code = "nova_refused"


class PromptChanged(NeedsAPerson):
    """The prompt of the deployment is not the one that the run was planned with."""

    code = "prompt_changed"


@dataclass(frozen=True, slots=True)
class AnalysisStage:
    """Everything that analysing a batch needs. ``nova`` is a boto3 bedrock-runtime client that makes single attempts,
    ``s3`` a boto3 S3 client.

    ``concurrency`` is the number of requests in flight.
    """

    catalog: Catalog
    nova: Any
    s3: Any
    settings: Settings
    params: PipelineParams
    concurrency: int
    stop: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = NO_METRICS

    def run(self, run_id: str, batch_id: int) -> Mapping[Outcome, int]:
        """Analyse one planned batch; return how many images had which outcome.

        Raises `NovaRefused` when a permission or the model is missing, `PromptChanged` before any call, `RunCancelled`
        when stopped.
        """
        prompt = self._prompt(run_id)
        owner = uuid.uuid4().hex
        batch = self.catalog.claim_batch(run_id, batch_id, Stage.ANALYSE, owner, self.settings.lease_seconds)
        counts = Counter(skip_busy(self.catalog, run_id, batch.busy, Stage.ANALYSE))
        with LeaseKeeper(self.catalog, owner, self.settings.lease_seconds):
            guard = SpendingGuard(self.catalog, self.params, self.settings, run_id)
            image = _OneImage(self, run_id, owner, prompt, guard)
            counts.update(work_through(batch, image.decide, self.concurrency, self.stop))
        return counts

    def _prompt(self, run_id: str) -> Prompt:
        """The prompt, if it is still the one that the run's analyses are stored under."""
        prompt, planned = prompt_of(self.settings), self.catalog.run_key(run_id).prompt_version
        if prompt.version != planned:
            raise PromptChanged(
                f"the run was planned with the prompt {planned}, but this worker has {prompt.version}: start a new "
                "run, or give all workers the same prompt file and output model"
            )
        return prompt


@dataclass(frozen=True, slots=True)
class _OneImage:
    """The way of one proxy through the stage, from its claimed row to its outcome."""

    stage: AnalysisStage
    run_id: str
    owner: str
    prompt: Prompt
    guard: SpendingGuard

    def decide(self, item: WorkItem) -> Outcome:
        """Give one image its outcome, on its row; one whose lease was lost meanwhile goes back to pending."""
        started, code = time.monotonic(), None
        try:
            outcome, code = self._decide(item)
        except LeaseLost as error:
            outcome = give_back(self.stage.catalog, self.run_id, self.owner, item.image.file_id, Stage.ANALYSE, error)
        seconds, file_id = time.monotonic() - started, item.image.file_id
        tell_outcome(self.stage.metrics, self.run_id, file_id, Stage.ANALYSE, outcome, code=code, seconds=seconds)
        return outcome

    def _decide(self, item: WorkItem) -> tuple[Outcome, str | None]:
        """The outcome, and the code of the reason if it did not go well."""
        catalog, file_id = self.stage.catalog, item.image.file_id
        if item.analysed:
            return skip(catalog, self.run_id, self.owner, item, Stage.ANALYSE, "analysis_exists"), None
        if item.proxy is None:
            return skip(catalog, self.run_id, self.owner, item, Stage.ANALYSE, "no_proxy"), None
        passed = self.guard.reserve(self.owner, file_id, self._projected(item.proxy))
        if passed is not None:
            said = message_of(passed)
            catalog.record_return(self.run_id, self.owner, file_id, Stage.ANALYSE, code=passed.code, message=said)
            return Outcome.RETURNED, passed.code
        try:
            analysis, call = self._ask(file_id, item.proxy)
        except NovaError as error:
            return self._refused(file_id, item.proxy, error), error.code
        with timed(self.stage.metrics, "analyse.record"):
            catalog.record_analysis(self.run_id, self.owner, file_id, analysis, call)
        tell_call(self.stage.metrics, call)
        return Outcome.ANALYSED, None

    def _ask(self, file_id: int, proxy: ProxyRecord) -> tuple[NewAnalysis, NovaCall]:
        stage = self.stage
        answered = analyse_image(
            stage.nova,
            model_id=stage.params.model_id,
            image_uri=proxy.uri,
            image_format=proxy.format,
            prompt=self.prompt,
            tier=stage.params.tier,
            bucket_owner=stage.settings.bucket_owner if self._is_ours(proxy.uri) else None,
            on_call=lambda call: self._without_answer(file_id, self._priced(call, proxy)),
            wait=stage.stop.wait,
            backoff=BACKOFF,
        )
        reply = answered.reply
        analysis = NewAnalysis(
            description=reply.description,
            labels=reply.labels,
            visible_text=reply.visible_text,
            objects=reply.objects,
            stop_reason=reply.stop_reason,
            extra=reply.extra,
        )
        return analysis, self._priced(answered.call, proxy)

    def _without_answer(self, file_id: int, call: NovaCall) -> None:
        self.stage.catalog.record_call(self.run_id, file_id, call)
        tell_call(self.stage.metrics, call)

    def _is_ours(self, uri: str) -> bool:
        """Whether an object lies in the bucket of the proxies; a kept original may lie in any other."""
        return uri.startswith(f"s3://{self.stage.settings.bucket}/")

    def _projected(self, proxy: ProxyRecord) -> float:
        params, overrides = self.stage.params, self.stage.settings.price_overrides
        return projected_cost_usd(params.model_id, proxy.width, proxy.height, self.prompt, params.tier, overrides)

    def _priced(self, call: CallRecord, proxy: ProxyRecord) -> NovaCall:
        return priced(call, self.stage.params.model_id, proxy.width, proxy.height, self.stage.settings)

    def _refused(self, file_id: int, proxy: ProxyRecord, error: NovaError) -> Outcome:
        catalog = self.stage.catalog
        log.warning("image %s: %s: %s", file_id, error.code, error)
        if error.disposition is Disposition.FATAL:
            raise NovaRefused(str(error)) from error
        if error.disposition is Disposition.RETURN:
            catalog.record_return(self.run_id, self.owner, file_id, Stage.ANALYSE, code=error.code, message=str(error))
            return Outcome.RETURNED
        if is_missing(self.stage.s3, proxy.uri):  # Nova says so in words that are not documented
            catalog.record_missing_proxy(self.run_id, self.owner, file_id, message=f"{proxy.uri} is gone: {error}")
            return Outcome.RETURNED
        failure = Failure(error.code, str(error), transient=error.disposition is Disposition.LATER)
        attempts = self.stage.settings.max_attempts
        catalog.record_failure(self.run_id, self.owner, file_id, Stage.ANALYSE, failure, attempts)
        return Outcome.FAILED
