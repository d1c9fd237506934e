"""Batch inference without Airflow: one job on real S3 and the stand-in's real HTTP, cut off at every step."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import text

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.records import BatchJob, JobState, Outcome, Selection, Stage
from include.local.nova_stand_in import Forced, JobRules, NovaStandIn
from include.nova import load_prompt, projected_cost_usd
from include.pipeline import batch_inference
from include.pipeline.batch_answers import JobAnswers
from include.pipeline.batch_inference import BatchFailed, BatchInference, BatchNotStarted, BatchRefused
from include.pipeline.batch_params import parse_batch_params
from include.pipeline.batch_plan import plan_batch_run
from include.pipeline.batches import RunCancelled
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import InvalidParams
from include.pipeline.plan import CostLimitExceeded, Projection, work_key
from include.pipeline.settings import SettingsError, load_settings
from include.pipeline.spending import notes_of
from include.pipeline.telemetry import NO_METRICS, Metrics, NoMetrics
from tests.pipeline.backlog import ROLE, Backlog
from tests.pipeline.conftest import Ground

MODEL = "us.amazon.nova-2-lite-v1:0"
WAIT_SECONDS = 60
PAUSE_SECONDS = 0.05
MINIMUM = 10  # of records in a job, where Bedrock's own 100 would only take time


@dataclass
class Site:
    """A backlog, a stand-in with jobs, and what drives them."""

    catalog: Catalog
    s3: Any
    bucket: str
    stand_in: NovaStandIn
    bedrock: Any
    backlog: Backlog
    engine: Any
    run_id: str = ""
    projection: Projection | None = None  # of the latest plan
    metrics: Metrics = NO_METRICS

    def settings(self, **changes: Any) -> Any:
        return load_settings(**{"bucket": self.bucket, "batch_role_arn": ROLE, **changes})

    def plan(self, name: str = "run", conf: dict[str, Any] | None = None, **settings: Any) -> list[int]:
        identity = RunIdentity("nova_batch_inference", name)
        self.run_id = identity.run_id
        plan = plan_batch_run(
            self.catalog,
            identity,
            parse_batch_params(conf or {}),
            self.settings(**settings),
            Window(),
            nova_endpoint="stand-in",
        )
        self.projection = plan.projection
        return [batch.batch_id for batch in plan.batches]

    def inference(self, **settings: Any) -> BatchInference:
        stop = threading.Event()
        return BatchInference(self.catalog, self.bedrock, self.s3, self.settings(**settings), stop, self.metrics)

    def finish(self, batch_id: int = 0) -> BatchJob:
        """Go on until the job is over, as the trigger does."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            job = self.inference().go_on(self.run_id, batch_id)
            if job.state is not JobState.WAITING:
                return job
            time.sleep(PAUSE_SECONDS)
        raise AssertionError("the job did not end")

    def until(self, arn: str | None, *statuses: str) -> str:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            status = self.bedrock.get_model_invocation_job(jobIdentifier=arn)["status"]
            if status in statuses:
                return str(status)
            time.sleep(PAUSE_SECONDS)
        raise AssertionError(f"the job is {status}")

    def outcomes(self) -> dict[str, int]:
        by_outcome = self.catalog.run_counts(self.run_id).by_outcome
        return {outcome.value: count for outcome, count in by_outcome.items()}

    def pending(self) -> int:
        """How many images another run would take."""
        key = work_key(parse_batch_params({}), self.settings())
        wanted = Selection(key=key, stages=frozenset({Stage.ANALYSE}), run_id="somebody/else")
        return len(self.catalog.select_unprocessed(wanted))

    def objects(self, below: str = "nova_batch/") -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=below).get("Contents", [])
        return [found["Key"] for found in listed]

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)).all())

    def rules(self, **changes: Any) -> None:
        """Jobs as small as the tests', but for that by Bedrock's rules."""
        self.stand_in.change(jobs=JobRules(**{"min_records": MINIMUM, **changes}))

    def jobs_at_bedrock(self) -> int:
        return len(self.bedrock.list_model_invocation_jobs()["invocationJobSummaries"])


@pytest.fixture
def site(ground: Ground, stand_in: NovaStandIn) -> Iterator[Site]:
    bedrock = boto3.client(
        "bedrock",
        endpoint_url=stand_in.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 2}),
    )
    engine = create_catalog_engine(f"sqlite:///{ground.pictures.parent / 'catalog.db'}")
    backlog = Backlog(ground.catalog, ground.s3, ground.bucket)
    yield Site(ground.catalog, ground.s3, ground.bucket, stand_in, bedrock, backlog, engine)
    engine.dispose()


