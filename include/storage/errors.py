"""What can go wrong where bytes live, and whose fault it is.

`SourceError` is the image's own failure: it becomes an outcome on that image's row. `StorageUnavailable` is the
deployment's: no image can be blamed for it, so it fails the task, which Airflow retries.
"""

from __future__ import annotations

from typing import Final

import boto3.exceptions
import botocore.exceptions


class StorageError(Exception):
    """Bytes cannot be read or stored. Every instance is one of the two below."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[Exception], tuple[str, str]]:
        # An exception with two arguments must say so, or it cannot come back from a worker process.
        return (type(self), (self.code, str(self)))


class SourceError(StorageError):
    """One image cannot be read. `code` is stable: source_missing, source_unreadable, source_too_large,
    source_not_a_file, source_access_denied or unsupported_uri.

    `transient`: a later run may try again, because the reason lies in permissions that somebody can mend.
    """

    @property
    def transient(self) -> bool:
        """Whether a later run may try this image again by itself."""
        return self.code in ("source_unreadable", "source_access_denied")


class StorageUnavailable(StorageError):
    """Storage itself fails. `code` is stable: storage_unavailable, access_denied or bucket_missing."""


# S3 error code -> (exception, our code). The codes are those of "Error responses" in the S3 API reference. HEAD
# has no body, so botocore gives the bare status as its code.
_BY_S3_CODE: Final[dict[str, tuple[type[StorageError], str]]] = {
    "NoSuchKey": (SourceError, "source_missing"),
    "NoSuchVersion": (SourceError, "source_missing"),
    "404": (SourceError, "source_missing"),
    "MethodNotAllowed": (SourceError, "source_missing"),  # the key ends in a delete marker
    "InvalidObjectState": (SourceError, "source_unreadable"),  # archived in Glacier, to be restored first
    "NoSuchBucket": (StorageUnavailable, "bucket_missing"),
    "InvalidBucketName": (StorageUnavailable, "bucket_missing"),
    "AccessDenied": (StorageUnavailable, "access_denied"),
    "AllAccessDisabled": (StorageUnavailable, "access_denied"),
    "AccountProblem": (StorageUnavailable, "access_denied"),
    "ExpiredToken": (StorageUnavailable, "access_denied"),
    "InvalidAccessKeyId": (StorageUnavailable, "access_denied"),
    "InvalidSecurity": (StorageUnavailable, "access_denied"),
    "InvalidToken": (StorageUnavailable, "access_denied"),
    "NotSignedUp": (StorageUnavailable, "access_denied"),
    "RequestTimeTooSkewed": (StorageUnavailable, "access_denied"),  # this machine's clock is wrong
    "SignatureDoesNotMatch": (StorageUnavailable, "access_denied"),
    "TokenRefreshRequired": (StorageUnavailable, "access_denied"),
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


# What the object alone may be to blame for when an original is read: a row that names a bucket that is gone, or an
# object that its owner closed, must not stop the other images of its batch.
_SOURCE_ALONE: Final = {
    "NoSuchBucket": "source_missing",
    "InvalidBucketName": "source_missing",
    "AccessDenied": "source_access_denied",
    "403": "source_access_denied",
    "KMS.DisabledException": "source_access_denied",
    "KMS.NotFoundException": "source_access_denied",
}
_REFUSALS: Final = range(400, 429)  # the request was understood and refused; 429 and above come and go


def source_error(error: Exception, target: str) -> StorageError:
    """Translate a boto error met while reading an original."""
    if isinstance(error, botocore.exceptions.ParamValidationError):
        return SourceError("unsupported_uri", f"{target}: {error}")
    if isinstance(error, botocore.exceptions.FlexibleChecksumError):  # again and again: the object itself is spoilt
        return SourceError("source_unreadable", f"{target}: {error}")
    known = storage_error(error, target)
    if isinstance(error, botocore.exceptions.ClientError):
        s3_code = str(error.response.get("Error", {}).get("Code", ""))
        if s3_code in _SOURCE_ALONE:
            return SourceError(_SOURCE_ALONE[s3_code], str(known))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if known.code == "storage_unavailable" and status in _REFUSALS:
            return SourceError("source_unreadable", str(known))  # an object under a customer's own key, for example
    return known
