"""What lies in a source (an S3 prefix or a folder), and the first bytes of each file. Whole files are never read here.

S3 lists by key, not by time, so a listing always walks every key: 1,000 a request. What knowing the time saves is all
that would follow for each key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import botocore.exceptions

from include.storage.errors import BOTO_ERRORS, SourceError, source_error, storage_error
from include.storage.folders import list_files, utc
from include.storage.sources import etag_version, file_path, split_s3_uri

_NOT_SATISFIABLE: Final = 416  # an object without bytes has no first byte
_HIDDEN: Final = "."


class InvalidSource(ValueError):
    """A source is neither an S3 prefix nor an absolute folder; the message says what to type."""

    code = "invalid_source"


@dataclass(frozen=True, slots=True)
class Source:
    """An S3 prefix (`bucket` is set, `prefix` may be empty), or a folder."""

    name: str  # normalised: s3://bucket/prefix or file:///folder
    bucket: str | None = None
    prefix: str = ""
    folder: Path | None = None

    def holds(self, bucket: str, key: str) -> bool:
        """Whether an object lies in this source."""
        return bucket == self.bucket and key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that a listing named."""

    uri: str
    filename: str
    size_bytes: int
    changed_at: datetime  # S3: LastModified; a folder: the later of modified and moved in (ctime)
    version: str  # the content version that an unchanged file keeps: etag:… or stat:…


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of a file, with the size and version that it had when they were read."""

    data: bytes
    size_bytes: int
    version: str
    modified_at: datetime | None  # S3's own clock, None for a folder's file


def parse_source(text: str) -> Source:
    """`s3://bucket/prefix`, `/folder`, or `file:///folder` (percent-encoded, as a source's name is) as a source.

    Raises `InvalidSource`.
    """
    wanted = "type s3://bucket/prefix or an absolute folder such as /mnt/pictures"
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        try:
            split_s3_uri(f"s3://{bucket}/{prefix or 'any'}")
        except SourceError as error:
            raise InvalidSource(f"{text!r}: {error}; {wanted}") from error
        return Source(f"s3://{bucket}/{prefix}", bucket=bucket, prefix=prefix)
    folder = _folder(text)
    if folder is None or not folder.is_absolute() or "\0" in text:
        raise InvalidSource(f"{text!r} is no source: {wanted}")
    return Source(folder.as_uri(), folder=folder)


def _folder(text: str) -> Path | None:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    try:
        return file_path(text, rest) if scheme == "file" else None
    except SourceError:
        return None


def list_prefix(client: Any, bucket: str, prefix: str) -> Iterator[tuple[datetime, list[Listed]]]:
    """Every page of a listing, each with the server's own time. Raises `StorageUnavailable`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        for page in pages:
            found = [
                Listed(
                    f"s3://{bucket}/{item['Key']}",
                    item["Key"].rpartition("/")[2],
                    item["Size"],
                    item["LastModified"].astimezone(UTC),
                    etag_version(item["ETag"]),
                )
                for item in page.get("Contents", [])
            ]
            yield _server_time(page), found
    except BOTO_ERRORS as error:
        raise storage_error(error, f"s3://{bucket}/{prefix}") from error


def list_folder(folder: Path, page: int = 1000) -> Iterator[tuple[datetime, list[Listed]]]:
    """The same for a folder. A file that is moved in keeps its time of modification, so ctime counts too.

    Raises `SourceError` when the folder itself cannot be listed.
    """
    now = datetime.now(UTC)
    found: list[Listed] = []
    for path, status in list_files(folder):
        changed = max(utc(status.st_mtime), utc(status.st_ctime))
        name = os.fsencode(path.name).decode("utf-8", "replace")
        found.append(Listed(path.as_uri(), name, status.st_size, changed, _stat_version(status)))
        if len(found) == page:
            yield now, found
            found = []
    yield now, found


def read_object_head(client: Any, uri: str, count: int) -> Head:
    """The first `count` bytes of an object by a range request. Raises `SourceError` or `StorageUnavailable`."""
    bucket, key = split_s3_uri(uri)
    try:
        reply = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{count - 1}")
        body = reply["Body"]
        try:
            data = body.read(count)  # a server that knows no ranges answers with everything: the rest is not read
        finally:
            body.close()
    except botocore.exceptions.ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _NOT_SATISFIABLE:
            return _empty_object(client, bucket, key)
        raise source_error(error, uri) from error
    except BOTO_ERRORS as error:
        raise source_error(error, uri) from error
    total = str(reply.get("ContentRange", "")).rpartition("/")[2]
    size = int(total) if total.isdigit() else int(reply["ContentLength"])
    return Head(data, size, etag_version(reply["ETag"]), reply["LastModified"].astimezone(UTC))


def read_file_head(path: Path, count: int) -> Head:
    """The first `count` bytes of a file. Raises `SourceError`."""
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            return Head(opened.read(count), status.st_size, _stat_version(status), None)
    except FileNotFoundError as error:
        raise SourceError("source_missing", f"no such file: {path}") from error
    except OSError as error:
        raise SourceError("source_unreadable", f"cannot be read: {path}: {error.strerror}") from error


def is_hidden(key: str) -> bool:
    """Whether a key names what people do not put there: `.DS_Store`, `.thumbnails/…`, `._resource-fork`."""
    return any(part.startswith(_HIDDEN) for part in key.split("/"))


def _empty_object(client: Any, bucket: str, key: str) -> Head:
    try:
        found = client.head_object(Bucket=bucket, Key=key)
    except BOTO_ERRORS as error:
        raise source_error(error, f"s3://{bucket}/{key}") from error
    return Head(b"", found["ContentLength"], etag_version(found["ETag"]), found["LastModified"].astimezone(UTC))


def _stat_version(status: os.stat_result) -> str:
    return f"stat:{status.st_size}-{status.st_mtime_ns}"


def _server_time(page: Any) -> datetime:
    """When the server answered, by its own clock, which is the one that stamps objects."""
    stated = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(stated).astimezone(UTC)
    except (TypeError, ValueError):
        return datetime.now(UTC)