@pytest.fixture
def small(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same with a smaller minimum, on both sides."""
    monkeypatch.setattr(batch_inference, "MIN_RECORDS", MINIMUM)
    site.rules()
    return site


# -- a whole job -----------------------------------------------------------------------------------------------------


def test_250_records_with_10_bad_ones(site: Site) -> None:
    ids = site.backlog.add(good=240, bad=10)
    assert site.plan() == [0]
    job = site.finish()
    assert (job.state, job.status, job.records) == (JobState.JOINED, "Completed", 250)
    assert site.outcomes() == {"analysed": 240, "failed": 10}
    failed = site.catalog.run_failures(site.run_id)
    assert [image.file_id for image in failed] == ids[240:]
    assert {image.code for image in failed} == {"validation"}
    words = Counter(str(image.message) for image in failed)
    assert len(words) == 2 and all("The provided image" in message for message in words)
    asked = Counter(call.record_id for call in site.stand_in.calls())
    assert len(asked) == 250 and set(asked.values()) == {1}
    assert site.jobs_at_bedrock() == 1


def test_the_rows_are_those_of_single_requests_at_half_the_price(small: Site) -> None:
    small.backlog.add(good=12)
    small.plan()
    small.finish()
    row = small.rows(
        "SELECT DISTINCT tier, status, endpoint, cost_usd, price_date, stop_reason, seconds, latency_ms "
        "FROM image_analyses"
    )
    assert row == [("batch", "analysed", "stand-in", None, "2026-11-22", "tool_use", None, None)]
    ((given, got, projected),) = small.rows(
        "SELECT input_tokens, output_tokens, cost_usd_projected FROM image_analyses ORDER BY id LIMIT 1"
    )
    # An image of 96 x 64 px is processed as one of 896 x 597 px and billed as 230 tokens; us. costs $0.33 and $2.75.
    billed = 230 + given - round(896 * 896 * 64 / 96 / 784) if given > 682 else 230
    assert projected == pytest.approx((billed * 0.33 + got * 2.75) / 2 / 1e6)
    ((described,),) = small.rows("SELECT count(*) FROM image_analyses WHERE description LIKE 'Stand-in, not Nova%'")
    assert described == 12
    figures = small.catalog.run_figures(small.run_id)
    assert (figures.analyses_written, figures.nova_calls, figures.cost_usd) == (12, 12, None)


def test_the_copies_are_cleaned_up_and_the_output_stays(small: Site) -> None:
    small.backlog.add(good=12)
    small.plan()
    waiting = small.inference().go_on(small.run_id, 0)
    records = f"{waiting.folder}/input/records.jsonl".removeprefix(f"s3://{small.bucket}/")
    lines = small.s3.get_object(Bucket=small.bucket, Key=records)["Body"].read().splitlines()
    uris = [json.loads(line)["modelInput"]["messages"][0]["content"][0]["image"]["source"] for line in lines]
    assert {source["s3Location"]["uri"].rpartition("/")[0] for source in uris} == {f"{waiting.folder}/input"}
    small.finish()
    assert sorted(key.rpartition("/")[2] for key in small.objects()) == ["manifest.json.out", "records.jsonl.out"]
    assert len(small.objects("proxy_image/")) == 12


def test_each_answer_is_told_once_with_its_tokens(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the task is killed in the middle of them, and the next one reads all again."""
    small.backlog.add(good=10, bad=2)
    small.plan()
    told: Counter[str] = Counter()

    class Counted(NoMetrics):
        def count(self, name: str, value: int = 1) -> None:
            told[name] += value

    small.metrics = Counted()
    with monkeypatch.context() as killed:
        killed.setattr(JobAnswers, "_compare", _killed)
        with pytest.raises(KeyboardInterrupt):
            small.finish()
    assert small.finish().state is JobState.JOINED
    ((given, got),) = small.rows("SELECT sum(input_tokens), sum(output_tokens) FROM image_attempts")
    assert told == {
        "images.analyse.analysed": 10,
        "images.analyse.failed": 2,
        "codes.validation": 2,
        "nova.calls": 12,
        "nova.errors.validation": 2,
        "nova.input_tokens": given,
        "nova.output_tokens": got,
    }


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_nobody_else_takes_the_images_of_a_job(small: Site) -> None:
    small.rules(hold_file=Path(__file__))  # as long as this file is there: the job is not over before it is stopped
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    assert (job.state, small.pending()) == (JobState.WAITING, 0)
    ((hours,),) = small.rows(
        "SELECT min((julianday(lease_until) - julianday(claimed_at)) * 24) FROM image_claims WHERE stage = 'analyse'"
    )
    assert 48 < hours < 51  # as long as the job may run, and a margin to read its answers
    small.inference().cancel(job)
    assert small.finish().status == "Stopped"
    assert (small.outcomes(), small.pending()) == ({"returned": 12}, 12)


# -- ends that are not good ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "answered", "code"), [("PartiallyCompleted", 7, "job_partial"), ("Expired", 0, "job_expired")]
)
def test_what_was_answered_is_kept_and_the_rest_is_pending(small: Site, end: Any, answered: int, code: str) -> None:
    small.rules(end=end, end_after=answered)
    small.backlog.add(good=12)
    small.plan()
    job = small.finish()
    assert (job.status, job.state) == (end, JobState.JOINED)
    assert small.outcomes() == Counter(analysed=answered, returned=12 - answered) - Counter()
    assert {image.code for image in small.catalog.run_images(small.run_id)} - {None} == {code}
    assert small.pending() == 12 - answered


