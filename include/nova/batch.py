"""Batch inference: the shape of a job, of its records and of its answers, and what each status means.

Jobs are of the InvokeModel type: those of the Converse type take no `toolConfig`. The reply to InvokeModel has the
members of Converse's that are read here. https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.nova.client import CallRecord
from include.nova.errors import Disposition, NovaError, Usage, rule_for
from include.nova.prompts import Prompt
from include.nova.replies import NovaReply, parse_reply, usage_of
from include.nova.requests import build_converse_request

# Quotas of batch inference for one job of a Nova model, from Bedrock's list of endpoints and quotas.
MIN_RECORDS = 100
MAX_RECORDS = 50_000

COMPLETED = "Completed"
FAILED = "Failed"
# The job is over: whatever stands in its output is answered, nothing will be added.
TERMINAL = frozenset({COMPLETED, "PartiallyCompleted", FAILED, "Stopped", "Expired"})

SCHEMA_VERSION = "messages-v1"  # of Nova's own request, which InvokeModel takes
_RECORD_DIGITS = 11  # a record id has eleven characters in all of Bedrock's examples
_HIGHEST_ID = 2**63 - 1  # that a database can be asked for
_TOKEN_CHARS = 40
_NAME_CHARS = 16

# Error records carry an HTTP status, and no AWS code; these are the codes of InvokeModel with that status.
_CODE_OF_STATUS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


@dataclass(frozen=True, slots=True)
class Rest:
    """Why the images that a job did not answer are pending again."""

    code: str
    message: str


_RESTS = {
    COMPLETED: Rest("no_answer", "the job's output holds no answer for this image"),
    "PartiallyCompleted": Rest("job_partial", "the job ran out of time before this image"),
    "Expired": Rest("job_expired", "the job ran out of time before it began with this image"),
    "Stopped": Rest("job_stopped", "the job was stopped before this image"),
    FAILED: Rest("job_failed", "the job failed"),
}


def rest_of(status: str, message: str | None) -> Rest:
    """What is said of the images that a job with this final status left."""
    rest = _RESTS.get(status) or Rest("job_lost", f"Bedrock no longer knows the job ({status})")
    return Rest(rest.code, f"{rest.message}: {message}" if message else rest.message)


@dataclass(frozen=True, slots=True)
class JobNames:
    """What a job is called: all from the run, its batch and the job's number, so that a retry asks for the same."""

    token: str  # clientRequestToken: the same token starts no second job

    @property
    def job_name(self) -> str:
        """A name that the console shows."""
        return f"image-analyses-{self.token[:_NAME_CHARS]}"

    @property
    def folder(self) -> str:
        """The last part of the job's folder in S3."""
        return self.token[:_NAME_CHARS]


def names_of(run_id: str, batch_id: int, number: int) -> JobNames:
    """The names of the `number`-th job of a planned batch."""
    digest = hashlib.sha256(json.dumps([run_id, batch_id, number]).encode()).hexdigest()
    return JobNames(digest[:_TOKEN_CHARS])


