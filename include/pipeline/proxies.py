"""Stage 2: one batch of originals in, proxies on S3 and rows in the catalog out.

Follow one image: `ProxyStage.run` claims its batch, `_proxy_image` fetches the original, has a decode worker look at
it and make the proxy, decides whether the original serves as it is, and uploads what Nova will read; `ProxyRecorder`
writes its row together with those of others that are made at the same moment.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.catalog.errors import LeaseLost
from include.catalog.records import Failure, MadeProxy, NewProxy, Outcome, SourceImage, Stage, WorkItem
from include.imaging import (
    RESOURCE_CODES,
    DecodeWorkers,
    ImageInfo,
    Preview,
    PreviewRequest,
    ProxyError,
    ProxyOptions,
    ProxyResult,
    TooManyPixels,
    WorkersStopped,
)
from include.pipeline.batches import RunCancelled, skip, skip_busy, work_through
from include.pipeline.budget import PixelBudget
from include.pipeline.leases import LeaseKeeper, give_back
from include.pipeline.previews import PreviewKeeper
from include.pipeline.recording import ProxyRecorder
from include.pipeline.settings import Settings
from include.pipeline.telemetry import NO_METRICS, Metrics, tell_outcome, timed
from include.storage.errors import SourceError
from include.storage.objects import EXTENSIONS, object_key, upload_object
from include.storage.small_objects import SmallObjects
from include.storage.sources import LocalSource, fetch_source

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

# Downloads and uploads wait for the network: this many images more than decode workers are in flight to hide it.
TRANSFER_THREADS = 2
_ETAG = re.compile(r"etag:[0-9a-f]{32}(-\d+)?")  # as S3 gives it, of one upload or of parts


class NotEnoughDisk(RuntimeError):
    """The temporary folder has less free space than a batch may need; nothing was begun."""

    code = "disk_full"


class ContentChanged(RuntimeError):
    """The file holds other bytes than the catalog registered; a proxy of them must not stand under the old version."""

    code = "content_changed"


@dataclass(frozen=True, slots=True)
class Served:
    """What Nova will read for one image: a local file with its format and dimensions, and how it came about."""

    path: Path
    outcome: Outcome
    action: str
    format: str
    dimensions: tuple[int, int]
    original: ImageInfo
    reason: str | None = None
    preview: Preview | None = None
    seconds: float | None = None  # in the decode worker; None where it gave up


@dataclass(frozen=True, slots=True)
class ProxyStage:
    """Everything that making the proxies of a batch needs. ``s3`` is a boto3 S3 client that writes proxies;
    ``source_s3`` reads originals, where that is not the same one."""

    catalog: Catalog
    s3: Any
    settings: Settings
    options: ProxyOptions
    stop: threading.Event = field(default_factory=threading.Event)
    source_s3: Any = None
    metrics: Metrics = NO_METRICS

    def run(self, run_id: str, batch_id: int) -> Mapping[Outcome, int]:
        """Make the proxies of one planned batch; return how many images had which outcome.

        Raises for infrastructure only (storage away, disk full, cancelled): a bad picture is an outcome on its row.
        """
        self._check_disk()
        owner = uuid.uuid4().hex
        batch = self.catalog.claim_batch(run_id, batch_id, Stage.PROXY, owner, self.settings.lease_seconds)
        counts = Counter(skip_busy(self.catalog, run_id, batch.busy, Stage.PROXY))
        count = self.settings.workers or cores()
        with (
            LeaseKeeper(self.catalog, owner, self.settings.lease_seconds),
            tempfile.TemporaryDirectory(prefix="image-proxy-", dir=self.settings.temp_dir) as scratch,
            DecodeWorkers(count, self.settings.decode_limits) as workers,
            ProxyRecorder(self.catalog, run_id, owner, self.metrics) as recorder,
        ):
            budget = PixelBudget(self.settings.max_pixels_in_flight, count)
            small = self._small_objects()
            previews = PreviewKeeper(self.catalog, self.s3, self.settings, workers, Path(scratch), small)
            image = _OneImage(self, run_id, owner, workers, budget, Path(scratch), previews, recorder, small)
            counts.update(work_through(batch, image.decide, count + TRANSFER_THREADS, self.stop))
        counts.update(recorder.counts)
        return counts

    def _small_objects(self) -> SmallObjects | None:
        return SmallObjects.of(self.s3, self.settings.required_bucket, self.settings.object_rules)

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.settings.temp_dir).free
        if free < self.settings.min_free_bytes:
            raise NotEnoughDisk(
                f"{self.settings.temp_dir} has {free // 1024**2} MB free, a batch wants "
                f"{self.settings.min_free_bytes // 1024**2} MB: free some, or set IMAGE_PROXY_TEMP_DIR"
            )


@dataclass(frozen=True, slots=True)
class _OneImage:
    """The way of one image through the stage, from its claimed row to its outcome."""

    stage: ProxyStage
    run_id: str
    owner: str
    workers: DecodeWorkers
    budget: PixelBudget
    scratch: Path
    previews: PreviewKeeper
    recorder: ProxyRecorder
    small: SmallObjects | None

    def decide(self, item: WorkItem) -> Outcome | None:
        """Give one image its outcome, on its row; one whose lease was lost meanwhile goes back to pending. None where a
        proxy was made: the recorder gives that its outcome."""
        started, code, file_id = time.monotonic(), None, item.image.file_id
        try:
            outcome, code = self._decide(item, started)
        except LeaseLost as error:
            outcome = give_back(self.stage.catalog, self.run_id, self.owner, file_id, Stage.PROXY, error)
        if outcome is None:
            return None
        seconds = time.monotonic() - started
        tell_outcome(self.stage.metrics, self.run_id, file_id, Stage.PROXY, outcome, code=code, seconds=seconds)
        return outcome

    def _decide(self, item: WorkItem, started: float) -> tuple[Outcome | None, str | None]:
        """The outcome, and the code of the reason if it did not go well; no outcome yet where a proxy was made."""
        catalog, file_id = self.stage.catalog, item.image.file_id
        if item.proxied:
            return skip(catalog, self.run_id, self.owner, item, Stage.PROXY, "proxy_exists"), None
        try:
            made = self._make(item.image)
        except (ProxyError, SourceError) as error:
            log.warning("image %s (%s): %s: %s", file_id, item.image.uri, error.code, error)
            failure = Failure(error.code, str(error), transient=error.transient)
            attempts = self.stage.settings.max_attempts
            catalog.record_failure(self.run_id, self.owner, file_id, Stage.PROXY, failure, attempts)
            return Outcome.FAILED, error.code
        except ContentChanged as error:
            code, message = error.code, str(error)
            catalog.record_return(self.run_id, self.owner, file_id, Stage.PROXY, code=code, message=message)
            return Outcome.RETURNED, code
        except WorkersStopped as error:
            raise RunCancelled("stopped while decoding") from error
        self.recorder.add(made, started)
        return None, None

    def _make(self, image: SourceImage) -> MadeProxy:
        started = time.monotonic()
        settings = self.stage.settings
        client = self.stage.source_s3 or self.stage.s3
        with timed(self.stage.metrics, "proxy.fetch"):
            source = fetch_source(image.uri, self.scratch, client, max_bytes=settings.max_source_bytes)
        output = self.scratch / f"{image.file_id}.proxy"
        wanted = self.previews.request(image)
        try:
            with timed(self.stage.metrics, "proxy.check"):
                _check_content(image, source, own_table=settings.table_mapping is None)
            ready = time.monotonic()
            served = self._serve_in_turn(image, source, output, wanted)
            self._tell_resize(served, time.monotonic() - ready)
            with timed(self.stage.metrics, "proxy.upload"):
                uri, uploaded, sha256 = self._store(image, served)
            proxy = NewProxy(
                outcome=served.outcome,
                action=served.action,
                uri=uri,
                format=served.format,
                width=served.dimensions[0],
                height=served.dimensions[1],
                original_width=served.original.width,
                original_height=served.original.height,
                original_bytes=source.size_bytes,
                proxy_bytes=served.path.stat().st_size,
                bytes_uploaded=uploaded,
                seconds=time.monotonic() - started,
                sha256=sha256,
                reason=served.reason,
            )
            with timed(self.stage.metrics, "proxy.preview"):
                return MadeProxy(image.file_id, proxy, self.previews.store(image, served.preview, wanted))
        except ProxyError as error:
            if error.code in RESOURCE_CODES:  # too much for a proxy may be little for a preview
                self.previews.keep_alone(image, source, wanted)
            raise
        finally:
            output.unlink(missing_ok=True)
            if wanted is not None:
                Path(wanted.output).unlink(missing_ok=True)
            if source.temporary:
                source.path.unlink(missing_ok=True)

    def _tell_resize(self, served: Served, elapsed: float) -> None:
        """What the decode worker took, and apart from it how long the image waited for one and for its pixels' turn."""
        seconds = elapsed if served.seconds is None else served.seconds
        self.stage.metrics.timing("proxy.resize", seconds)
        self.stage.metrics.timing("proxy.wait", elapsed - seconds)

    def _serve_in_turn(
        self, image: SourceImage, source: LocalSource, output: Path, wanted: PreviewRequest | None
    ) -> Served:
        """Serve an image once its pixels fit into the budget: as many as are registered, else a worker's share; as many
        as the file says where that is more."""
        registered = (image.resolution_width or 0) * (image.resolution_height or 0)
        if expected := registered or self.budget.share:
            with suppress(TooManyPixels), self.budget.hold(expected):
                return self._serve(source, output, wanted, expected)
            self.budget.share = None
        info = self.workers.inspect(source.path)  # refuses what is more than the limit
        with self.budget.hold(info.width * info.height):
            return self._serve(source, output, wanted)

    def _serve(
        self, source: LocalSource, output: Path, wanted: PreviewRequest | None, max_pixels: int | None = None
    ) -> Served:
        """Choose between the proxy and the original, by size and by the rule for falling back."""
        keep_original = self.stage.settings.keep_original
        try:
            result = self.workers.create_proxy(source.path, output, self.stage.options, wanted, max_pixels=max_pixels)
        except ProxyError as error:
            if error.code not in RESOURCE_CODES:
                raise
            info = self.workers.inspect(source.path)
            if not _may_keep(info, keep_original):
                raise
            preview = self.previews.alone(source, wanted)
            return _kept(source, info, reason=error.code, preview=preview)
        info, may_keep = result.original, _may_keep(result.original, keep_original)
        if may_keep and result.action == "stripped":  # it decodes, and there was nothing to change
            return _kept(source, info, preview=result.preview, seconds=result.seconds)
        if may_keep and result.proxy_size_bytes >= source.size_bytes:
            return _kept(source, info, reason="proxy_larger", preview=result.preview, seconds=result.seconds)
        return _proxied(output, result)

    def _store(self, image: SourceImage, served: Served) -> tuple[str, int, str | None]:
        """Upload what Nova will read; a kept original that is in S3 already stays where it is, unless it takes another
        connection to read it: Nova reads with the permissions of ours."""
        settings = self.stage.settings
        if served.outcome is Outcome.KEPT and image.uri.startswith("s3://") and not settings.reads_apart:
            return image.uri, 0, None
        recipe = self.stage.options.version
        stored = upload_object(
            self.stage.s3,
            served.path,
            settings.required_bucket,
            object_key(
                settings.prefix,
                recipe_version=recipe,
                content_version=image.content_version,
                original_stem=Path(image.filename).stem,
                source_file_id=image.file_id,
                extension=EXTENSIONS[served.format],
            ),
            content_type=f"image/{served.format}",
            source_id=image.file_id,
            metadata={"recipe-version": recipe},
            rules=settings.object_rules,
            small=self.small,
        )
        return stored.uri, stored.size_bytes, stored.sha256


