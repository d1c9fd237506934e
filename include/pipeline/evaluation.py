"""Proof: the same pictures as proxies and as originals through Nova, and a report of what is lost and gained.

Three steps, each safe to repeat: `plan_evaluation` draws the sample and checks the cost, `EvaluationStage.run` makes
the copies and asks, `report_evaluation` reads the catalog and writes the report. Every answer is a row before the next
question of its thread, so that a retry pays for nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
import random
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.catalog.records import Evaluation, EvaluationCall, NewEvaluation
from include.imaging import DecodeWorkers
from include.nova import (
    AnalysedImage,
    Backoff,
    CallRecord,
    Disposition,
    NovaError,
    Prompt,
    analyse_image,
)
from include.pipeline.analysis import NovaRefused, PromptChanged
from include.pipeline.batches import RunCancelled
from include.pipeline.copies import Copy, CopyMaker, evaluation_folder, remove_folder
from include.pipeline.evaluation_budget import Budget, Slot, budget_of, check_cost
from include.pipeline.evaluation_params import ORIGINAL, EvaluationParams, parse_evaluation
from include.pipeline.pricing import priced
from include.pipeline.prompting import prompt_of
from include.pipeline.proxies import cores
from include.pipeline.settings import Settings
from include.savings.evaluation import SAME_SIZE, EvaluationReport, build_evaluation_report
from include.savings.evaluation_text import evaluation_markdown

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

BACKOFF = Backoff()
EVALUATED = {known.name for known in fields(EvaluationCall)}  # what is kept of a call's facts


class NothingToEvaluate(ValueError):
    """There is no picture to evaluate; the message says why."""

    code = "nothing_to_evaluate"


class EvaluationIncomplete(RuntimeError):
    """Some questions have no answer yet, for reasons that pass. A retry asks those only."""

    code = "evaluation_incomplete"


def plan_evaluation(
    catalog: Catalog, run_id: str, params: EvaluationParams, settings: Settings, *, nova_endpoint: str
) -> Evaluation:
    """Draw the sample, check the projected cost, and store the evaluation. A retry gets what was stored first.

    Raises `NothingToEvaluate`, `CostLimitExceeded`, `UnusableDestination` (of the report), NovaError (FATAL: unknown
    model or price).
    """
    from include.storage.destinations import parse_destination

    parse_destination(params.report_uri or settings.report_uri or ".")
    stored = catalog.evaluation(run_id)
    if stored is not None:
        return stored
    file_ids = params.file_ids and tuple(dict.fromkeys(params.file_ids))
    if file_ids is None:
        smallest = min((int(size) for size in params.detail if size.isdigit()), default=896)
        file_ids = catalog.sample_images(params.sample_size, params.seed, smallest)
    unknown = [file_id for file_id in file_ids if catalog.image(file_id) is None]
    if unknown:
        raise NothingToEvaluate(f"not images of the catalog: {', '.join(map(str, unknown[:10]))}")
    if not file_ids:
        raise NothingToEvaluate("the catalog has no image that is larger than its proxy would be")
    prompt = prompt_of(settings)
    check_cost(catalog, file_ids, params, settings, prompt)
    return catalog.store_evaluation(
        NewEvaluation(run_id, params.as_json(), params.model_id, prompt.version, nova_endpoint, file_ids)
    )


@dataclass(frozen=True, slots=True)
class EvaluationStage:
    """Everything that asking needs. ``nova`` is a boto3 bedrock-runtime client that makes single attempts, ``s3`` a
    boto3 S3 client; ``source_s3`` reads originals where that is not the same one.

    ``concurrency`` is the number of requests in flight.
    """

    catalog: Catalog
    nova: Any
    s3: Any
    settings: Settings
    concurrency: int
    stop: threading.Event = field(default_factory=threading.Event)
    source_s3: Any = None

    def run(self, run_id: str) -> Mapping[str, int]:
        """Make copies at each size and ask about each; return the number of calls by what came of them.

        Raises `EvaluationIncomplete` when answers are missing that a retry may get, `NovaRefused` when a permission or
        the model is missing, `PromptChanged`, `RunCancelled` when stopped, `StorageUnavailable`.
        """
        evaluation = self.catalog.evaluation(run_id)
        if evaluation is None:
            raise NothingToEvaluate(f"no evaluation is stored for {run_id!r}: planning did not finish")
        params = parse_evaluation(evaluation.params)
        budget = budget_of(self.catalog, run_id, params, self.settings)
        asking = _Asking(self, run_id, params, self._prompt_of(evaluation), budget)
        try:
            with tempfile.TemporaryDirectory(prefix="evaluation-", dir=self.settings.temp_dir) as scratch:
                copies = self._make_copies(asking, budget.open_slots(evaluation.file_ids), Path(scratch))
            # All copies are there before the first question: nothing else is going on while answers are timed.
            asking.all(copies)
        finally:
            remove_copies(self.s3, self.settings, run_id)
        if self.stop.is_set():
            raise RunCancelled("stopped; what was answered stays, a retry asks the rest")
        left = sum(map(len, budget.open_slots(evaluation.file_ids).values()))
        if left and not budget.exhausted:
            raise EvaluationIncomplete(f"{left} questions have no answer yet; a retry asks those only")
        return {**budget.outcomes, "open": left}

    def _prompt_of(self, evaluation: Evaluation) -> Prompt:
        prompt = prompt_of(self.settings)
        if prompt.version != evaluation.prompt_version:
            raise PromptChanged(
                f"the evaluation was planned with the prompt {evaluation.prompt_version}, but this worker has "
                f"{prompt.version}: start a new one"
            )
        return prompt

    def _make_copies(
        self, asking: _Asking, slots: Mapping[int, Sequence[Slot]], scratch: Path
    ) -> dict[int, dict[Slot, Copy]]:
        """Each picture's copies by slot; what cannot be made or need not be asked is a row in the catalog."""
        threads, source_s3 = self.settings.workers or cores(), self.source_s3 or self.s3
        with DecodeWorkers(threads, self.settings.decode_limits) as workers, ThreadPoolExecutor(threads) as pool:
            maker = CopyMaker(self.s3, source_s3, self.settings, asking.params, workers, scratch)
            folder = evaluation_folder(self.settings, asking.run_id)

            def make(file_id: int) -> dict[Slot, Copy]:
                if self.stop.is_set():
                    return {}
                image = self.catalog.image(file_id)
                made = maker.make(image, folder) if image else "source_row_gone"
                return asking.worth_asking(file_id, slots[file_id], made)

            return dict(zip(slots, pool.map(make, slots), strict=True))


