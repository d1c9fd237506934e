"""Where results go: a local folder or a folder in S3. A file appears there whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from boto3.s3.transfer import TransferConfig

from include.storage.errors import BOTO_ERRORS, SourceError, StorageUnavailable, storage_error
from include.storage.rules import NO_RULES, ObjectRules
from include.storage.sources import file_path

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART_BYTES: Final = 16 << 20  # of 10,000 parts that S3 allows: files up to 160 GB
_NEW_FILE_MODE: Final = 0o666


class UnusableDestination(ValueError):
    """The address is no folder that results can be written to; the message says what is."""

    code = "unusable_destination"


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder. Exactly one of `folder` and `bucket` is set; `prefix` is "" or ends in a slash."""

    folder: Path | None
    bucket: str | None
    prefix: str

    def uri(self, name: str) -> str:
        """The address of the file `name` in it."""
        if self.folder is not None:
            return (self.folder / name).as_uri()
        return f"s3://{self.bucket}/{self.prefix}{name}"


def parse_destination(address: str) -> Destination:
    """`s3://bucket/some/folder`, `file:///folder` or a plain path. Raises `UnusableDestination`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        if not address.strip():
            raise UnusableDestination("an empty address: name a folder, or s3://bucket/folder")
        return Destination(Path(address).expanduser().absolute(), None, "")
    if scheme.lower() == "file":
        try:
            return Destination(file_path(address, rest), None, "")
        except SourceError as error:
            raise UnusableDestination(str(error)) from error
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not _BUCKET.fullmatch(bucket):
        raise UnusableDestination(f"{address!r} is neither a folder nor s3://bucket/folder")
    prefix = "/".join(part for part in key.split("/") if part)
    return Destination(None, bucket, f"{prefix}/" if prefix else "")


@contextmanager
def whole_file(
    destination: Destination,
    name: str,
    s3: Any | None,
    *,
    content_type: str,
    rules: ObjectRules = NO_RULES,
    scratch: Path | None = None,
) -> Iterator[Path]:
    """A local path to write to; when the block ends well the file stands at the destination as `name`, complete.

    A folder gets it by a rename within the folder. S3 gets it by one upload (in parts when it is large), which is not
    visible before its end; it is written in `scratch` first. A block that fails leaves nothing, and what stood there
    under the same name stays. Raises `StorageUnavailable`, and `ValueError` for a name that is not plain.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a plain file name: {name!r}")
    target = destination.folder
    try:
        if target is not None:
            target.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=target or scratch)
    except OSError as error:
        where = target or scratch or tempfile.gettempdir()
        raise StorageUnavailable("storage_unavailable", f"cannot write in {where}: {error.strerror}") from error
    os.close(handle)
    path = Path(temporary)
    try:
        yield path
        if target is not None:
            _move(path, target / name)
        else:
            _upload(s3, path, destination, name, {**rules.upload(), "ContentType": content_type})
    finally:
        path.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    """Onto the disk before under its name: after a power cut there is the old file or the new one."""
    try:
        with path.open("rb+") as opened:
            os.fsync(opened.fileno())
        path.chmod(_NEW_FILE_MODE & ~_umask())  # mkstemp's are for their owner alone
        path.replace(target)
    except OSError as error:
        raise StorageUnavailable("storage_unavailable", f"cannot write {target}: {error.strerror}") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _upload(s3: Any, path: Path, destination: Destination, name: str, arguments: dict[str, Any]) -> None:
    uri = destination.uri(name)
    if s3 is None:
        raise ValueError(f"{uri} needs an S3 client")
    config = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=2)
    extra = {**arguments, "ChecksumAlgorithm": "SHA256"}
    try:
        with path.open("rb") as body:
            s3.upload_fileobj(body, destination.bucket, destination.prefix + name, ExtraArgs=extra, Config=config)
    except BOTO_ERRORS as error:
        raise storage_error(error, uri) from error
