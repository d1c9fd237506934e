"""Batch inference jobs: the four operations, and one thread a job that takes it through its statuses."""

from __future__ import annotations

import functools
import json
import re
import secrets
import string
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from include.local.nova_stand_in.call_log import CallLog
from include.local.nova_stand_in.errors import BedrockError
from include.local.nova_stand_in.job_input import (
    JobFailed,
    Line,
    RecordAnswerer,
    batched,
    check_create,
    fetch_lines,
    input_files,
    read_record,
    shuffled,
    validate,
)
from include.local.nova_stand_in.models import find_batch_model
from include.local.nova_stand_in.settings import JobRules
from include.local.nova_stand_in.trouble import Trouble

ACCOUNT: Final = "000000000000"
ENDED: Final = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
DEFAULT_TIMEOUT_HOURS: Final = 24
_THREADS: Final = 4
_AT_ONCE: Final = 64  # records between two looks at a stop
_POLL_SECONDS: Final = 0.02
_ONE: Final = re.compile(r"/model-invocation-job/([^/]+)(/stop)?")
_REGION: Final = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/")


@dataclass(slots=True)
class Job:
    """One job. Everything but `request` changes while it runs; `lock` of its `Jobs` guards that."""

    arn: str
    request: dict[str, Any]
    rules: JobRules
    status: str = "Submitted"
    message: str | None = None
    submitted: datetime = field(default_factory=lambda: datetime.now(UTC))
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    total: int = 0
    succeeded: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def job_id(self) -> str:
        """The twelve characters at the end of the ARN."""
        return self.arn.rpartition("/")[2]

    def described(self) -> dict[str, Any]:
        """The job as GetModelInvocationJob and ListModelInvocationJobs have it."""
        hours = self.request.get("timeoutDurationInHours", DEFAULT_TIMEOUT_HOURS)
        told = {name: value for name, value in self.request.items() if name != "tags"}
        told |= {"jobArn": self.arn, "status": self.status, "timeoutDurationInHours": hours}
        told |= {"submitTime": _iso(self.submitted), "lastModifiedTime": _iso(self.modified)}
        told |= {"jobExpirationTime": _iso(self.submitted + timedelta(hours=hours))}
        told |= {"endTime": _iso(self.ended)} if self.ended else {}
        told |= {"message": self.message} if self.message else {}
        processed = self.succeeded + self.errors
        counts = {"totalRecordCount": self.total, "processedRecordCount": processed}
        return told | counts | {"successRecordCount": self.succeeded, "errorRecordCount": self.errors}


