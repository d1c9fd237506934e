"""Batch inference jobs of the stand-in, driven by stock boto3: Bedrock's rules, its statuses, its files."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from include.local.nova_stand_in import Forced, JobRules, NovaStandIn, StandInSettings

PROFILE = "us.amazon.nova-2-lite-v1:0"
ROLE = "arn:aws:iam::123456789012:role/batch"
ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
WAIT_SECONDS = 60
SCHEMA = {"type": "object", "properties": {"description": {"type": "string"}}, "required": ["description"]}


def picture(name: str = "JPEG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(data, name)
    return data.getvalue()


class Desk:
    """Puts input into a bucket, starts jobs and reads what comes out."""

    def __init__(self, stand_in: NovaStandIn, s3: Any, bucket: str) -> None:
        self.stand_in, self.s3, self.bucket = stand_in, s3, bucket
        self.bedrock = boto3.client(
            "bedrock",
            endpoint_url=stand_in.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )
        s3.put_object(Bucket=bucket, Key="in/a.jpg", Body=picture())

    def record(self, number: int, key: str = "in/a.jpg", **changes: Any) -> dict[str, Any]:
        location = {"s3Location": {"uri": f"s3://{self.bucket}/{key}"}}
        content = [{"image": {"format": "jpeg", "source": location}}, {"text": "What is it?"}]
        body = {
            "schemaVersion": "messages-v1",
            "messages": [{"role": "user", "content": content}],
            "inferenceConfig": {"maxTokens": 500, "temperature": 0, "topK": 1},
            "toolConfig": {"tools": [{"toolSpec": {"name": "describe", "inputSchema": {"json": SCHEMA}}}]},
        }
        return {"recordId": f"{number:011d}", "modelInput": {**body, **changes}}

    def put(self, records: list[dict[str, Any]], folder: str = "in") -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        self.s3.put_object(Bucket=self.bucket, Key=f"{folder}/records.jsonl", Body=lines.encode())

    def request(self, **changes: Any) -> dict[str, Any]:
        return {
            "jobName": "a-job",
            "roleArn": ROLE,
            "modelId": PROFILE,
            "modelInvocationType": "InvokeModel",
            "clientRequestToken": "token1",
            "inputDataConfig": {"s3InputDataConfig": {"s3Uri": f"s3://{self.bucket}/in/", "s3InputFormat": "JSONL"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{self.bucket}/out/"}},
        } | changes

    def start(self, **changes: Any) -> str:
        return str(self.bedrock.create_model_invocation_job(**self.request(**changes))["jobArn"])

    def get(self, arn: str) -> dict[str, Any]:
        return dict(self.bedrock.get_model_invocation_job(jobIdentifier=arn))

    def until(self, arn: str, *statuses: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            job = self.get(arn)
            if job["status"] in statuses:
                return job
            time.sleep(0.02)
        raise AssertionError(f"the job is {job['status']}")

    def run(self, records: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        self.put(records)
        return self.until(self.start(**changes), *ENDED)

    def output(self, job: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        folder = f"out/{job['jobArn'].rpartition('/')[2]}"
        raw = self.s3.get_object(Bucket=self.bucket, Key=f"{folder}/records.jsonl.out")["Body"].read()
        manifest = self.s3.get_object(Bucket=self.bucket, Key=f"{folder}/manifest.json.out")["Body"].read()
        return [json.loads(line) for line in raw.splitlines()], json.loads(manifest)


@pytest.fixture
def strict(stand_in: NovaStandIn, s3: Any, bucket: str) -> Desk:
    """With Bedrock's own minimum."""
    return Desk(stand_in, s3, bucket)


@pytest.fixture
def desk(strict: Desk) -> Desk:
    strict.stand_in.change(jobs=JobRules(min_records=3))
    return strict


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# -- what comes out --------------------------------------------------------------------------------------------------


