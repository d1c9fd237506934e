"""List a person's folder for the catalog. Nothing in it is ever written to."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from include.storage.errors import SourceError

logger = logging.getLogger(__name__)

_SNIFF_BYTES: Final = 32

# (offset, bytes, media type), first match wins. Sources: PNG 3rd edition 5.2, JFIF/ITU T.81 B.1.1.3, GIF89a 17,
# RFC 9649 2.4 (WebP), TIFF 6.0 section 2, ISO/IEC 18181-2 (JPEG XL), ITU T.800 I.5.1 (JPEG 2000), QOI 1.0, PSD.
_MAGIC: Final = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"MM\0+", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftyphevc", "image/heic-sequence"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypmsf1", "image/heif-sequence"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"qoif", "image/qoi"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
)

# Python's own table differs between versions and machines on these.
_MORE_TYPES: Final = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jfif": "image/jpeg",
    ".jp2": "image/jp2",
    ".jxl": "image/jxl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".psd": "image/vnd.adobe.photoshop",
    ".qoi": "image/qoi",
    ".tga": "image/x-tga",
    ".webp": "image/webp",
}

# Camera raw files are TIFF on the outside; read as such they give a thumbnail, so here the name has the last word.
_RAW_TYPES: Final = {
    ".arw": "image/x-sony-arw",
    ".cr2": "image/x-canon-cr2",
    ".dng": "image/x-adobe-dng",
    ".nef": "image/x-nikon-nef",
    ".orf": "image/x-olympus-orf",
    ".pef": "image/x-pentax-pef",
    ".rw2": "image/x-panasonic-rw2",
}

_TYPES_BY_NAME: Final = mimetypes.MimeTypes()  # the table built into Python, without the machine's own files
for _suffix, _type in {**_MORE_TYPES, **_RAW_TYPES}.items():
    _TYPES_BY_NAME.add_type(_type, _suffix)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of a folder, as the catalog registers it. Times are UTC, sizes bytes."""

    path: Path
    uri: str  # file://…, percent-encoded, absolute
    filename: str  # always printable Unicode, even when the name on disk is not
    media_type: str
    size_bytes: int
    modified_at: datetime
    content_version: str  # sha256:… of an image's bytes; stat:… of what is not an image or cannot be read


def list_local_images(folder: Path) -> Iterator[LocalFile]:
    """Every file below `folder`, in a fixed order, with the media type that its content (else its name) gives it.

    Files that are no images come along under their real type: the catalog holds them and the work passes them by.
    Empty and unreadable images come along too, so that each ends as a recorded failure instead of vanishing. Left out
    are hidden files and folders, whatever is not a regular file, links to what is listed anyway, and folders that may
    not be read (a warning names them).

    Raises `SourceError` (source_missing, source_not_a_file, source_unreadable) when `folder` itself cannot be listed.
    """
    root = folder.absolute()
    try:
        os.scandir(root).close()
    except FileNotFoundError as error:
        raise SourceError("source_missing", f"no such folder: {root}") from error
    except NotADirectoryError as error:
        raise SourceError("source_not_a_file", f"not a folder: {root}") from error
    except OSError as error:
        raise SourceError("source_unreadable", f"the folder may not be read: {root}: {error.strerror}") from error
    return (_describe(path, status) for path, status in _walk(root))


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    real_root = root.resolve()
    seen = {_identity(root.stat())}
    pending = [root]
    while pending:
        directory = pending.pop()
        folders = []
        for path, status in _entries(directory):
            if path.is_symlink() and path.resolve().is_relative_to(real_root):
                continue  # its target is listed under its own name
            if stat.S_ISREG(status.st_mode):
                yield path, status
            elif stat.S_ISDIR(status.st_mode) and _identity(status) not in seen:  # a link may lead back to a parent
                seen.add(_identity(status))
                folders.append(path)
        pending.extend(reversed(folders))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _entries(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if not entry.name.startswith("."))
    except OSError as error:
        logger.warning("Folder left out, it cannot be listed: %s: %s", directory, error.strerror)
        return
    for name in names:
        path = directory / name
        try:
            yield path, path.stat()
        except OSError as error:  # a dangling link, a file deleted since, a folder without the right to enter
            logger.warning("Left out: %s: %s", path, error.strerror)


def _describe(path: Path, status: os.stat_result) -> LocalFile:
    media_type = _media_type(path)
    return LocalFile(
        path=path,
        uri=path.as_uri(),
        filename=os.fsencode(path.name).decode("utf-8", "replace"),
        media_type=media_type,
        size_bytes=status.st_size,
        modified_at=_utc(status.st_mtime),
        content_version=_content_version(path, status, media_type),
    )


def _media_type(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _RAW_TYPES:
        return _RAW_TYPES[suffix]
    return _sniff(path) or _TYPES_BY_NAME.guess_type(f"name{suffix}")[0] or "application/octet-stream"


def _sniff(path: Path) -> str | None:
    try:
        with path.open("rb") as opened:
            head = opened.read(_SNIFF_BYTES)
    except OSError:
        return None
    return next((kind for offset, magic, kind in _MAGIC if head.startswith(magic, offset)), None)


def _content_version(path: Path, status: os.stat_result, media_type: str) -> str:
    if media_type.startswith("image/"):  # a folder's films need not be read to be passed by
        try:
            with path.open("rb") as opened:
                return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
        except OSError as error:
            logger.warning("Listed without its content, it cannot be read: %s: %s", path, error.strerror)
    return f"stat:{status.st_size}-{status.st_mtime_ns}"


def _utc(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # file systems hold times that a calendar does not
        return datetime.fromtimestamp(0, UTC)