def test_a_failed_job_puts_all_back_with_its_message_and_may_be_tried_again(small: Site) -> None:
    small.rules(end="Failed", message="The role cannot read the bucket")
    small.backlog.add(good=12)
    small.plan()
    with pytest.raises(BatchFailed, match="The role cannot read the bucket"):
        small.finish()
    assert (small.outcomes(), small.pending()) == ({"returned": 12}, 12)
    assert "The role cannot" in str(small.catalog.run_images(small.run_id)[0].message)
    small.rules()
    assert small.finish().number == 2
    assert small.outcomes() == {"analysed": 12}


def test_a_record_that_was_throttled_is_pending_and_one_nova_cannot_read_fails_the_task(small: Site) -> None:
    ids = small.backlog.add(good=13)
    small.stand_in.change(
        forced=(
            Forced(key_contains=f"/{ids[0]}.jpeg", error="ThrottlingException"),
            Forced(key_contains=f"/{ids[1]}.jpeg", error="AccessDeniedException", message="s3:GetObject is denied"),
            Forced(key_contains=f"/{ids[2]}.jpeg", stop_reason="content_filtered"),
            Forced(key_contains=f"/{ids[3]}.jpeg", malformed="no_tool_use"),
        )
    )
    small.plan()
    with pytest.raises(BatchFailed, match="s3:GetObject"):
        small.finish()
    found = {image.file_id: (image.outcome, image.code) for image in small.catalog.run_images(small.run_id)}
    assert [found[file_id] for file_id in ids[:4]] == [
        (Outcome.RETURNED, "throttled"),
        (Outcome.RETURNED, "s3_access_denied"),
        (Outcome.FAILED, "content_filtered"),
        (Outcome.FAILED, "malformed_tool_use"),
    ]
    assert small.outcomes() == {"analysed": 9, "failed": 2, "returned": 2}


def test_a_role_that_is_refused_is_named_and_the_images_are_pending(small: Site) -> None:
    rule = Forced(operation="CreateModelInvocationJob", error="AccessDeniedException", message="no iam:PassRole")
    small.stand_in.change(forced=(rule,))
    small.backlog.add(good=12)
    small.plan()
    with pytest.raises(BatchRefused, match=f"no iam:PassRole.*{ROLE}"):
        small.finish()
    assert (small.outcomes(), small.pending(), small.objects()) == ({"returned": 12}, 12, [])
    small.stand_in.change(forced=())
    assert small.finish().status == "Completed"


def test_a_throttled_start_is_asked_for_again_and_the_images_stay_held(small: Site) -> None:
    rule = Forced(
        operation="CreateModelInvocationJob", error="ThrottlingException", times=2
    )  # as often as botocore tries here
    small.stand_in.change(forced=(rule,))
    small.backlog.add(good=12)
    small.plan()
    with pytest.raises(BatchNotStarted):
        small.inference().go_on(small.run_id, 0)
    assert small.pending() == 0
    assert small.finish().status == "Completed"
    assert small.jobs_at_bedrock() == 1