def test_every_record_is_answered_in_another_order_with_a_manifest(desk: Desk) -> None:
    job = desk.run([desk.record(number) for number in range(20)])
    assert job["status"] == "Completed"
    assert (job["totalRecordCount"], job["successRecordCount"], job["errorRecordCount"]) == (20, 20, 0)
    lines, manifest = desk.output(job)
    ids = [line["recordId"] for line in lines]
    assert ids != sorted(ids) and sorted(ids) == [f"{number:011d}" for number in range(20)]
    reply = lines[0]["modelOutput"]
    assert reply["stopReason"] == "tool_use" and "metrics" not in reply
    assert "Stand-in, not Nova" in reply["output"]["message"]["content"][0]["toolUse"]["input"]["description"]
    assert manifest["processedRecordCount"] == manifest["successRecordCount"] == 20
    assert manifest["inputTokenCount"] == sum(line["modelOutput"]["usage"]["inputTokens"] for line in lines)
    logged = desk.stand_in.calls()
    assert sorted(str(call.record_id) for call in logged) == sorted(ids)
    assert {call.job for call in logged} == {job["jobArn"].rpartition("/")[2]}


def test_bad_records_become_error_records_and_the_job_completes(desk: Desk) -> None:
    desk.s3.put_object(Bucket=desk.bucket, Key="in/b.jpg", Body=picture("PNG"))
    bad = [
        desk.record(1, key="in/gone.jpg"),
        desk.record(2, key="in/b.jpg"),
        desk.record(3, messages=[]),
        desk.record(4, schemaVersion="messages-v9"),
        desk.record(5, unknown=1),
    ]
    job = desk.run([desk.record(0), *bad])
    assert (job["status"], job["successRecordCount"], job["errorRecordCount"]) == ("Completed", 1, 5)
    errors = {int(line["recordId"]): line["error"] for line in desk.output(job)[0] if "error" in line}
    assert {error["errorCode"] for error in errors.values()} == {400}
    said = ("key does not exist", "does not match", "start with a user message", "schemaVersion", "extraneous key")
    for number, words in enumerate(said, start=1):
        assert words in errors[number]["errorMessage"]


def test_forced_rules_reach_records(desk: Desk) -> None:
    desk.stand_in.change(
        forced=(Forced(error="ModelErrorException", times=1), Forced(missing_field="description", times=1))
    )
    job = desk.run([desk.record(number) for number in range(4)])
    lines, _ = desk.output(job)
    assert [line["error"]["errorCode"] for line in lines if "error" in line] == [424]
    inputs = [
        line["modelOutput"]["output"]["message"]["content"][0]["toolUse"]["input"]
        for line in lines
        if "modelOutput" in line
    ]
    assert sorted(map(len, inputs)) == [0, 1, 1]


def test_a_job_of_the_converse_type_takes_no_tools(desk: Desk) -> None:
    with_tools, without = desk.record(1)["modelInput"], desk.record(2)["modelInput"]
    for body in (with_tools, without):
        del body["schemaVersion"], body["inferenceConfig"]["topK"]
    del without["toolConfig"]
    bodies = [with_tools, without, without]
    job = desk.run(
        [{"recordId": str(n), "modelInput": body} for n, body in enumerate(bodies)], modelInvocationType="Converse"
    )
    lines, _ = desk.output(job)
    (error,) = [line["error"]["errorMessage"] for line in lines if "error" in line]
    assert "toolConfig is not supported" in error


# -- what is refused -------------------------------------------------------------------------------------------------


def test_fewer_records_than_the_minimum_fail_the_job(strict: Desk) -> None:
    job = strict.run([strict.record(number) for number in range(99)])
    assert job["status"] == "Failed"
    assert "contains less records (99) than the required minimum of: 100" in job["message"]
    assert strict.stand_in.calls() == ()


def test_more_records_than_the_maximum_fail_the_job(desk: Desk) -> None:
    desk.stand_in.change(jobs=JobRules(min_records=1, max_records=4))
    assert "more records (5)" in desk.run([desk.record(number) for number in range(5)])["message"]


