"""Writing a file so that it appears whole or not at all."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.imaging.errors import DiskFull, ProxyError, Unwritable

# EFBIG is what a process meets that may not write files of this size.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Enough to recognise the end of a complete file, by format.
_ENDINGS = {"jpeg": b"\xff\xd9", "png": b"IEND\xaeB`\x82"}


def _write_error(error: OSError) -> ProxyError:
    if error.errno in _NO_ROOM:
        return DiskFull(f"no room to write the proxy ({error.strerror}); free some disk space")
    return Unwritable(f"the proxy cannot be written: {error}; check that the folder exists and may be written to")


@contextmanager
def writing() -> Iterator[None]:
    """Whatever writing raises, as a typed refusal."""
    try:
        yield
    except OSError as error:
        raise _write_error(error) from error


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved over it when the block succeeds and removed when it does not.

    Raises DiskFull or Unwritable when the move fails, Unwritable for what no file can be called.
    """
    final = Path(path)
    if "\0" in str(final):  # Python's own answer is a ValueError, and only after all the work
        raise Unwritable(f"the proxy cannot be written: {str(final)!r} holds a zero byte, which no file name may")
    # A short name of its own: `path` may already be as long as a name can be. Hidden, and recognisable if left behind.
    temporary = final.parent / f".{uuid.uuid4().hex}.part"
    try:
        yield temporary
        with writing():
            temporary.replace(final)
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_whole(path: Path, name: str) -> int:
    """The size in bytes of a file just written in the named format, once its end is seen to be there.

    The operating system may accept part of the last block when a disk fills, and encoders in C do not always notice.
    Raises DiskFull when the end is missing.
    """
    with writing():
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(max(0, size - 16))
            tail = file.read()
    whole = tail.endswith(_ENDINGS[name]) if name in _ENDINGS else int.from_bytes(head[4:8], "little") + 8 == size
    if not whole:
        raise DiskFull("the proxy was written only in part; free some disk space")
    return size
