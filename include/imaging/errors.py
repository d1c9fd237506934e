"""Every way in which an image can be refused, each with a stable code and a message that a person can act on.

The codes are stored on catalog rows and shown in reports: a code is never renamed, only added.
"""

from __future__ import annotations

from typing import ClassVar


class ProxyError(Exception):
    """One image could not be turned into a proxy. `code` is stable, `str(error)` says what to do about it."""

    code: ClassVar[str] = "proxy_error"
    transient: ClassVar[bool] = False  # True: the same image may well succeed later, with nothing about it changed


class UnsupportedFormat(ProxyError):
    """The content is of no format on the allow-list, whatever the file's name says."""

    code = "unsupported_format"


class CorruptImage(ProxyError):
    """The format is right, the data is not."""

    code = "corrupt"


class TruncatedImage(ProxyError):
    """The file ends before the picture does."""

    code = "truncated"


class EmptyFile(ProxyError):
    """The file has no bytes at all."""

    code = "empty"


class TooManyPixels(ProxyError):
    """The header announces more pixels than `Limits.max_pixels`."""

    code = "too_many_pixels"


class FileTooLarge(ProxyError):
    """The file is larger than `Limits.max_bytes`."""

    code = "too_large_file"


class TooManyFrames(ProxyError):
    """More frames or pages than `Limits.max_frames`."""

    code = "too_many_frames"


class TooManyScans(ProxyError):
    """More JPEG scans than `Limits.max_scans`: each one is a pass over the whole picture."""

    code = "too_many_scans"


class TimeLimit(ProxyError):
    """Decoding took longer than `Limits.seconds` and was stopped."""

    code = "time_limit"


class MemoryLimit(ProxyError):
    """Decoding needed more than `Limits.memory_bytes`."""

    code = "memory_limit"


class DiskFull(ProxyError):
    """There was no room to write the proxy."""

    code = "disk_full"
    transient = True


class Unwritable(ProxyError):
    """The proxy could not be written for another reason than room: a missing folder, permissions, a failing disk."""

    code = "unwritable"
    transient = True


class Unreadable(ProxyError):
    """The source is missing, is no regular file, or may not be read."""

    code = "unreadable"


class DecoderCrashed(ProxyError):
    """A decoder died on this image, twice, or failed in a way that nobody foresaw."""

    code = "decoder_crashed"


ERRORS: tuple[type[ProxyError], ...] = (
    UnsupportedFormat,
    CorruptImage,
    TruncatedImage,
    EmptyFile,
    TooManyPixels,
    FileTooLarge,
    TooManyFrames,
    TooManyScans,
    TimeLimit,
    MemoryLimit,
    DiskFull,
    Unwritable,
    Unreadable,
    DecoderCrashed,
)

# The machine was short of something, the picture may be fine: only these justify sending the original instead.
RESOURCE_CODES = frozenset({TimeLimit.code, MemoryLimit.code, DiskFull.code})

TRANSIENT_CODES = frozenset(error.code for error in ERRORS if error.transient)

_BY_CODE = {error.code: error for error in ERRORS}


def error_for(code: str, message: str) -> ProxyError:
    """The typed error for a code that crossed a process boundary; an unknown code is a `DecoderCrashed`."""
    return _BY_CODE.get(code, DecoderCrashed)(message)


class WorkersStopped(Exception):
    """The pool was stopped or closed: the call says nothing about its image, which may be done later."""