@pytest.mark.parametrize("key", ["elsewhere/a.jpg", "in-not/a.jpg"])
def test_a_picture_outside_of_the_folder_fails_the_job(desk: Desk, key: str) -> None:
    job = desk.run([desk.record(0), desk.record(1), desk.record(2, key=key)])
    assert job["status"] == "Failed"
    assert f"Line 3 names s3://{desk.bucket}/{key}, which is not in the folder of the input" in job["message"]


def test_lines_that_are_no_records_and_ids_that_come_twice_fail_the_job(desk: Desk) -> None:
    assert "repeats the recordId" in desk.run([desk.record(1)] * 3)["message"]
    desk.s3.put_object(Bucket=desk.bucket, Key="in/records.jsonl", Body=b'{"recordId":"1"}\n{"a":1}\nnot json\n')
    job = desk.until(desk.start(clientRequestToken="token2"), *ENDED)
    assert "Line 1 of the input is not a JSON object with a modelInput" in job["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modelId": "us.amazon.nova-9:0"}, "model identifier is invalid"),
        ({"roleArn": "arn:aws:iam::12:user/me"}, "roleArn"),
        ({"timeoutDurationInHours": 200}, "less than or equal to 168"),
        ({"jobName": "a job"}, "jobName"),
        ({"modelInvocationType": "Guess"}, "enum value set"),
        ({"inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://no-such-bucket-here/in/"}}}, "cannot be read"),
    ],
)
def test_a_wrong_request_starts_no_job(desk: Desk, changes: dict[str, Any], words: str) -> None:
    desk.put([desk.record(number) for number in range(3)])
    code, message = refused(desk.start, **changes)
    assert code == "ValidationException" and words in message
    assert desk.bedrock.list_model_invocation_jobs()["invocationJobSummaries"] == []


def test_a_folder_without_records_is_refused(desk: Desk) -> None:
    assert "holds no JSONL file" in refused(desk.start)[1]


def test_a_base_id_serves_in_a_job(desk: Desk) -> None:
    assert desk.run([desk.record(n) for n in range(3)], modelId="amazon.nova-2-lite-v1:0")["status"] == "Completed"


def test_one_token_starts_one_job_and_another_request_is_a_conflict(desk: Desk) -> None:
    desk.put([desk.record(number) for number in range(3)])
    first = desk.start()
    assert desk.start() == first
    assert refused(desk.start, jobName="another-job")[0] == "ConflictException"
    assert desk.start(clientRequestToken="token2") != first
    assert len(desk.bedrock.list_model_invocation_jobs()["invocationJobSummaries"]) == 2


def test_the_operations_are_throttled_by_rate_and_by_rule(desk: Desk) -> None:
    desk.put([desk.record(number) for number in range(3)])
    arn = desk.start()
    desk.stand_in.change(throttle_rate=1.0)
    assert refused(desk.get, arn=arn)[0] == "ThrottlingException"
    rule = Forced(operation="GetModelInvocationJob", error="AccessDeniedException", times=1)
    desk.stand_in.change(throttle_rate=0.0, forced=(rule,))
    assert refused(desk.get, arn=arn)[0] == "AccessDeniedException"
    assert desk.get(arn)["jobArn"] == arn
    with pytest.raises(ValueError, match="operation is one of"):
        Forced(operation="DeleteEverything", error="ThrottlingException")


def test_too_many_jobs_at_once_exceed_the_quota(desk: Desk, hold: Path) -> None:
    desk.stand_in.change(jobs=JobRules(min_records=3, max_jobs=1, hold_file=hold))
    desk.put([desk.record(number) for number in range(3)])
    first = desk.start()
    assert refused(desk.start, clientRequestToken="token2")[0] == "ServiceQuotaExceededException"
    hold.unlink()
    desk.until(first, "Completed")
    desk.start(clientRequestToken="token2")


# -- statuses --------------------------------------------------------------------------------------------------------


