"""Register a person's folder in the catalog: every file as a row, images with what their header says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from include.catalog.records import NewImage
from include.imaging import DecodeWorkers, ImageInfo, ProxyError
from include.storage.folders import LocalFile, list_local_images

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog
    from include.catalog.records import RegisterCounts


def register_folders(catalog: Catalog, folders: Iterable[Path], uploaded_at: datetime) -> RegisterCounts:
    """Register all files below ``folders``; what is registered already keeps its row. The files are only read.

    ``uploaded_at`` is when they became known here; a file's own time may lie in the future. Raises `StorageError`
    when a folder cannot be listed.
    """
    found = [file for folder in folders for file in list_local_images(folder)]
    known = catalog.content_versions([file.uri for file in found])
    with DecodeWorkers(1) as workers:
        return catalog.register(
            [
                _new_image(file, uploaded_at, None if known.get(file.uri) == file.content_version else workers)
                for file in found
            ]
        )


def _new_image(file: LocalFile, uploaded_at: datetime, workers: DecodeWorkers | None) -> NewImage:
    """Describe a file; ``workers`` is None for one that is registered as it is, whose row knows its dimensions."""
    info = _header(workers, file) if workers else None
    return NewImage(
        uri=file.uri,
        filename=file.filename,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        content_version=file.content_version,
        uploaded_at=uploaded_at,
        format=info.format if info else None,
        resolution_width=info.width if info else None,
        resolution_height=info.height if info else None,
    )


def _header(workers: DecodeWorkers, file: LocalFile) -> ImageInfo | None:
    """Return what the header says; a picture that cannot be read is registered all the same, and fails in its run."""
    if not file.media_type.startswith("image/"):
        return None
    try:
        return workers.inspect(file.path)
    except ProxyError:
        return None
