"""Drop metadata from JPEG, PNG and WebP files without touching their pixels.

What stays is a list of what a decoder needs, not what goes a list of what is known to be private: an unknown segment
goes. Colour profiles go too; only files in sRGB are stripped, and sRGB is what a file without a profile is in.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import BinaryIO

from include.imaging.containers import (
    PNG_PICTURE,
    PNG_PIXELS,
    PNG_SIGNATURE,
    is_jpeg_icc,
    is_jpeg_metadata,
    is_png_metadata,
    jpeg_payload,
    jpeg_segments,
    makes_png_pixels,
    png_chunks,
    webp_chunks,
    webp_chunks_between,
)
from include.imaging.structure import Part, read_at

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_COLOUR_TYPE_AT = 25
_LONGEST_OPTIONAL = 65_536
_PNG_OVERRIDDEN = frozenset({b"gAMA", b"cHRM"})  # by a profile: without it they would count
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_VP8X_FLAGS_KEPT = 0b0001_0010  # alpha and animation; not ICC, EXIF or XMP, whose chunks are gone
_VP8X_ANIMATION = 0b0000_0010
_WEBP_FRAME = (b"ALPH", b"VP8 ", b"VP8L")
_WEBP_FRAME_HEADER = 16  # where it lies, how large it is, how long it is shown
_JFIF_LENGTH = 14


def _plain_jfif(payload: bytes) -> bytes:
    """A JFIF header without its thumbnail: the last two of its 14 bytes are the thumbnail's width and height."""
    return b"\xff\xe0\x00\x10" + payload[: _JFIF_LENGTH - 2].ljust(_JFIF_LENGTH - 2, b"\0") + b"\0\0"


def _strip_jpeg(source: BinaryIO, target: BinaryIO) -> None:
    data = source.read()
    target.write(data[:2])
    for part in jpeg_segments(data):
        if part.kind == b"\xe0" and jpeg_payload(data, part).startswith(b"JFIF\0"):
            target.write(_plain_jfif(jpeg_payload(data, part)))
        elif not is_jpeg_metadata(data, part) and not is_jpeg_icc(data, part):
            target.write(data[part.start : part.end])


def _copy_range(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    target.write(read_at(source, start, end - start))


def _strip_png(source: BinaryIO, target: BinaryIO) -> None:
    target.write(PNG_SIGNATURE)
    parts, colour_type = list(png_chunks(source)), read_at(source, _PNG_COLOUR_TYPE_AT, 1)[0]
    kept = PNG_PICTURE - _PNG_ANIMATION - {b"iCCP", b"IEND"}
    if any(part.kind == b"iCCP" for part in parts):
        kept -= _PNG_OVERRIDDEN
    for part in parts:
        if part.kind not in kept or is_png_metadata(part):
            continue
        if makes_png_pixels(part, colour_type):
            _copy_range(source, target, part.start, part.end)
        elif part.kind not in PNG_PIXELS and part.end - part.start <= _LONGEST_OPTIONAL:
            chunk = read_at(source, part.start, part.end - part.start)
            checksum = int.from_bytes(chunk[-4:], "big")
            if zlib.crc32(chunk[4:-4]) == checksum:  # or some decoder refuses the picture for it
                target.write(chunk)
    target.write(_PNG_END)  # of our own: there may be none, or one with something in it


def _webp_picture(source: BinaryIO) -> list[Part]:
    """The chunks that a WebP's decoder looks at: the first alone of a simple file, of others the first of each kind."""
    parts = list(webp_chunks(source))
    if parts[0].kind != b"VP8X":
        return parts[:1]
    moving = read_at(source, parts[0].start + 8, 1)[0] & _VP8X_ANIMATION
    return _first_of(parts, (b"VP8X", b"ANIM", b"ANMF") if moving else (b"VP8X", *_WEBP_FRAME))


def _first_of(parts: Iterable[Part], kinds: tuple[bytes, ...]) -> list[Part]:
    """The first chunk of each of these kinds, and of pixels one only, lossy or lossless."""
    found: dict[bytes, Part] = {}
    for part in parts:
        if part.kind in kinds:
            found.setdefault(b"VP8 " if part.kind == b"VP8L" else part.kind, part)
    return list(found.values())


def _webp_frame(source: BinaryIO, frame: Part) -> bytes:
    """An animation's frame without what lies in it beside its pixels."""
    header = read_at(source, frame.start + 8, _WEBP_FRAME_HEADER)
    inside = webp_chunks_between(source, frame.start + 8 + _WEBP_FRAME_HEADER, frame.end)
    body = header + b"".join(read_at(source, at, end - at) for _, at, end in _first_of(inside, _WEBP_FRAME))
    return b"ANMF" + len(body).to_bytes(4, "little") + body


def _strip_webp(source: BinaryIO, target: BinaryIO) -> None:
    target.write(b"RIFF\0\0\0\0WEBP")
    length = 4
    for part in _webp_picture(source):
        chunk = read_at(source, part.start, part.end - part.start)
        if part.kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & _VP8X_FLAGS_KEPT]) + chunk[9:]
        elif part.kind == b"ANMF":
            chunk = _webp_frame(source, part)
        target.write(chunk)
        length += len(chunk)
    target.seek(4)
    target.write(length.to_bytes(4, "little"))
    target.seek(0, 2)


STRIPPERS: dict[str, Callable[[BinaryIO, BinaryIO], None]] = {
    "jpeg": _strip_jpeg,
    "png": _strip_png,
    "webp": _strip_webp,
}


def strip_metadata(name: str, source: BinaryIO, target: BinaryIO) -> None:
    """Write the picture in `source`, a file of the named format (`STRIPPERS`), to `target`, without metadata.

    Raises TruncatedImage or CorruptImage as the walkers do, and OSError from writing.
    """
    source.seek(0)
    STRIPPERS[name](source, target)
