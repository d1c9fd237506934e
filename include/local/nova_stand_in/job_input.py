"""What a batch job is given: its request's rules, its input files, and each record's way to an answer."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final
from urllib.parse import unquote

import botocore.exceptions

from include.local.nova_stand_in.call_log import CallLog, CallRecord
from include.local.nova_stand_in.converse import make_reply
from include.local.nova_stand_in.errors import BedrockError, invalid, job_operation
from include.local.nova_stand_in.image_rules import look_at_images
from include.local.nova_stand_in.models import Model
from include.local.nova_stand_in.request_rules import check_request, parse_json, s3_uris_of
from include.local.nova_stand_in.settings import JobRules
from include.local.nova_stand_in.shapes import check_body
from include.local.nova_stand_in.trouble import Trouble

SCHEMA_VERSION: Final = "messages-v1"  # Nova user guide, "Complete request schema"
# Members of that schema's inferenceConfig that Converse has elsewhere.
_NATIVE_ONLY: Final = ("topK",)


class JobFailed(Exception):
    """The job as a whole cannot go on; the message is its message."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where one record stands in the local copy of a job's input."""

    start: int
    length: int


def input_files(s3_client: Any, uri: str) -> tuple[str, list[str]]:
    """The folder that a job's `s3Uri` names, with a slash at its end, and the keys of the JSONL files in it."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    if prefix.endswith(".jsonl"):
        return f"s3://{bucket}/{prefix.rpartition('/')[0]}/", [prefix]
    keys = []
    try:
        for page in s3_client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
            keys += [found["Key"] for found in page.get("Contents", ()) if found["Key"].endswith(".jsonl")]
    except botocore.exceptions.ClientError as error:
        raise invalid(f"The S3 location {uri} cannot be read ({error.response['Error']['Code']}).") from error
    if not keys:
        raise invalid(f"The S3 location {uri} holds no JSONL file.")
    return f"s3://{bucket}/{folder}", keys


def fetch_lines(s3_client: Any, folder: str, keys: list[str], into: IO[bytes]) -> list[Line]:
    """Copy the records to a local file; say where each stands."""
    bucket = folder.removeprefix("s3://").partition("/")[0]
    lines, at = [], 0
    for key in keys:
        for line in s3_client.get_object(Bucket=bucket, Key=key)["Body"].iter_lines(chunk_size=1 << 18):
            if line.strip():
                into.write(line)
                lines.append(Line(at, len(line)))
                at += len(line)
    return lines


def validate(lines: list[Line], source: IO[bytes], folder: str, rules: JobRules, arn: str) -> None:
    """What Bedrock checks before a job begins. Raises `JobFailed`. The wording of all but the minimum is ours."""
    if len(lines) < rules.min_records:
        raise JobFailed(
            f"Batch job {arn} contains less records ({len(lines)}) than the required minimum of: {rules.min_records}"
        )
    if len(lines) > rules.max_records:
        raise JobFailed(
            f"Batch job {arn} contains more records ({len(lines)}) than the maximum of: {rules.max_records}"
        )
    seen = set()
    for number, line in enumerate(lines, start=1):
        record = read_record(source, line)
        if record is None:
            raise JobFailed(f"Line {number} of the input is not a JSON object with a modelInput.")
        outside = next((uri for uri in s3_uris_of(record["modelInput"]) if not unquote(uri).startswith(folder)), None)
        if outside is not None:
            raise JobFailed(f"Line {number} names {outside}, which is not in the folder of the input, {folder}.")
        if record.get("recordId") in seen:
            raise JobFailed(f"Line {number} repeats the recordId {record['recordId']}.")
        seen.add(record.get("recordId", number))


def read_record(source: IO[bytes], line: Line) -> dict[str, Any] | None:
    """The record at `line`, None when it is none."""
    source.seek(line.start)
    try:
        record = json.loads(source.read(line.length))
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("modelInput"), dict) else None


def shuffled(lines: list[Line], seed: str) -> list[Line]:
    """Another order: Bedrock promises none."""
    mixed = list(lines)
    random.Random(seed).shuffle(mixed)  # noqa: S311 - an order, not a secret
    return mixed


@dataclass(frozen=True, slots=True)
class RecordAnswerer:
    """Answers records as Converse answers calls, and logs each. Safe to use from several threads."""

    model: Model
    model_id: str
    job_id: str
    converse: bool  # the job is of the Converse type
    s3_client: Any
    trouble: Trouble
    log: CallLog
    numbers: Iterator[int]

    def answer(self, record: dict[str, Any]) -> dict[str, Any]:
        """The line of output for one record."""
        started, number = datetime.now(UTC), next(self.numbers)
        body, uris = record["modelInput"], s3_uris_of(record["modelInput"])
        verdict = self.trouble.judge_record(number, uris)
        output: dict[str, Any] | None = None
        error: BedrockError | None = verdict.error
        try:
            if error is None:
                output = self._output(body, verdict.forced)
        except BedrockError as refused:
            error = refused
        except Exception as fault:
            error = BedrockError("InternalServerException", f"The stand-in failed: {type(fault).__name__}")
        usage = output["usage"] if output else {"inputTokens": 0, "outputTokens": 0}
        self.log.append(
            CallRecord(
                call=number,
                request_id=f"{self.job_id}-{number}",
                started=started.isoformat(),
                ended=datetime.now(UTC).isoformat(),
                model=self.model_id,
                s3_uri=uris[0] if uris else None,
                images=len(uris),
                status=error.status if error else 200,
                error=error.code if error else None,
                stop_reason=output["stopReason"] if output else None,
                input_tokens=usage["inputTokens"],
                output_tokens=usage["outputTokens"],
                service_tier=None,
                forced=verdict.forced is not None,
                job=self.job_id,
                record_id=record.get("recordId"),
            )
        )
        told = {"recordId": record.get("recordId"), "modelInput": body}
        if error is not None:
            return {**told, "error": {"errorCode": error.status, "errorMessage": error.message}}
        return {**told, "modelOutput": output}

    def _output(self, body: dict[str, Any], forced: Any) -> dict[str, Any]:
        if self.converse and "toolConfig" in body:
            raise invalid("toolConfig is not supported in batch inference with the Converse API.")
        given = body if self.converse else _as_converse(body)
        request = check_request(self.model, given)
        reply = make_reply(request, look_at_images(request, self.s3_client), forced)
        return {
            "output": {"message": {"role": "assistant", "content": reply.content}},
            "stopReason": reply.stop_reason,
            "usage": {
                "inputTokens": reply.input_tokens,
                "outputTokens": reply.output_tokens,
                "totalTokens": reply.input_tokens + reply.output_tokens,
            },
        }


def _as_converse(body: dict[str, Any]) -> dict[str, Any]:
    """Nova's own request as Converse's, which has all of its members. Raises `BedrockError`."""
    if body.get("schemaVersion", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise invalid(f"Malformed input request: #/schemaVersion: {body['schemaVersion']!r} is not a valid enum value")
    given = {name: value for name, value in body.items() if name != "schemaVersion"}
    inference = given.get("inferenceConfig")
    if isinstance(inference, dict):
        moved = {name: inference[name] for name in _NATIVE_ONLY if name in inference}
        given["inferenceConfig"] = {name: value for name, value in inference.items() if name not in moved}
        if moved:
            given["additionalModelRequestFields"] = {"inferenceConfig": moved}
    return given


def check_create(raw: bytes) -> dict[str, Any]:
    """The body of CreateModelInvocationJob, held against botocore's model. Raises `BedrockError`."""
    body = parse_json(raw)
    check_body(body, job_operation("CreateModelInvocationJob"))
    return dict(body)


def batched(lines: list[Line], size: int) -> Iterator[list[Line]]:
    """`lines` in pieces."""
    waiting = iter(lines)
    while piece := list(itertools.islice(waiting, size)):
        yield piece
