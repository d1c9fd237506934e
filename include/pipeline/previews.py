"""The preview of an original that goes with its proxy: wanted, made by a decode worker, stored, told to the catalog.

The web process never decodes, and a browser shows no TIFF and no 200-megapixel panorama: this is what people see of an
original. None of it is worth an image's outcome.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.catalog.browse_records import NewPreview
from include.catalog.records import SourceImage
from include.imaging import DecodeWorkers, Preview, PreviewRequest, ProxyError
from include.pipeline.settings import Settings
from include.storage.errors import StorageError
from include.storage.objects import EXTENSIONS, preview_key, upload_object
from include.storage.small_objects import SmallObjects
from include.storage.sources import LocalSource

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreviewKeeper:
    """What it takes to make and keep the previews of one batch. ``s3`` is a boto3 S3 client."""

    catalog: Catalog
    s3: Any
    settings: Settings
    workers: DecodeWorkers
    scratch: Path
    small: SmallObjects | None = None

    def request(self, image: SourceImage) -> PreviewRequest | None:
        """Return what to ask of a decode worker; None where the deployment keeps no previews."""
        side = self.settings.preview_side
        return PreviewRequest(str(self.scratch / f"{image.file_id}.preview"), side) if side else None

    def alone(self, source: LocalSource, wanted: PreviewRequest | None) -> Preview | None:
        """Try a preview of a picture that no proxy could be made of: a small decode may still go well."""
        if wanted is None:
            return None
        try:
            return self.workers.create_preview(source.path, wanted)
        except ProxyError:
            return None

    def keep_alone(self, image: SourceImage, source: LocalSource, wanted: PreviewRequest | None) -> None:
        """Make, store and record the preview of a picture that no proxy could be made of."""
        kept = self.store(image, self.alone(source, wanted), wanted)
        if kept is not None:
            self.catalog.record_preview(image.file_id, image.content_version, kept)

    def store(self, image: SourceImage, preview: Preview | None, wanted: PreviewRequest | None) -> NewPreview | None:
        """Upload a preview; where there is none, or storage refuses it, log that and go on without."""
        if preview is None or wanted is None:
            return None
        key = preview_key(
            self.settings.preview_prefix,
            content_version=image.content_version,
            longest_side=wanted.longest_side,
            original_stem=Path(image.filename).stem,
            source_file_id=image.file_id,
            extension=EXTENSIONS[preview.format],
        )
        try:
            stored = upload_object(
                self.s3,
                Path(wanted.output),
                self.settings.required_bucket,
                key,
                content_type=f"image/{preview.format}",
                source_id=image.file_id,
                rules=self.settings.object_rules,
                small=self.small,
            )
        except StorageError as error:
            log.warning("image %s: its preview was not stored: %s", image.file_id, error)
            return None
        return NewPreview(stored.uri, preview.format, preview.width, preview.height, preview.size_bytes)
