"""Bedrock's errors: the code travels in the header `x-amzn-ErrorType`, the message in the body."""

from __future__ import annotations

import functools
from typing import Any, Final

import botocore.session

# Codes that AWS's front door and the protocol give before an operation is reached; no service model lists them.
# Sources: "Common Errors" of the Bedrock API reference; Smithy's restJson1 for SerializationException.
_COMMON_STATUS: Final = {
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
    "InvalidSignatureException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "RequestEntityTooLargeException": 413,
    "SerializationException": 400,
    "UnknownOperationException": 404,
}

JOB_OPERATIONS: Final = (
    "CreateModelInvocationJob",
    "GetModelInvocationJob",
    "ListModelInvocationJobs",
    "StopModelInvocationJob",
)


class BedrockError(Exception):
    """An answer that is an error. `code` is an AWS error code, `status` the HTTP status that goes with it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status_of(code)


def invalid(message: str) -> BedrockError:
    """A `ValidationException` (400): the request is wrong, and stays wrong when it is repeated."""
    return BedrockError("ValidationException", message)


def status_of(code: str) -> int:
    """HTTP status of an AWS error code. Raises `ValueError` for a code that Bedrock does not send."""
    for operation in (converse_operation(), *map(job_operation, JOB_OPERATIONS)):
        for error in operation.error_shapes:
            if error.name == code:
                return int(error.metadata["error"]["httpStatusCode"])
    if code not in _COMMON_STATUS:
        raise ValueError(f"{code} is not an error of Bedrock's Converse, nor of its batch jobs")
    return _COMMON_STATUS[code]


@functools.cache
def converse_operation() -> Any:
    """botocore's own description of Converse (`bedrock-runtime/2023-09-30/service-2.json`), which requests must fit."""
    return botocore.session.Session().get_service_model("bedrock-runtime").operation_model("Converse")


@functools.cache
def job_operation(name: str) -> Any:
    """botocore's description of one of `JOB_OPERATIONS` (`bedrock/2023-04-20/service-2.json`)."""
    return botocore.session.Session().get_service_model("bedrock").operation_model(name)
