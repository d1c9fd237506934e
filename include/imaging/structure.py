"""What every walker of a file's structure shares: its findings, reading with bounds, and the limits it checks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from include.imaging.errors import TooManyFrames, TooManyPixels, TruncatedImage
from include.imaging.recipe import Limits

# No honest file comes near: 100 MB of PNG in 8 KB chunks are 13 000. A walk of this many takes about a second.
MAX_PARTS = 1_000_000


@dataclass(frozen=True)
class Structure:
    """What the walk found."""

    frames: int = 1
    scans: int = 1
    has_metadata: bool = False
    bits: int | None = None  # per channel, where the container says so
    exif: bytes | None = None  # where Pillow would not find it, or too late
    icc: bytes | None = None  # a profile that Pillow would not find, or made from what the file says about its colours
    pieces: tuple[bytes | tuple[int, int], ...] | None = None  # what of the file the decoder gets to see; None: all
    whole: bool = True  # False: its end is missing, and only decoding tells whether pixels are too


class Part(NamedTuple):
    """A segment, chunk or box: its type and the bytes from `start` to `end` in the file, its header included."""

    kind: bytes
    start: int
    end: int


def size_of(file: BinaryIO) -> int:
    """The length of an open file in bytes."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # it is put together from pieces
        return file.seek(0, os.SEEK_END)


def read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Exactly `count` bytes from `offset`; raises TruncatedImage when there are fewer."""
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise TruncatedImage(f"the file ends at byte {offset + len(data)}, in the middle of the picture; copy it again")
    return data


def check_frames(frames: int, limits: Limits) -> None:
    """Raise TooManyFrames."""
    if frames > limits.max_frames:
        raise TooManyFrames(
            f"more than {limits.max_frames} frames or pages; extract the first one, or raise max_frames"
        )


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise TooManyPixels."""
    if width * height > limits.max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels are more than max_pixels ({limits.max_pixels})")
