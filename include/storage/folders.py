"""List a person's folder for the catalog. Nothing in it is ever written to."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from include.storage.errors import SourceError
from include.storage.media_types import SNIFF_BYTES, media_type_of

logger = logging.getLogger(__name__)


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
    return (_describe(path, status) for path, status in list_files(folder))


def list_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The same files, in the same order and with the same errors, none of them opened."""
    root = folder.absolute()
    try:
        os.scandir(root).close()
    except FileNotFoundError as error:
        raise SourceError("source_missing", f"no such folder: {root}") from error
    except NotADirectoryError as error:
        raise SourceError("source_not_a_file", f"not a folder: {root}") from error
    except OSError as error:
        raise SourceError("source_unreadable", f"the folder may not be read: {root}: {error.strerror}") from error
    return _walk(root)


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
        modified_at=utc(status.st_mtime),
        content_version=_content_version(path, status, media_type),
    )


def _media_type(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            head = opened.read(SNIFF_BYTES)
    except OSError:
        head = b""
    return media_type_of(path.name, head)


def _content_version(path: Path, status: os.stat_result, media_type: str) -> str:
    if media_type.startswith("image/"):  # a folder's films need not be read to be passed by
        try:
            with path.open("rb") as opened:
                return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
        except OSError as error:
            logger.warning("Listed without its content, it cannot be read: %s: %s", path, error.strerror)
    return f"stat:{status.st_size}-{status.st_mtime_ns}"


def utc(seconds: float) -> datetime:
    """A file's time; 1970 for one that a calendar does not know."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # file systems hold times that a calendar does not
        return datetime.fromtimestamp(0, UTC)
