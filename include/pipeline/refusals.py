"""What only a person can mend: the task fails at once, and its message names the permission, setting or command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

STORAGE_ADVICE = {
    "access_denied": "S3 refuses the caller: it needs s3:GetObject and s3:PutObject on the bucket's objects, "
    "s3:ListBucket on the bucket, and kms:GenerateDataKey and kms:Decrypt where a KMS key is used.",
    "bucket_missing": "There is no such bucket: check IMAGE_PROXY_BUCKET and the region of the AWS connection.",
}


class NeedsAPerson(Exception):
    """No retry can help. Base of the pipeline's own errors of this kind, and what those of the rooms are told as."""

    code = "needs_a_person"


@contextmanager
def told_to_a_person() -> Iterator[None]:
    """Raise errors of the rooms that no retry can mend as `NeedsAPerson`; all others pass as they are."""
    try:
        yield
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        raise NeedsAPerson(told) from error


def _told(error: Exception) -> str | None:
    """Return what a person is told; None of an error that a retry may mend."""
    # Here, because they import boto3: a task that only asks the catalog would pay for it, and has none of these errors.
    from include.catalog.errors import NotMigrated, UnsuitableDatabase
    from include.nova.errors import Disposition, NovaError
    from include.storage.errors import StorageUnavailable

    if isinstance(error, NotMigrated | UnsuitableDatabase):
        return f"{error.code}: {error}"
    if isinstance(error, NovaError) and error.disposition is Disposition.FATAL:
        return str(error)
    if isinstance(error, StorageUnavailable) and error.code in STORAGE_ADVICE:
        return f"{error.code}: {STORAGE_ADVICE[error.code]} S3 said: {error}"
    return None