class Jobs:
    """Every job since the start, by ARN. They live in memory: a stand-in that starts again knows none."""

    def __init__(
        self, s3_client: Any, trouble: Trouble, log: CallLog, numbers: Iterator[int], stopping: threading.Event
    ) -> None:
        self._s3, self._trouble, self._log = s3_client, trouble, log
        self._numbers, self._stopping = numbers, stopping
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._threads: list[threading.Thread] = []
        self._asked = 0

    def close(self) -> None:
        """Wait for the threads; the server's own stop has told them to end."""
        for thread in self._threads:
            thread.join()

    def answer(self, method: str, target: str, authorization: str, raw: bytes) -> dict[str, Any]:
        """Answer one operation. Raises `BedrockError`."""
        parts = urlsplit(target)
        one = _ONE.fullmatch(parts.path)
        name = {
            ("POST", "/model-invocation-job"): "CreateModelInvocationJob",
            ("GET", "/model-invocation-jobs"): "ListModelInvocationJobs",
        }.get((method, parts.path))
        if one is not None and method == ("POST" if one[2] else "GET"):
            name = "StopModelInvocationJob" if one[2] else "GetModelInvocationJob"
        if name is None:
            raise BedrockError("UnknownOperationException", "The Nova stand-in has no such path.")
        with self._lock:
            self._asked += 1
            number = self._asked
        trouble = self._trouble.judge(number, [], name).error
        if trouble is not None:
            raise trouble
        if name == "CreateModelInvocationJob":
            return self._create(check_create(raw), authorization)
        if name == "ListModelInvocationJobs":
            return self._list({name: values[0] for name, values in parse_qs(parts.query).items()})
        job = self._known(unquote(one[1] if one else ""))
        return self._stop(job) if name == "StopModelInvocationJob" else job.described()

    def _create(self, body: dict[str, Any], authorization: str) -> dict[str, Any]:
        find_batch_model(body["modelId"])
        rules = self._trouble.jobs
        with self._lock:
            if (same := self._same(body)) is not None:
                return {"jobArn": same.arn}
            if sum(job.status not in ENDED for job in self._jobs.values()) >= rules.max_jobs:
                raise BedrockError("ServiceQuotaExceededException", "Too many batch inference jobs are in progress.")
        # Outside of the lock: S3 may take its time.
        input_files(self._s3, body["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        region = _REGION.search(authorization)
        job_id = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
        arn = f"arn:aws:bedrock:{region[1] if region else 'us-east-1'}:{ACCOUNT}:model-invocation-job/{job_id}"
        job = Job(arn, body, rules)
        with self._lock:
            if (same := self._same(body)) is not None:
                return {"jobArn": same.arn}
            self._jobs[arn] = job
        thread = threading.Thread(target=self._run, args=(job,), name=f"job-{job_id}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return {"jobArn": arn}

    def _same(self, body: dict[str, Any]) -> Job | None:
        """The job that this token made already; the lock is held. Raises `BedrockError` for another request's token."""
        token = body.get("clientRequestToken")
        same = next(
            (job for job in self._jobs.values() if token and job.request.get("clientRequestToken") == token), None
        )
        if same is not None and same.request != body:
            raise BedrockError("ConflictException", "The clientRequestToken was used with another request.")
        return same

    def _known(self, identifier: str) -> Job:
        with self._lock:
            for job in self._jobs.values():
                if identifier in (job.arn, job.job_id):
                    return job
        raise BedrockError("ResourceNotFoundException", f"There is no batch inference job {identifier}.")

    def _list(self, wanted: dict[str, str]) -> dict[str, Any]:
        with self._lock:
            found = [job.described() for job in self._jobs.values()]
        found = [
            job
            for job in found
            if job["status"] == wanted.get("statusEquals", job["status"])
            and wanted.get("nameContains", "") in job["jobName"]
            and wanted.get("submitTimeAfter", "") <= job["submitTime"] <= wanted.get("submitTimeBefore", "9")
        ]
        found.sort(key=lambda job: job["submitTime"], reverse=wanted.get("sortOrder") != "Ascending")
        start, size = int(wanted.get("nextToken", 0)), int(wanted.get("maxResults", 100))
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return {"invocationJobSummaries": found[start : start + size], **more}

    def _stop(self, job: Job) -> dict[str, Any]:
        with self._lock:
            if job.status in ENDED:
                raise BedrockError(
                    "ConflictException", f"The batch inference job is {job.status}; it cannot be stopped."
                )
            job.status, job.modified = "Stopping", datetime.now(UTC)
        return {}

    # -- a job's thread ------------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="stand-in-job-") as scratch:
                self._work(job, Path(scratch))
        except JobFailed as failed:
            self._end(job, "Failed", str(failed))
        except BedrockError as error:
            self._end(job, "Failed", error.message)
        except Exception as fault:
            self._end(job, "Failed", f"The Nova stand-in failed on this job: {type(fault).__name__}: {fault}"[:2048])

    def _work(self, job: Job, scratch: Path) -> None:
        self._stay(job, "Submitted")
        self._stay(job, "Validating")
        folder, keys = input_files(self._s3, job.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        with (scratch / "input").open("w+b") as source, (scratch / "output").open("w+b") as output:
            lines = fetch_lines(self._s3, folder, keys, source)
            job.total = len(lines)
            validate(lines, source, folder, job.rules, job.arn)
            self._stay(job, "Scheduled")
            if self._stopping.is_set():
                return
            begun = not self._is_stopped(job) and not (
                job.rules.end in ("Expired", "Failed") and not job.rules.end_after
            )
            if begun:
                self._move(job, "InProgress")
                self._process(job, lines, source, output)
                self._upload(job, keys[0], output)
        if self._is_stopped(job):
            self._end(job, "Stopped", None)
        else:
            self._end(job, job.rules.end or "Completed", job.rules.message)

    def _process(self, job: Job, lines: list[Line], source: IO[bytes], output: IO[bytes]) -> None:
        request = job.request
        answerer = RecordAnswerer(
            model=find_batch_model(request["modelId"]),
            model_id=request["modelId"],
            job_id=job.job_id,
            converse=request.get("modelInvocationType") == "Converse",
            s3_client=self._s3,
            trouble=self._trouble,
            log=self._log,
            numbers=self._numbers,
        )
        chosen = shuffled(lines, job.arn)[: job.rules.end_after if job.rules.end else None]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="record") as executor:
            for piece in batched(chosen, _AT_ONCE):
                if self._is_stopped(job) or self._stopping.is_set():
                    return
                records = [record for line in piece if (record := read_record(source, line)) is not None]
                for answer in executor.map(answerer.answer, records):
                    output.write(json.dumps(answer).encode() + b"\n")
                    self._count(job, answer)

    def _count(self, job: Job, answer: dict[str, Any]) -> None:
        with self._lock:
            if "error" in answer:
                job.errors += 1
                return
            job.succeeded += 1
            job.input_tokens += answer["modelOutput"]["usage"]["inputTokens"]
            job.output_tokens += answer["modelOutput"]["usage"]["outputTokens"]

    def _upload(self, job: Job, key: str, output: IO[bytes]) -> None:
        """The output beside its manifest, in a folder that has the job's id."""
        target = job.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].removeprefix("s3://").rstrip("/")
        bucket, _, prefix = target.partition("/")
        folder = "/".join(part for part in (prefix, job.job_id) if part)
        output.seek(0)
        self._s3.upload_fileobj(output, bucket, f"{folder}/{key.rpartition('/')[2]}.out")
        manifest = {
            "totalRecordCount": job.total,
            "processedRecordCount": job.succeeded + job.errors,
            "successRecordCount": job.succeeded,
            "errorRecordCount": job.errors,
            "inputTokenCount": job.input_tokens,
            "outputTokenCount": job.output_tokens,
        }
        self._s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.json.out", Body=json.dumps(manifest).encode())

    def _stay(self, job: Job, status: str) -> None:
        """Be in `status` for a while; a stop ends it, of the job or of the server."""
        self._move(job, status)
        until = time.monotonic() + job.rules.status_seconds
        held = functools.partial(_exists, job.rules.hold_file if status == "Scheduled" else None)
        while (time.monotonic() < until or held()) and not self._is_stopped(job):
            if self._stopping.wait(_POLL_SECONDS):
                return

    def _move(self, job: Job, status: str) -> None:
        with self._lock:
            if job.status != "Stopping":
                job.status, job.modified = status, datetime.now(UTC)

    def _end(self, job: Job, status: str, message: str | None) -> None:
        with self._lock:
            job.status, job.message = status, message
            job.modified = job.ended = datetime.now(UTC)

    def _is_stopped(self, job: Job) -> bool:
        with self._lock:
            return job.status == "Stopping"


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