def test_a_job_goes_through_its_statuses(desk: Desk, hold: Path) -> None:
    desk.stand_in.change(jobs=JobRules(min_records=3, status_seconds=0.3, hold_file=hold))
    desk.put([desk.record(number) for number in range(3)])
    arn = desk.start(timeoutDurationInHours=30)
    seen = [desk.until(arn, status)["status"] for status in ("Submitted", "Validating", "Scheduled")]
    assert seen == ["Submitted", "Validating", "Scheduled"]
    assert desk.stand_in.calls() == ()
    hold.unlink()
    job = desk.until(arn, "Completed")
    assert job["submitTime"] <= job["endTime"] <= datetime.now(UTC)
    assert job["jobExpirationTime"] - job["submitTime"] == timedelta(hours=30)
    by_id = desk.get(arn.rpartition("/")[2])
    assert (by_id["jobArn"], by_id["clientRequestToken"], by_id["roleArn"]) == (arn, "token1", ROLE)


def test_a_stopped_job_is_stopped_and_cannot_be_stopped_again(desk: Desk, hold: Path) -> None:
    desk.stand_in.change(jobs=JobRules(min_records=3, hold_file=hold))
    desk.put([desk.record(number) for number in range(3)])
    arn = desk.start()
    desk.bedrock.stop_model_invocation_job(jobIdentifier=arn)
    assert desk.until(arn, *ENDED)["status"] == "Stopped"
    assert refused(desk.bedrock.stop_model_invocation_job, jobIdentifier=arn)[0] == "ConflictException"
    assert desk.stand_in.calls() == ()


@pytest.mark.parametrize(("end", "answered"), [("PartiallyCompleted", 2), ("Expired", 0), ("Failed", 0), ("Failed", 1)])
def test_a_job_that_ends_early_has_answered_what_it_has(desk: Desk, end: Any, answered: int) -> None:
    desk.stand_in.change(jobs=JobRules(min_records=3, end=end, end_after=answered, message="so it was told"))
    job = desk.run([desk.record(number) for number in range(4)])
    assert (job["status"], job["message"], job["processedRecordCount"]) == (end, "so it was told", answered)
    if answered:
        assert len(desk.output(job)[0]) == answered


def test_jobs_are_listed_by_name_status_and_page(desk: Desk) -> None:
    desk.put([desk.record(number) for number in range(3)])
    arns = [desk.start(clientRequestToken=f"t{n}", jobName=f"job-{n}") for n in range(3)]
    for arn in arns:
        desk.until(arn, "Completed")
    listing = desk.bedrock.list_model_invocation_jobs
    assert [job["jobArn"] for job in listing(nameContains="job-1")["invocationJobSummaries"]] == [arns[1]]
    assert listing(statusEquals="Failed")["invocationJobSummaries"] == []
    assert listing(submitTimeAfter=datetime.now(UTC) + timedelta(hours=1))["invocationJobSummaries"] == []
    page = listing(maxResults=2, sortOrder="Ascending")
    rest = listing(maxResults=2, sortOrder="Ascending", nextToken=page["nextToken"])
    found = [job["jobArn"] for job in page["invocationJobSummaries"] + rest["invocationJobSummaries"]]
    assert sorted(found) == sorted(arns) and "nextToken" not in rest


def test_an_unknown_job_is_not_found(desk: Desk) -> None:
    arn = "arn:aws:bedrock:us-east-1:000000000000:model-invocation-job/abcdefghijkl"
    assert refused(desk.get, arn=arn)[0] == "ResourceNotFoundException"


def test_impossible_rules_are_refused() -> None:
    for wrong in ({"min_records": 0}, {"min_records": 9, "max_records": 8}, {"status_seconds": -1}, {"end": "Burnt"}):
        with pytest.raises(ValueError):
            JobRules(**wrong)  # type: ignore[arg-type]


def test_a_stand_in_that_stops_ends_its_jobs(s3: Any, bucket: str, hold: Path) -> None:
    with NovaStandIn(StandInSettings(jobs=JobRules(min_records=3, hold_file=hold)), s3) as stand_in:
        desk = Desk(stand_in, s3, bucket)
        desk.put([desk.record(number) for number in range(3)])
        desk.until(desk.start(), "Scheduled")
    assert stand_in.calls() == ()