def test_a_start_that_comes_back_after_its_leases_is_prepared_anew(small: Site) -> None:
    """Others may have done the job's images meanwhile: to start it as it was would pay for them twice."""
    throttled = Forced(operation="CreateModelInvocationJob", error="ThrottlingException", times=2)
    small.stand_in.change(forced=(throttled,))
    ids = small.backlog.add(good=24)
    small.plan("first")
    with pytest.raises(BatchNotStarted):
        small.inference().go_on(small.run_id, 0)
    late = small.catalog.latest_job(small.run_id, 0)
    assert late is not None
    assert (late.state, late.records) == (JobState.STARTING, 24)
    small.catalog.renew(late.owner, -1)
    small.plan("second", {"file_ids": ids[:12]})
    assert small.finish().status == "Completed"
    small.run_id = late.run_id
    job = small.finish()
    assert (job.number, job.records, small.outcomes()) == (1, 12, {"analysed": 12, "skipped": 12})
    assert set(Counter(call.record_id for call in small.stand_in.calls()).values()) == {1}


def test_too_many_jobs_at_once_is_no_failure(small: Site) -> None:
    rule = Forced(operation="CreateModelInvocationJob", error="ServiceQuotaExceededException", times=1)
    small.stand_in.change(forced=(rule,))
    small.backlog.add(good=12)
    small.plan()
    with pytest.raises(BatchNotStarted):
        small.inference().go_on(small.run_id, 0)
    assert small.finish().number == 1


def test_a_job_that_bedrock_has_forgotten_gives_its_images_back(small: Site) -> None:
    small.rules(hold_file=Path(__file__))
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    gone = f"{str(job.job_arn)[:-12]}{'x' * 12}"
    small.catalog.update_job(job, job_arn=gone)
    assert small.inference().go_on(small.run_id, 0).state is JobState.JOINED
    assert small.outcomes() == {"returned": 12}


# -- cut off, and done again -----------------------------------------------------------------------------------------


def test_killed_before_the_start_prepares_again_under_the_same_token(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.backlog.add(good=12)
    small.plan()
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "release", lambda *_: 0)  # a task that is killed releases nothing
        patch.setattr(batch_inference, "upload_object", _killed)
        with pytest.raises(KeyboardInterrupt):
            small.inference().go_on(small.run_id, 0)
    before = small.catalog.latest_job(small.run_id, 0)
    assert before is not None and before.state is JobState.PREPARING
    job = small.finish()
    assert (job.number, job.client_request_token) == (1, before.client_request_token)
    assert small.outcomes() == {"analysed": 12}


@pytest.mark.parametrize("lapsed", [False, True])
def test_killed_right_after_the_start_finds_the_job_by_its_token(
    small: Site, monkeypatch: pytest.MonkeyPatch, *, lapsed: bool
) -> None:
    """Also when nobody came back before the leases had run out: Bedrock has it, so it is not prepared anew."""
    small.backlog.add(good=12)
    small.plan()
    real = Catalog.move_job

    def killed_before_it_is_stored(catalog: Catalog, job: BatchJob, state: JobState, **values: Any) -> BatchJob:
        if state is JobState.WAITING:
            raise KeyboardInterrupt
        return real(catalog, job, state, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "move_job", killed_before_it_is_stored)
        with pytest.raises(KeyboardInterrupt):
            small.inference().go_on(small.run_id, 0)
    assert (small.jobs_at_bedrock(), small.pending()) == (1, 0)
    if lapsed:
        job = small.catalog.latest_job(small.run_id, 0)
        assert job is not None
        small.catalog.renew(job.owner, -1)
    small.finish()
    assert small.jobs_at_bedrock() == 1
    assert small.outcomes() == {"analysed": 12}