@dataclass(frozen=True, slots=True)
class _Asking:
    """The questions of one evaluation, and where their answers go."""

    stage: EvaluationStage
    run_id: str
    params: EvaluationParams
    prompt: Prompt
    budget: Budget

    def all(self, copies: Mapping[int, Mapping[Slot, Copy]]) -> None:
        """Ask everything: pictures in random order, and one picture's questions after each other in random order, so
        that whatever changes with time meets all sizes alike."""
        order = sorted(copies)
        random.Random(self.params.seed).shuffle(order)  # noqa: S311 - spreads calls, guards nothing
        with ThreadPoolExecutor(self.stage.concurrency, thread_name_prefix="evaluation") as pool:
            running = [pool.submit(self._picture, file_id, copies[file_id]) for file_id in order]
            try:
                for future in running:
                    future.result()
            except BaseException:
                self.stage.stop.set()
                raise

    def _picture(self, file_id: int, copies: Mapping[Slot, Copy]) -> None:
        slots = sorted(copies)
        random.Random(f"{self.params.seed}:{file_id}").shuffle(slots)  # noqa: S311
        for slot in slots:
            reserved = None if self.stage.stop.is_set() else self.budget.begin()
            if reserved is None:
                return
            try:
                self._ask(file_id, slot, copies[slot])
            finally:
                self.budget.end(reserved)

    def _ask(self, file_id: int, slot: Slot, copy: Copy) -> None:
        stage = self.stage
        try:
            answered = analyse_image(
                stage.nova,
                model_id=self.params.model_id,
                image_uri=copy.uri,
                image_format=copy.format,
                prompt=self.prompt,
                bucket_owner=stage.settings.bucket_owner,
                on_call=lambda call: self._record(self._call(file_id, slot, copy, call)),
                wait=stage.stop.wait,
                backoff=BACKOFF,
            )
        except NovaError as error:
            self._refused(file_id, slot, error)
        else:
            self._record(self._call(file_id, slot, copy, answered.call, answered))

    def _refused(self, file_id: int, slot: Slot, error: NovaError) -> None:
        log.warning("picture %s at %s: %s", file_id, slot[0], error)
        if error.disposition is Disposition.FATAL:
            raise NovaRefused(str(error)) from error
        if error.disposition is Disposition.FAIL:
            self._verdict(file_id, slot, error.code, error.message)

    def worth_asking(self, file_id: int, slots: Sequence[Slot], made: Mapping[str, Copy] | str) -> dict[Slot, Copy]:
        """The copies to ask about: of a picture that could be copied, those that differ in size from its original."""
        if isinstance(made, str):
            for slot in slots:
                self._verdict(file_id, slot, made)
            return {}
        original = made[ORIGINAL].width, made[ORIGINAL].height
        other = {size for size, copy in made.items() if (copy.width, copy.height) != original}
        wanted = other | {ORIGINAL} if other else set()
        for slot in slots:
            if slot[0] not in wanted:
                self._verdict(file_id, slot, SAME_SIZE)
        return {slot: made[slot[0]] for slot in slots if slot[0] in wanted}

    def _verdict(self, file_id: int, slot: Slot, code: str, message: str | None = None) -> None:
        """Nothing more will be asked there."""
        size, repeat = slot
        self._record(EvaluationCall(file_id, size, repeat, called=False, final=True, code=code, message=message))

    def _record(self, call: EvaluationCall) -> None:
        self.stage.catalog.record_evaluation_call(self.run_id, call)
        self.budget.add(call)

    def _call(
        self, file_id: int, slot: Slot, copy: Copy, call: CallRecord, answered: AnalysedImage | None = None
    ) -> EvaluationCall:
        """The row of one request: what was shown, how long it took, what it cost, and the answer if there is one."""
        paid = priced(call, self.params.model_id, copy.width, copy.height, self.stage.settings)
        words: dict[str, Any] = {}
        if answered is not None:
            reply = answered.reply
            words = {"description": reply.description, "labels": reply.labels}
            words |= {"visible_text": reply.visible_text, "objects": reply.objects}
        shown = {name: value for name, value in asdict(copy).items() if name != "uri"}
        size, repeat = slot
        return EvaluationCall(
            file_id,
            size,
            repeat,
            called=True,
            final=answered is not None,
            **{name: value for name, value in asdict(paid).items() if name in EVALUATED},
            **shown,
            **words,
        )