def _check_content(image: SourceImage, source: LocalSource, *, own_table: bool) -> None:
    found: str | None = None
    if image.content_version.startswith("sha256:"):
        found = _sha256(source.path)
    elif own_table and _ETAG.fullmatch(image.content_version):
        found = source.version  # in a table of the team's, what is called so may be of another upload
    if found is not None and found != image.content_version:
        raise ContentChanged(f"{image.uri} was changed since it was registered: register it again")


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError:
        return None  # the decode worker says what is wrong with it


def cores() -> int:
    """Return how many cores this process may use; not every system tells, then how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _may_keep(info: ImageInfo, keep_original: str) -> bool:
    """Whether the original may be given to Nova: it takes it as it is, and policy lets its metadata leave."""
    if keep_original == "never" or not info.nova_ready:
        return False
    return keep_original == "always" or info.clean


def _kept(
    source: LocalSource,
    info: ImageInfo,
    *,
    preview: Preview | None,
    reason: str | None = None,
    seconds: float | None = None,
) -> Served:
    size = (info.width, info.height)
    return Served(source.path, Outcome.KEPT, "kept", info.format, size, info, reason, preview, seconds)


def _proxied(output: Path, result: ProxyResult) -> Served:
    return Served(
        output,
        Outcome.PROXIED,
        result.action,
        result.format,
        result.proxy_dimensions,
        result.original,
        preview=result.preview,
        seconds=result.seconds,
    )
