"""Put files into S3: a key names one content, and what is large and there already is not sent again."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
from boto3.s3.transfer import TransferConfig

from include.storage.errors import BOTO_ERRORS, SourceError, StorageUnavailable, storage_error
from include.storage.rules import NO_RULES, ObjectRules
from include.storage.small_objects import SMALL_BYTES, SmallObjects

STEM_LENGTH: Final = 80
EXTENSIONS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}  # by format
_VERSION_LENGTH: Final = 12
_DELETED_AT_ONCE: Final = 1000  # the limit of DeleteObjects
_ASK_FROM_BYTES: Final = 1 << 20  # below it, to ask whether an object is there costs as much as to send it
_MULTIPART_BYTES: Final = 64 << 20  # a 2 GB original is 32 parts, and a failed part repeats 64 MB, not 2 GB


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it stands in S3. `uploaded` is False when the same content was there already."""

    uri: str
    bucket: str
    key: str
    size_bytes: int
    sha256: str  # hexadecimal
    uploaded: bool


def upload_object(
    client: Any,
    path: Path,
    bucket: str,
    key: str,
    *,
    content_type: str,
    source_id: int | str,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    rules: ObjectRules = NO_RULES,
    small: SmallObjects | None = None,
    ask_from_bytes: int = _ASK_FROM_BYTES,
    multipart_bytes: int = _MULTIPART_BYTES,
) -> StoredObject:
    """Store `path` at `bucket`/`key`; from `ask_from_bytes` on only if the same bytes are not there already.

    The server is given our SHA-256 and refuses anything else (above `multipart_bytes` each part carries its own).
    The object's metadata hold `source-id`, `sha256` and `metadata` (ASCII values). `extra` goes into the request as
    it is (`StorageClass` and its like); `rules` say how it is encrypted and tagged, and whose the bucket must be.
    What `small` can take (the bucket and rules are its own then) goes that way.

    Raises `SourceError` when `path` cannot be read, `StorageUnavailable` when S3 does not take it.
    """
    uri = f"s3://{bucket}/{key}"
    try:
        digest, size = _sha256(path)
        labels = {**(metadata or {}), "source-id": str(source_id), "sha256": digest.hex()}
        if size >= ask_from_bytes and _is_stored(client, bucket, key, digest.hex(), size, rules):
            return StoredObject(uri, bucket, key, size, digest.hex(), uploaded=False)
        arguments = {**(extra or {}), **rules.upload(), "ContentType": content_type, "Metadata": labels}
        if size > multipart_bytes:
            _upload_in_parts(client, path, bucket, key, arguments, multipart_bytes)
        elif size > SMALL_BYTES:
            with path.open("rb") as opened:
                _put(client, bucket, key, opened, digest, arguments)
        else:
            body = path.read_bytes()
            if extra or small is None or not small.put(key, body, content_type=content_type, metadata=labels):
                # Of a file, and of `bytes` too, botocore asks the server first whether it may send it.
                _put(client, bucket, key, bytearray(body), digest, arguments)
    except BOTO_ERRORS as error:
        raise storage_error(error, uri) from error
    except FileNotFoundError as error:
        raise SourceError("source_missing", f"no such file: {path}") from error
    except OSError as error:
        raise SourceError("source_unreadable", f"cannot be read: {path}: {error.strerror}") from error
    return StoredObject(uri, bucket, key, size, digest.hex(), uploaded=True)


def _put(client: Any, bucket: str, key: str, body: Any, digest: bytes, arguments: Mapping[str, Any]) -> None:
    checksum = base64.b64encode(digest).decode()
    client.put_object(Bucket=bucket, Key=key, Body=body, ChecksumSHA256=checksum, **arguments)


def _upload_in_parts(
    client: Any, path: Path, bucket: str, key: str, arguments: Mapping[str, Any], part_bytes: int
) -> None:
    config = TransferConfig(multipart_threshold=part_bytes, multipart_chunksize=part_bytes)
    with path.open("rb") as opened:
        # upload_fileobj, not upload_file: the latter hides the error's code in a text
        client.upload_fileobj(
            opened, bucket, key, ExtraArgs={**arguments, "ChecksumAlgorithm": "SHA256"}, Config=config
        )