def test_a_setting_that_was_changed_meanwhile_starts_no_second_job(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    again = small.catalog.update_job(job, state="starting", job_arn=None)
    found = small.inference(batch_timeout_hours=99).go_on(small.run_id, 0)
    assert (again.job_arn, found.job_arn, small.jobs_at_bedrock()) == (None, job.job_arn, 1)


def test_killed_in_mid_join_writes_each_paid_answer_once(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    small.backlog.add(good=11, bad=3)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    small.until(job.job_arn, "Completed")
    for name in ("record_answer", "record_refusal"):
        monkeypatch.setattr(Catalog, name, _counting(getattr(Catalog, name)))
    _Killer.after = 6
    with pytest.raises(KeyboardInterrupt):
        small.inference().go_on(small.run_id, 0)
    assert small.pending() == 0  # the answers are there to be read: nobody may pay for them again
    ((written,),) = small.rows("SELECT count(*) FROM image_attempts WHERE called")
    assert written == 6
    monkeypatch.undo()
    assert small.finish().state is JobState.JOINED
    assert small.outcomes() == {"analysed": 11, "failed": 3}
    assert small.rows("SELECT count(*), count(DISTINCT file_id) FROM image_attempts WHERE called") == [(14, 14)]
    assert small.rows("SELECT count(*), count(DISTINCT file_id) FROM image_analyses") == [(14, 14)]
    assert len(small.stand_in.calls()) == 14


def test_a_line_that_cannot_be_read_is_told_by_its_length_only(small: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It may hold what is written on a picture."""
    small.backlog.add(good=11)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    small.until(job.job_arn, "Completed")
    (key,) = [key for key in small.objects() if key.endswith("records.jsonl.out")]
    whole = small.s3.get_object(Bucket=small.bucket, Key=key)["Body"].read()
    small.s3.put_object(Bucket=small.bucket, Key=key, Body=b'{"visible_text": "a private letter\n' + whole)
    assert small.finish().state is JobState.JOINED
    assert small.outcomes() == {"analysed": 11}
    assert "of 34 bytes, is no answer" in caplog.text
    assert "private letter" not in caplog.text


class _Killer:
    after = 0


def _counting(real: Any) -> Any:
    def record(*arguments: Any, **named: Any) -> Any:
        if not _Killer.after:
            raise KeyboardInterrupt
        _Killer.after -= 1
        return real(*arguments, **named)

    return record


def _killed(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_two_that_join_one_job_write_each_answer_once(small: Site) -> None:
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    small.until(job.job_arn, "Completed")
    both = threading.Barrier(2)
    raised: list[BaseException] = []

    def join() -> None:
        both.wait()
        try:
            small.inference().go_on(small.run_id, 0)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=join) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert small.rows("SELECT count(*), count(DISTINCT file_id) FROM image_attempts WHERE called") == [(12, 12)]
    assert small.outcomes() == {"analysed": 12}


def test_a_stopped_task_stops_its_work_and_its_images_are_free(small: Site) -> None:
    small.backlog.add(good=12)
    small.plan()
    inference = small.inference()
    inference.stop.set()
    with pytest.raises(RunCancelled):
        inference.go_on(small.run_id, 0)
    assert (small.pending(), small.jobs_at_bedrock()) == (12, 0)
    assert small.finish().status == "Completed"


def test_a_task_that_is_stopped_after_the_start_stops_the_job(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    small.rules(hold_file=Path(__file__))
    small.backlog.add(good=12)
    small.plan()
    inference = small.inference()
    real = Catalog.renew

    def stopped_while_bedrock_is_asked(catalog: Catalog, owner: str, lease_seconds: float) -> Any:
        inference.stop.set()
        return real(catalog, owner, lease_seconds)

    monkeypatch.setattr(Catalog, "renew", stopped_while_bedrock_is_asked)
    with pytest.raises(RunCancelled):
        inference.go_on(small.run_id, 0)
    job = small.catalog.latest_job(small.run_id, 0)
    assert job is not None and small.until(job.job_arn, "Stopped")
    assert small.inference().finish_own(small.run_id) is None
    assert (small.outcomes(), small.pending()) == ({"returned": 12}, 12)


def test_the_end_of_a_run_stops_a_job_that_nobody_waits_for(small: Site) -> None:
    small.rules(hold_file=Path(__file__))
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    assert small.inference().finish_own(small.run_id) is not None
    assert small.until(job.job_arn, "Stopped")
    assert small.inference().finish_own(small.run_id) is None
    assert (small.outcomes(), small.pending()) == ({"returned": 12}, 12)


def test_the_end_of_a_run_frees_what_a_killed_task_held_and_joins_what_it_started(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.backlog.add(good=24)
    small.plan(batch_max_records=200, conf={"limit": 12})
    job = small.inference().go_on(small.run_id, 0)
    first = small.run_id
    small.until(job.job_arn, "Completed")
    small.plan("second")
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "release", lambda *_: 0)
        patch.setattr(batch_inference, "upload_object", _killed)
        with pytest.raises(KeyboardInterrupt):
            small.inference().go_on(small.run_id, 0)
    assert small.pending() == 0
    assert small.inference().finish_own(small.run_id) is None
    assert small.pending() == 12
    small.run_id = first
    assert small.inference().finish_own(first) is None
    assert small.outcomes() == {"analysed": 12}


def test_a_joined_job_is_not_joined_again_nor_followed_by_another(small: Site) -> None:
    small.backlog.add(good=11, bad=1)
    small.plan()
    first = small.finish()
    assert small.inference().go_on(small.run_id, 0) == first
    assert small.jobs_at_bedrock() == 1


def test_a_job_that_its_run_left_behind_is_joined_by_the_next_run(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    small.until(job.job_arn, "Completed")
    assert small.inference().settle_left_behind("another/run") == 0  # its own run may be about to read it
    monkeypatch.setattr(batch_inference, "LEFT_BEHIND", -timedelta(minutes=1))
    assert small.inference().settle_left_behind(small.run_id) == 0
    small.catalog.update_job(job, state="starting", job_arn=None)  # not even its ARN was stored
    assert small.inference().settle_left_behind("another/run") == 1
    assert small.outcomes() == {"analysed": 12}
    assert small.inference().settle_left_behind("another/run") == 0


def test_an_answer_that_comes_after_its_lease_ran_out_is_kept(small: Site) -> None:
    small.backlog.add(good=12)
    small.plan()
    job = small.inference().go_on(small.run_id, 0)
    small.until(job.job_arn, "Completed")
    small.catalog.release(job.owner)
    assert small.pending() == 12
    small.finish()
    assert (small.outcomes(), small.pending()) == ({"analysed": 12}, 0)


def test_an_image_that_changed_under_the_job_is_analysed_anew(small: Site) -> None:
    """The answer belongs to the content that Nova saw."""
    ids = small.backlog.add(good=12)
    small.plan()
    small.inference().go_on(small.run_id, 0)
    with small.engine.begin() as connection:
        connection.execute(text("UPDATE files SET content_version = 'v2' WHERE id = :id"), {"id": ids[0]})
    small.finish()
    assert small.rows("SELECT DISTINCT content_version FROM image_analyses") == [("v1",)]
    assert small.catalog.current(ids[0])["description"] is None  # type: ignore[index]


# -- what does not come to a job -------------------------------------------------------------------------------------


def test_fewer_than_a_hundred_are_handed_over(site: Site) -> None:
    site.backlog.add(good=99)
    site.plan()
    assert site.finish().state is JobState.HANDED_OVER
    assert (site.jobs_at_bedrock(), site.pending(), site.objects()) == (0, 99, [])


def test_a_missing_proxy_is_made_anew_and_the_others_go_on(small: Site) -> None:
    ids = small.backlog.add(good=13)
    small.s3.delete_object(Bucket=small.bucket, Key=f"proxy_image/{ids[0]}_nova.jpg")
    small.plan()
    assert small.finish().records == 12
    assert small.outcomes() == {"analysed": 12, "returned": 1}
    assert small.catalog.run_images(small.run_id)[0].code == "proxy_missing"


def test_missing_proxies_may_leave_too_few_for_a_job(small: Site) -> None:
    ids = small.backlog.add(good=MINIMUM)
    small.s3.delete_object(Bucket=small.bucket, Key=f"proxy_image/{ids[0]}_nova.jpg")
    small.plan()
    assert small.finish().state is JobState.HANDED_OVER
    assert small.objects() == []


def test_images_of_another_run_are_left_to_it(small: Site) -> None:
    small.backlog.add(good=14)
    small.plan("first")
    small.plan("second")
    small.run_id = "nova_batch_inference/first"
    job = small.inference().go_on(small.run_id, 0)
    small.run_id = "nova_batch_inference/second"
    assert small.inference().go_on(small.run_id, 0).state is JobState.HANDED_OVER
    assert small.outcomes() == {"skipped": 14}
    small.run_id = "nova_batch_inference/first"
    assert small.finish().job_arn == job.job_arn
    assert len(small.stand_in.calls()) == 14


# -- the plan --------------------------------------------------------------------------------------------------------


def test_a_backlog_is_split_into_equal_jobs(small: Site) -> None:
    small.backlog.add(good=201)
    batches = small.plan(batch_max_records=200)
    assert [small.catalog.planned_batches(small.run_id)[batch].size for batch in batches] == [101, 100]


def test_a_run_that_is_planned_again_keeps_its_plan(small: Site) -> None:
    small.backlog.add(good=12)
    assert small.plan() == [0]
    small.inference().go_on(small.run_id, 0)
    small.backlog.add(good=5)
    assert small.plan() == [0]
    assert small.finish().records == 12


def test_limit_window_and_ids_choose(small: Site) -> None:
    ids = small.backlog.add(good=6)
    assert small.plan("a", {"limit": 2, "dry_run": True}) == []
    small.plan("b", {"limit": 2})
    assert [image.file_id for image in small.catalog.run_images(small.run_id)] == ids[:2]
    small.plan("c", {"file_ids": ids[3:5]})
    assert [image.file_id for image in small.catalog.run_images(small.run_id)] == ids[3:5]
    assert small.plan("d", {"uploaded_to": "2020-01-01T00:00:00+00:00"}) == []


def test_a_job_that_waits_for_its_answers_counts_against_the_days_limit(small: Site, tmp_path: Path) -> None:
    """Else each of the day's jobs is planned as if it were the first: their costs are known hours later."""
    hold = tmp_path / "hold"
    hold.touch()
    small.rules(hold_file=hold)
    small.backlog.add(12)
    small.plan("first")
    small.inference().go_on(small.run_id, 0)
    projected = small.catalog.reserved_usd()
    assert projected == pytest.approx(12 * projected_cost_usd(MODEL, 1195, 896, load_prompt(), "batch"))
    small.backlog.add(12)
    small.plan("second", {"dry_run": True}, max_cost_usd_per_day=1.5 * projected)
    assert (small.projection.images, small.projection.images_left_pending) == (6, 6)
    hold.unlink()
    small.run_id = "nova_batch_inference/first"
    assert small.finish().state is JobState.JOINED
    assert small.catalog.reserved_usd() == 0
    assert small.plan("third", max_cost_usd_per_day=small.catalog.spent_usd() + 1.1 * projected) == [0]


@pytest.mark.parametrize(("pays_for", "state"), [(22, JobState.WAITING), (17, JobState.HANDED_OVER)])
def test_two_runs_planned_at_the_same_moment_cannot_both_spend_what_is_left(
    small: Site, pays_for: int, state: JobState
) -> None:
    """Each was planned for all that the day has left; the one that comes second takes what the first left of it."""
    ids = small.backlog.add(24)
    limit = {"max_cost_usd_per_day": (pays_for + 0.5) * projected_cost_usd(MODEL, 1195, 896, load_prompt(), "batch")}
    runs = []
    for name, chosen in (("first", ids[:12]), ("second", ids[12:])):
        small.plan(name, {"file_ids": chosen}, **limit)
        runs.append(small.run_id)
    first, second = (small.inference(**limit).go_on(run, 0) for run in runs)
    assert (first.state, first.records) == (JobState.WAITING, 12)
    assert second.state is state
    assert small.outcomes()["returned"] == 24 - pays_for
    assert small.pending() == 24 - 12 - (second.records or 0)
    assert "MAX_COST_USD_PER_DAY was reached" in notes_of(small.catalog.run_figures(second.run_id))[0]


def test_a_run_takes_what_its_money_pays_for_at_half_the_price(small: Site) -> None:
    ids = small.backlog.add(good=12)
    each = projected_cost_usd(MODEL, 1195, 896, load_prompt(), "batch")
    assert small.plan("a", {"max_cost_usd": 7.5 * each}) == [0]
    assert [image.file_id for image in small.catalog.run_images(small.run_id)] == ids[:7]
    (note,) = notes_of(small.catalog.run_figures(small.run_id))
    assert "pays for 7 of 12 images" in note
    assert "5 left pending" in note
    with pytest.raises(CostLimitExceeded, match="one image would cost"):
        small.plan("b", {"max_cost_usd": 0.5 * each})


def test_a_missing_role_or_a_wrong_param_is_named_before_anything_is_done(small: Site) -> None:
    with pytest.raises(SettingsError, match="IMAGE_PROXY_BATCH_ROLE_ARN is not set"):
        small.plan(batch_role_arn=None)
    with pytest.raises(SettingsError, match="BATCH_ROLE_ARN"):
        small.settings(batch_role_arn="my-role")
    with pytest.raises(SettingsError, match="BATCH_PREFIX"):
        small.settings(batch_prefix="with spaces/")
    with pytest.raises(InvalidParams, match="'stages'"):
        small.plan(conf={"stages": ["proxy"]})
