"""Copies of a picture at several sizes, in a temporary folder of the bucket: what an evaluation shows to Nova.

The original is copied too, at full size: without metadata (its pixels untouched where Nova takes its format), converted
where Nova does not, made smaller only where a side is over 8000 px. So no GPS position leaves by way of an evaluation,
and every copy is read from the same bucket, which is what makes latency comparable.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.catalog.records import SourceImage
from include.imaging import DecodeWorkers, ProxyError, ProxyOptions
from include.imaging.recipe import NOVA_MAX_SIDE
from include.pipeline.evaluation_params import AUTO, ORIGINAL, EvaluationParams
from include.pipeline.settings import Settings
from include.storage.errors import BOTO_ERRORS, SourceError, storage_error
from include.storage.objects import EXTENSIONS, upload_object
from include.storage.sources import LocalSource, fetch_source

log = logging.getLogger(__name__)

# Of an image read by S3 URI: https://docs.aws.amazon.com/nova/latest/nova2-userguide/using-multimodal-models.html
MAX_IMAGE_BYTES = 2 * 1000**3
ORIGINAL_QUALITY = 95  # of an original that has to be converted to JPEG: as little loss as a JPEG sensibly has
TOO_LARGE = "too_large_for_nova"
_LISTED_AT_ONCE = 1000  # the most that S3 lists, and deletes, in one request


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy in the bucket, and what it took. Sizes are bytes, times seconds."""

    uri: str
    format: str
    width: int
    height: int
    image_bytes: int
    original_bytes: int
    prepare_seconds: float
    upload_seconds: float


@dataclass(frozen=True, slots=True)
class CopyMaker:
    """Makes copies with decode workers; ``source_s3`` reads originals, ``s3`` writes copies."""

    s3: Any
    source_s3: Any
    settings: Settings
    params: EvaluationParams
    workers: DecodeWorkers
    scratch: Path

    def make(self, image: SourceImage, folder: str) -> dict[str, Copy] | str:
        """Return a copy by size, or the code of why there can be none.

        Raises `StorageUnavailable` when the bucket or the disk fails.
        """
        try:
            source = fetch_source(image.uri, self.scratch, self.source_s3, max_bytes=self.settings.max_source_bytes)
        except SourceError as error:
            log.warning("picture %s: %s: %s", image.file_id, error.code, error)
            return error.code
        try:
            return {size: self._copy(image, source, folder, size) for size in self.params.detail}
        except (ProxyError, SourceError) as error:
            log.warning("picture %s: %s: %s", image.file_id, error.code, error)
            return error.code
        finally:
            if source.temporary:
                source.path.unlink(missing_ok=True)

    def _copy(self, image: SourceImage, source: LocalSource, folder: str, size: str) -> Copy:
        path = self.scratch / f"{image.file_id}-{size}.copy"
        try:
            made = self.workers.create_proxy(source.path, path, self._options(size))
            if made.proxy_size_bytes > MAX_IMAGE_BYTES:
                raise SourceError(TOO_LARGE, f"{made.proxy_size_bytes} bytes are more than Nova reads")
            started = time.perf_counter()
            stored = upload_object(
                self.s3,
                path,
                self.settings.required_bucket,
                f"{folder}{image.file_id}-{size}.{EXTENSIONS[made.format]}",
                content_type=made.media_type,
                source_id=image.file_id,
                rules=self.settings.object_rules,
            )
            seconds = time.perf_counter() - started
        finally:
            path.unlink(missing_ok=True)
        width, height = made.proxy_dimensions
        return Copy(stored.uri, made.format, width, height, stored.size_bytes, source.size_bytes, made.seconds, seconds)

    def _options(self, size: str) -> ProxyOptions:
        if size == ORIGINAL:
            return ProxyOptions(target_short_side=NOVA_MAX_SIDE, quality=ORIGINAL_QUALITY)
        params = self.params
        common = {"quality": params.quality, "graphics_format": params.graphics_format}
        if size == AUTO:
            return ProxyOptions(detail="auto", **common)  # type: ignore[arg-type]
        return ProxyOptions(target_short_side=int(size), **common)  # type: ignore[arg-type]


def evaluation_folder(settings: Settings, run_id: str) -> str:
    """Return the key prefix of one evaluation's copies, ending in a slash."""
    return f"{settings.evaluation_prefix.strip('/')}/{hashlib.sha256(run_id.encode()).hexdigest()[:16]}/"


def remove_folder(s3: Any, settings: Settings, folder: str) -> int:
    """Remove every object below ``folder``; return how many there were. Raises `StorageUnavailable`."""
    bucket, request = settings.required_bucket, settings.object_rules.request()
    removed = 0
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder, **request)
        for page in pages:
            keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
            for start in range(0, len(keys), _LISTED_AT_ONCE):
                some = keys[start : start + _LISTED_AT_ONCE]
                s3.delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True}, **request)
                removed += len(some)
    except BOTO_ERRORS as error:
        raise storage_error(error, f"s3://{bucket}/{folder}") from error
    return removed