def remove_copies(s3: Any, settings: Settings, run_id: str) -> int:
    """Remove the evaluation's copies from the bucket, whoever left them; return how many there were."""
    return remove_folder(s3, settings, evaluation_folder(settings, run_id))


def report_evaluation(catalog: Catalog, run_id: str, s3: Any, settings: Settings) -> EvaluationReport:
    """Build the report from the catalog, store it there and, where an address is asked for or set, as two files.

    Raises `NothingToEvaluate` when no evaluation is stored, `UnusableDestination`, `StorageUnavailable`.
    """
    evaluation = catalog.evaluation(run_id)
    if evaluation is None:
        raise NothingToEvaluate(f"no evaluation is stored for {run_id!r}: planning did not finish")
    params, calls = parse_evaluation(evaluation.params), catalog.evaluation_calls(run_id)
    budget = budget_of(catalog, run_id, params, settings)
    left = sum(map(len, budget.open_slots(evaluation.file_ids).values()))
    stopped = bool(left) and budget.exhausted
    report = build_evaluation_report(evaluation, calls, open_calls=left, stopped_by_cost=stopped)
    note = report.data["warning"] if not left else f"{left} calls are open"
    catalog.finish_evaluation(run_id, report.data, note=note, report_uri=None)
    address = params.report_uri or settings.report_uri
    if address:  # after the catalog has it, so that a full disk costs the file and not the report
        uri = _write_files(report, run_id, address, s3, settings)
        catalog.finish_evaluation(run_id, report.data, note=note, report_uri=uri)
    return report


def _write_files(report: EvaluationReport, run_id: str, address: str, s3: Any, settings: Settings) -> str:
    from include.storage.destinations import parse_destination, whole_file

    destination = parse_destination(address)
    stem = f"proxy-quality-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"
    texts = {"md": ("text/markdown", evaluation_markdown(report)), "json": ("application/json", report.as_json())}
    for ending, (content_type, text) in texts.items():
        rules, scratch = settings.object_rules, settings.temp_dir
        with whole_file(
            destination, f"{stem}.{ending}", s3, content_type=content_type, rules=rules, scratch=scratch
        ) as path:
            path.write_text(text, encoding="utf-8")
    return destination.uri(f"{stem}.json")
