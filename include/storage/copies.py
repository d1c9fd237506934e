"""Copies inside S3: the bytes never pass through here."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import Any

from include.storage.errors import BOTO_ERRORS, StorageUnavailable, source_error, storage_error

log = logging.getLogger(__name__)

_DELETED_AT_ONCE = 1000  # keys that one DeleteObjects takes
_LINE_CHUNK = 1 << 18


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def copy_object(client: Any, source_uri: str, target_uri: str, extra: dict[str, Any] | None = None) -> None:
    """Have S3 copy an object of up to 5 GB. `extra` goes into the request (`ServerSideEncryption` and its like).

    Raises `SourceError` when there is nothing at `source_uri` or another bucket does not give it, `StorageUnavailable`
    when S3 does not do it.
    """
    bucket, key = split_uri(target_uri)
    source_bucket, source_key = split_uri(source_uri)
    source = {"Bucket": source_bucket, "Key": source_key}
    try:
        client.copy_object(Bucket=bucket, Key=key, CopySource=source, **(extra or {}))
    except BOTO_ERRORS as error:
        translate = storage_error if source_bucket == bucket else source_error
        raise translate(error, f"{source_uri} to {target_uri}") from error


def keys_below(client: Any, folder_uri: str) -> Iterator[str]:
    """Keys of every object below a folder."""
    bucket, prefix = split_uri(folder_uri.rstrip("/") + "/")
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                yield str(found["Key"])
    except BOTO_ERRORS as error:
        raise storage_error(error, folder_uri) from error


def delete_folder(client: Any, folder_uri: str) -> int:
    """Delete every object below a folder; return how many. Raises `StorageUnavailable`."""
    bucket, _ = split_uri(folder_uri)
    waiting: list[str] = []
    deleted = 0
    for key in keys_below(client, folder_uri):
        waiting.append(key)
        if len(waiting) == _DELETED_AT_ONCE:
            deleted += _delete(client, bucket, waiting)
            waiting = []
    return deleted + (_delete(client, bucket, waiting) if waiting else 0)


def _delete(client: Any, bucket: str, keys: list[str]) -> int:
    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        refused = client.delete_objects(Bucket=bucket, Delete=wanted).get("Errors", [])
    except BOTO_ERRORS as error:
        raise storage_error(error, f"s3://{bucket}") from error
    if refused:
        first = refused[0]
        said = f"{len(refused)} objects were not deleted, first {first.get('Key')}: {first.get('Code')}"
        raise StorageUnavailable("storage_unavailable", said)
    return len(keys)


def read_lines(client: Any, uri: str) -> Generator[bytes, None, None]:
    """The lines of an object, one at a time, however large it is. Raises `StorageUnavailable`, also in mid-way."""
    bucket, key = split_uri(uri)
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        try:
            yield from body.iter_lines(chunk_size=_LINE_CHUNK)
        finally:
            body.close()
    except BOTO_ERRORS as error:
        raise storage_error(error, uri) from error


def read_small(client: Any, uri: str, most: int = 1 << 20) -> bytes:
    """At most the first `most` bytes of an object."""
    bucket, key = split_uri(uri)
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        try:
            return bytes(body.read(most))
        finally:
            body.close()
    except BOTO_ERRORS as error:
        raise storage_error(error, uri) from error
