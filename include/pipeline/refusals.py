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
    from include.catalog.errors import NotMigrated, UnsuitableDatabase
    from include.nova.errors import Disposition, NovaError
    from include.storage.errors import StorageUnavailable

    try:
        yield
    except (NotMigrated, UnsuitableDatabase) as error:
        raise NeedsAPerson(f"{error.code}: {error}") from error
    except NovaError as error:
        if error.disposition is not Disposition.FATAL:
            raise
        raise NeedsAPerson(str(error)) from error
    except StorageUnavailable as error:
        if error.code not in STORAGE_ADVICE:
            raise
        raise NeedsAPerson(f"{error.code}: {STORAGE_ADVICE[error.code]} S3 said: {error}") from error
