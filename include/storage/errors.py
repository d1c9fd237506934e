"""What can go wrong where bytes live, and whose fault it is.

`StorageError` is the image's own failure: it becomes an outcome on that image's row. `StorageUnavailable` is the
deployment's: no image can be blamed for it, so it fails the task, which Airflow retries.
"""

from __future__ import annotations

from typing import Final

import boto3.exceptions
import botocore.exceptions


class StorageError(Exception):
    """One image cannot be read. `code` is stable: source_missing, source_unreadable, source_too_large,
    source_not_a_file or unsupported_uri."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[Exception], tuple[str, str]]:
        # An exception with two arguments must say so, or it cannot come back from a worker process.
        return (type(self), (self.code, str(self)))


class StorageUnavailable(StorageError):
    """Storage itself fails. `code` is stable: storage_unavailable, access_denied or bucket_missing."""


# S3 error code -> (exception, our code). The codes are those of "Error responses" in the S3 API reference. HEAD
# has no body, so botocore gives the bare status as its code.
_BY_S3_CODE: Final[dict[str, tuple[type[StorageError], str]]] = {
    "NoSuchKey": (StorageError, "source_missing"),
    "NoSuchVersion": (StorageError, "source_missing"),
    "404": (StorageError, "source_missing"),
    "MethodNotAllowed": (StorageError, "source_missing"),  # the key ends in a delete marker
    "InvalidObjectState": (StorageError, "source_unreadable"),  # archived in Glacier, to be restored first
    "NoSuchBucket": (StorageUnavailable, "bucket_missing"),
    "InvalidBucketName": (StorageUnavailable, "bucket_missing"),
    "AccessDenied": (StorageUnavailable, "access_denied"),
    "AllAccessDisabled": (StorageUnavailable, "access_denied"),
    "AccountProblem": (StorageUnavailable, "access_denied"),
    "ExpiredToken": (StorageUnavailable, "access_denied"),
    "InvalidAccessKeyId": (StorageUnavailable, "access_denied"),
    "InvalidToken": (StorageUnavailable, "access_denied"),
    "SignatureDoesNotMatch": (StorageUnavailable, "access_denied"),
    "KMS.DisabledException": (StorageUnavailable, "access_denied"),
    "KMS.NotFoundException": (StorageUnavailable, "access_denied"),
    "403": (StorageUnavailable, "access_denied"),
}

_CREDENTIALS: Final = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.TokenRetrievalError,
)

BOTO_ERRORS: Final = (
    botocore.exceptions.ClientError,
    botocore.exceptions.BotoCoreError,
    boto3.exceptions.Boto3Error,
)


def storage_error(error: Exception, target: str) -> StorageError:
    """Translate a boto error met while using `target` (an `s3://` URI, for the message).

    What the table does not know (throttling, 5xx, timeouts, refused connections, broken streams, a wrong region) is
    storage being unavailable: retrying the task is right, blaming the image is not.
    """
    if isinstance(error, botocore.exceptions.ClientError):
        details = error.response.get("Error", {})
        s3_code = str(details.get("Code", ""))
        kind, code = _BY_S3_CODE.get(s3_code, (StorageUnavailable, "storage_unavailable"))
        return kind(code, f"{target}: {s3_code}: {details.get('Message', '')}")
    if isinstance(error, _CREDENTIALS):
        return StorageUnavailable("access_denied", f"{target}: {error}")
    return StorageUnavailable("storage_unavailable", f"{target}: {error}")
