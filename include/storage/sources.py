"""Bring one original within reach of the decoder: in place from a folder, as a temporary file from S3."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import unquote_to_bytes

import botocore.exceptions

from include.storage.errors import BOTO_ERRORS, SourceError, StorageUnavailable, source_error

_CHUNK: Final = 1 << 20
_ATTEMPTS: Final = 3
# botocore repeats a request by itself, but not the reading of a body that breaks off half way, or arrives garbled.
_BROKEN_BODY: Final = (
    botocore.exceptions.FlexibleChecksumError,  # other bytes than the server has a checksum of
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.ResponseStreamingError,
)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]|arn:aws[a-z-]*:s3.*")
_KEY_BYTES: Final = 1024  # the limit of S3


@dataclass(frozen=True, slots=True)
class LocalSource:
    """An original on this machine's disk. `temporary`: made for the caller, who deletes it; never write to another.

    `version` is the content version of what S3 gave (`etag:…`); None for a file, and where the server names none.
    """

    path: Path
    size_bytes: int
    temporary: bool
    version: str | None = None


def fetch_source(
    uri: str, destination_dir: Path, s3_client: Any | None = None, max_bytes: int | None = None
) -> LocalSource:
    """Make `uri` (`file:///…` percent-encoded, or `s3://bucket/key` with the key as it is) a local file.

    A `file://` source is used where it lies. An `s3://` source is streamed into `destination_dir`, its announced size
    checked against `max_bytes` before the first byte of the body and against what arrived after the last.

    Raises `SourceError` when this image cannot be had, `StorageUnavailable` when storage or the local disk fails, and
    `ValueError` when an `s3://` source is asked for without a client.
    """
    scheme, separator, rest = uri.partition("://")
    match scheme.lower() if separator else "":
        case "file":
            return _local(file_path(uri, rest), max_bytes)
        case "s3":
            if s3_client is None:
                raise ValueError("an s3:// source needs an S3 client")
            bucket, key = split_s3_uri(uri)
            return _download(s3_client, bucket, key, destination_dir, max_bytes)
    raise SourceError("unsupported_uri", f"only file:// and s3:// sources are read, not {uri!r}")


def split_s3_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` as (bucket, key). Raises `SourceError` (unsupported_uri) when it is not one."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not _BUCKET.fullmatch(bucket):
        raise SourceError("unsupported_uri", f"not an S3 address: {uri!r}")
    if not key or len(key.encode(errors="surrogatepass")) > _KEY_BYTES:
        raise SourceError("unsupported_uri", f"the key of an S3 address has 1 to {_KEY_BYTES} bytes: {uri[:200]!r}")
    return bucket, key


def file_path(uri: str, rest: str) -> Path:
    """The path in a `file://` address, of which `rest` is what follows the slashes. Raises `SourceError`."""
    # Not urlsplit: hand-written addresses carry bare `#` and `?` in file names, which it would cut off.
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise SourceError("unsupported_uri", f"a file address names no other host and a full path: {uri!r}")
    raw = unquote_to_bytes(slash + path)
    if b"\0" in raw:
        raise SourceError("unsupported_uri", f"a file name cannot hold a NUL byte: {uri!r}")
    return Path(os.fsdecode(raw))


def _local(path: Path, max_bytes: int | None) -> LocalSource:
    try:
        # The kind is asked for first: opening a named pipe would wait for a writer forever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError("source_not_a_file", f"not a regular file: {path}")
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError("source_missing", f"no such file: {path}") from error
    except OSError as error:
        raise SourceError("source_unreadable", f"cannot be read: {path}: {error.strerror}") from error
    _check_size(str(path), size, max_bytes)
    return LocalSource(path, size, temporary=False)


def _check_size(name: str, size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise SourceError("source_too_large", f"{name} has {size} bytes, the limit is {max_bytes}")


def _download(client: Any, bucket: str, key: str, destination_dir: Path, max_bytes: int | None) -> LocalSource:
    uri = f"s3://{bucket}/{key}"
    attempt = 1
    while True:
        try:
            with _temporary_file(destination_dir, key) as (path, opened):
                size, version = _stream(client, bucket, key, opened, max_bytes)
            return LocalSource(path, size, temporary=True, version=version)
        except BOTO_ERRORS as error:
            if not isinstance(error, _BROKEN_BODY) or attempt == _ATTEMPTS:
                raise source_error(error, uri) from error
            attempt += 1
        except OSError as error:
            raise StorageUnavailable("storage_unavailable", f"cannot write below {destination_dir}: {error}") from error


def _stream(client: Any, bucket: str, key: str, opened: BinaryIO, max_bytes: int | None) -> tuple[int, str | None]:
    reply = client.get_object(Bucket=bucket, Key=key)
    body, announced = reply["Body"], int(reply["ContentLength"])
    try:
        _check_size(f"s3://{bucket}/{key}", announced, max_bytes)
        written = 0
        while chunk := body.read(_CHUNK):  # raises when the body ends before what was announced
            written += opened.write(chunk)
    finally:
        body.close()
    return written, etag_version(reply["ETag"]) if "ETag" in reply else None


def etag_version(quoted: str) -> str:
    """The content version of an object with this ETag, as S3 writes it."""
    return f"etag:{quoted.strip(chr(34))}"


@contextmanager
def _temporary_file(directory: Path, key: str) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file that stays if the block succeeds and is gone if it does not."""
    suffix = PurePosixPath(key).suffix
    safe = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
    handle, name = tempfile.mkstemp(prefix="source-", suffix=safe, dir=directory)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as opened:
            yield path, opened
    except BaseException:
        path.unlink(missing_ok=True)
        raise