def _sha256(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
        return digest, opened.tell()


def is_missing(client: Any, uri: str) -> bool:
    """Whether S3 says that there is no object at ``uri``; False where it does not say (no permission, no answer)."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        client.head_object(Bucket=bucket, Key=key)
    except BOTO_ERRORS as error:
        response = getattr(error, "response", {})
        return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404)  # noqa: PLR2004
    return False


def delete_objects(client: Any, bucket: str, keys: Sequence[str]) -> int:
    """Delete objects; returns how many were. One that is gone already counts. Raises `StorageUnavailable`."""
    deleted = 0
    for start in range(0, len(keys), _DELETED_AT_ONCE):
        some = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
        try:
            reply = client.delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
        except BOTO_ERRORS as error:
            raise storage_error(error, f"s3://{bucket}") from error
        if errors := reply.get("Errors"):
            raise StorageUnavailable(
                "access_denied" if errors[0].get("Code") == "AccessDenied" else "storage_unavailable",
                f"s3://{bucket}/{errors[0].get('Key')} is not deleted: {errors[0].get('Message')}",
            )
        deleted += len(some)
    return deleted


def write_and_read_back(client: Any, bucket: str, key: str, body: bytes) -> bool:
    """Store an object, read it, compare, delete it; return whether it could be deleted. Raises `StorageUnavailable`."""
    uri = f"s3://{bucket}/{key}"
    try:
        client.put_object(Bucket=bucket, Key=key, Body=body)
        found = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except BOTO_ERRORS as error:
        raise storage_error(error, uri) from error
    if found != body:
        raise StorageUnavailable("storage_unavailable", f"{uri}: other bytes came back than were written")
    try:
        client.delete_object(Bucket=bucket, Key=key)
    except BOTO_ERRORS:
        return False
    return True


def require_bucket(client: Any, bucket: str) -> None:
    """Raise `StorageUnavailable` when there is no such bucket, no credentials or no answer.

    A refusal (403) is none of these: who may write objects need not be allowed to ask about their bucket.
    """
    try:
        client.head_bucket(Bucket=bucket)
    except BOTO_ERRORS as error:
        response = getattr(error, "response", {})
        if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403:  # noqa: PLR2004
            return
        found = storage_error(error, f"s3://{bucket}")
        if found.code == "source_missing":  # a HEAD has no body, and so no name for what is missing
            found = StorageUnavailable("bucket_missing", f"there is no bucket {bucket}: create it, or set another")
        raise found from error


def _is_stored(client: Any, bucket: str, key: str, sha256: str, size: int, rules: ObjectRules) -> bool:
    try:
        found = client.head_object(Bucket=bucket, Key=key, **rules.request())
    except botocore.exceptions.ClientError as error:
        # 403 is what AWS answers for a missing key to a caller who may not list. The upload that follows is refused
        # with its own, clearer error if there is nothing here to write to.
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (403, 404):
            return False
        raise
    same = found["ContentLength"] == size and found["Metadata"].get("sha256") == sha256
    return bool(same and rules.met_by(found))


def object_key(
    prefix: str,
    *,
    recipe_version: str,
    content_version: str,
    original_stem: str,
    source_file_id: int,
    extension: str,
) -> str:
    """`{prefix}/{recipe}-{content}/{stem}_{source_file_id}_nova.{extension}`, ASCII throughout.

    Recipe and content take 12 characters each and change whenever what is stored does, so that no reader ever has an
    object replaced under it. Raises `ValueError` for an extension that is not letters and digits.
    """
    suffix = extension.removeprefix(".").lower()
    if not re.fullmatch(r"[a-z0-9]{1,8}", suffix):
        raise ValueError(f"not a file extension: {extension!r}")
    version = f"{_short_recipe(recipe_version)}-{_short_hash(content_version)}"
    name = f"{clean_stem(original_stem)}_{int(source_file_id)}_nova.{suffix}"
    return "/".join(part for part in (prefix.strip("/"), version, name) if part)


def preview_key(
    prefix: str, *, content_version: str, longest_side: int, original_stem: str, source_file_id: int, extension: str
) -> str:
    """`{prefix}/{pixels}-{content}/{stem}_{source_file_id}_preview.{extension}`, by the rules of `object_key`."""
    folder = f"{int(longest_side)}-{_short_hash(content_version)}"
    name = f"{clean_stem(original_stem)}_{int(source_file_id)}_preview.{extension}"
    return "/".join(part for part in (prefix.strip("/"), folder, name) if part)


def clean_stem(stem: str) -> str:
    """`stem` as ASCII letters, digits, `-`, `_` and inner dots: 1 to 80 characters, whatever it was before."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    dashed = re.sub(r"[^A-Za-z0-9_.]+", "-", plain)
    single = re.sub(r"\.{2,}", ".", dashed)
    return single[:STEM_LENGTH].strip("-.") or "image"


def _short_recipe(version: str) -> str:
    # A recipe version that is a hash already keeps its own beginning, so that a person can find it again.
    return version[:_VERSION_LENGTH] if re.fullmatch(r"[0-9a-f]{12,}", version) else _short_hash(version)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_VERSION_LENGTH]