def split_evenly(count: int, maximum: int = MAX_RECORDS) -> list[int]:
    """Sizes of as few jobs as hold `count` records, as equal as can be, largest first.

    Filled up instead, the last one could fall below the minimum; equal ones cannot while `maximum` is at least twice
    the minimum.
    """
    if count < 1:
        return []
    jobs = -(-count // maximum)
    size, larger = divmod(count, jobs)
    return [size + 1] * larger + [size] * (jobs - larger)


def record_id(file_id: int) -> str:
    """An image's record id. Order of output differs from input's: answers are joined on it."""
    return f"{file_id:0{_RECORD_DIGITS}d}"


def build_record(
    file_id: int, model_id: str, image_uri: str, image_format: str, prompt: Prompt, bucket_owner: str | None = None
) -> str:
    """One line of the job's input, without its line end. Raises NovaError as `build_converse_request`."""
    request = build_converse_request(model_id, image_uri, image_format, prompt, bucket_owner=bucket_owner)
    del request["modelId"]  # the job names it
    line = {"recordId": record_id(file_id), "modelInput": {"schemaVersion": SCHEMA_VERSION, **request}}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def build_job(
    names: JobNames,
    *,
    model_id: str,
    role_arn: str,
    input_uri: str,
    output_uri: str,
    timeout_hours: int,
    bucket_owner: str | None = None,
) -> dict[str, Any]:
    """Keyword arguments of `create_model_invocation_job`; the same for every try, as the token demands."""
    owner = {"s3BucketOwner": bucket_owner} if bucket_owner else {}
    return {
        "jobName": names.job_name,
        "clientRequestToken": names.token,
        "roleArn": role_arn,
        "modelId": model_id,
        "modelInvocationType": "InvokeModel",
        "timeoutDurationInHours": timeout_hours,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": input_uri, "s3InputFormat": "JSONL", **owner}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": output_uri, **owner}},
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a job's output: a validated reply, or the error that stands in its place."""

    file_id: int
    reply: NovaReply | None
    error: NovaError | None
    usage: Usage

    def call(self, job_started: datetime, endpoint: str) -> CallRecord:
        """The record of the request that the job made; nobody says how long a single one took."""
        return CallRecord(
            started_at=job_started,
            seconds=None,
            code=self.error.code if self.error else None,
            message=self.error.message if self.error else None,
            input_tokens=self.usage.input_tokens,
            output_tokens=self.usage.output_tokens,
            latency_ms=self.reply.latency_ms if self.reply else None,
            endpoint=endpoint,
            tier="batch",
            request_bytes=0,  # it left as a line of a file
        )


def parse_answer(line: bytes, prompt: Prompt) -> Answer | None:
    """One line of output, read; None for what is no answer to one of our records (a blank or a broken line).

    Never raises: a line that stopped the reading would stop it at each try, and keep all paid answers behind it.
    """
    try:
        record = json.loads(line)
        file_id = int(record["recordId"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    if not 0 < file_id <= _HIGHEST_ID:
        return None
    if "error" in record:
        return Answer(file_id, None, _error(record["error"]), Usage())
    output = record.get("modelOutput")
    output, usage = output if isinstance(output, dict) else {}, Usage()
    try:
        usage = usage_of(output)
        return Answer(file_id, parse_reply(output, prompt), None, usage)
    except NovaError as error:
        return Answer(file_id, None, error, usage)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        said = f"The answer is not one of Nova's: {type(error).__name__}: {error}"
        return Answer(file_id, None, NovaError("unreadable_response", said, Disposition.RETURN, usage), usage)


def _error(given: Any) -> NovaError:
    error: Mapping[str, Any] = given if isinstance(given, dict) else {}
    words, status = str(error.get("errorMessage") or "no message"), error.get("errorCode")
    number = status if isinstance(status, int) else None
    aws_code = _CODE_OF_STATUS.get(number or 0, f"error {status}")
    rule = rule_for(aws_code, words, number)
    # There is no second attempt within a job: what another try may mend goes back to pending.
    kept = Disposition.RETURN if rule.disposition is Disposition.RETRY else rule.disposition
    said = f"{aws_code}: {words}"
    return NovaError(rule.code, f"{rule.advice} AWS said: {said}" if rule.advice else said, kept)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Bedrock's own counts in `manifest.json.out`; input and output tokens are those of the whole job."""

    total: int
    processed: int
    succeeded: int
    errors: int
    input_tokens: int
    output_tokens: int


def parse_manifest(raw: bytes) -> Manifest | None:
    """The counts, or None where the file is not one."""
    try:
        found = json.loads(raw)
        names = ("totalRecordCount", "processedRecordCount", "successRecordCount", "errorRecordCount")
        counts = [int(found[name]) for name in names]
        tokens = [int(found.get(name) or 0) for name in ("inputTokenCount", "outputTokenCount")]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    return Manifest(*counts, *tokens)
