"""The answers of one batch inference job: read line by line, joined on the record id, written once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from include.catalog.errors import LeaseLost
from include.catalog.records import BatchJob, Failure, NewAnalysis, NovaCall, Outcome, ProxyRecord, Stage
from include.nova import Disposition, NovaError
from include.nova.batch import Answer, parse_answer, parse_manifest
from include.pipeline.batches import RunCancelled
from include.pipeline.params import PipelineParams
from include.pipeline.pricing import priced
from include.pipeline.prompting import prompt_of
from include.pipeline.settings import Settings
from include.pipeline.telemetry import NO_METRICS, Metrics, tell_call, tell_outcome
from include.storage.copies import keys_below, read_lines, read_small, split_uri
from include.storage.objects import is_missing

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

RECORDS_FILE = "records.jsonl"
MANIFEST_FILE = "manifest.json.out"
ANSWERS_AT_ONCE = 200  # lines of output that are held in memory
MOST_FATAL = 5


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """Reads a job's output and writes it to the catalog. ``s3`` is a boto3 S3 client.

    ``fatal`` collects the first few errors that a setting or a permission is to blame for, not an image.
    """

    catalog: Catalog
    s3: Any
    job: BatchJob
    params: PipelineParams
    settings: Settings
    endpoint: str
    stop: threading.Event
    metrics: Metrics = NO_METRICS
    fatal: list[NovaError] = field(default_factory=list)

    def write_all(self) -> int:
        """Write every answer that there is; return how many were read. Raises `RunCancelled`, `StorageUnavailable`."""
        read = sum(self._write_some(answers) for answers in _chunks(self._read()))
        self._compare(read)
        return read

    def _read(self) -> Iterator[Answer]:
        prompt = prompt_of(self.settings)
        for uri in self._outputs(f"/{RECORDS_FILE}.out"):
            with closing(read_lines(self.s3, uri)) as lines:
                for line in lines:
                    if self.stop.is_set():
                        raise RunCancelled("stopped while answers were written; the rest is written at the next try")
                    answer = parse_answer(line, prompt)
                    if answer is None:
                        log.warning("a line of %s, of %d bytes, is no answer", uri, len(line))
                        continue
                    yield answer

    def _outputs(self, ending: str) -> list[str]:
        bucket, _ = split_uri(self.job.folder)
        keys = keys_below(self.s3, f"{self.job.folder}/output")
        return [f"s3://{bucket}/{key}" for key in keys if key.endswith(ending)]

    def _compare(self, read: int) -> None:
        """Say it when Bedrock counted other than we read; the images without an answer go back to pending anyway."""
        for uri in self._outputs(f"/{MANIFEST_FILE}"):
            manifest = parse_manifest(read_small(self.s3, uri))
            if manifest is not None and manifest.processed != read:
                log.warning("batch job %s: %d answers read, the manifest has %s", self.job.job_arn, read, manifest)

    def _write_some(self, answers: Sequence[Answer]) -> int:
        proxies = self.catalog.sent_proxies(self.job, [answer.file_id for answer in answers])
        for answer in answers:
            proxy = proxies.get(answer.file_id)
            if proxy is None:
                log.warning(
                    "batch job %s answers image %d, which it was not asked for", self.job.job_arn, answer.file_id
                )
                continue
            try:
                self._write(answer, proxy)
            except LeaseLost as error:  # its lease ran out, and another run was quicker
                log.warning("%s", error)
        return len(answers)

    def _write(self, answer: Answer, proxy: ProxyRecord) -> None:
        """Write one answer, and tell of it unless it was written before."""
        call = self._priced(answer, proxy)
        outcome, code, new = Outcome.ANALYSED, None, False
        if answer.reply is not None:
            reply = answer.reply
            analysis = NewAnalysis(
                description=reply.description,
                labels=reply.labels,
                visible_text=reply.visible_text,
                objects=reply.objects,
                extra=reply.extra,
                stop_reason=reply.stop_reason,
            )
            new = self.catalog.record_answer(self.job, answer.file_id, analysis, call)
        elif answer.error is not None:
            outcome, code, new = self._refuse(answer.error, proxy, call)
        if new:
            tell_call(self.metrics, call)
            tell_outcome(self.metrics, self.job.run_id, answer.file_id, Stage.ANALYSE, outcome, code=code)

    def _refuse(self, error: NovaError, proxy: ProxyRecord, call: NovaCall) -> tuple[Outcome, str, bool]:
        """The outcome, its code, and whether it was written now."""
        if error.disposition is Disposition.FATAL and len(self.fatal) < MOST_FATAL:
            self.fatal.append(error)
        outcome, failure = Outcome.RETURNED, Failure(error.code, error.message)
        if error.disposition is Disposition.FAIL:
            if is_missing(self.s3, copy_uri(self.job, proxy)):
                failure = Failure("copy_missing", f"the copy was deleted under the job: {error.message}")
            else:
                outcome = Outcome.FAILED
        new = self.catalog.record_refusal(self.job, proxy.file_id, outcome=outcome, failure=failure, call=call)
        return outcome, failure.code, new

    def _priced(self, answer: Answer, proxy: ProxyRecord) -> NovaCall:
        call = answer.call(self.job.started_at or self.job.created_at, self.endpoint)
        return priced(call, self.params.model_id, proxy.width, proxy.height, self.settings)


def copy_uri(job: BatchJob, proxy: ProxyRecord) -> str:
    """Where in the job's folder the copy of a proxy lies."""
    return f"{job.folder}/input/{proxy.file_id}.{proxy.format}"


def _chunks(answers: Iterable[Answer]) -> Iterator[list[Answer]]:
    waiting = iter(answers)
    while some := list(islice(waiting, ANSWERS_AT_ONCE)):
        yield some
