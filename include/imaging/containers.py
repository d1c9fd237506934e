"""The structure of image files, read without decoding a pixel: segments, chunks, frames, scans, metadata, completeness.

Standard library only. Each walker takes an open binary file, reads what it must, and raises `TruncatedImage` when the
file ends before its structure does and `CorruptImage` when there is no structure to follow.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from include.imaging.errors import CorruptImage, TooManyFrames, TooManyScans, TruncatedImage
from include.imaging.recipe import Limits

# No honest file comes near: 100 MB of PNG in 8 KB chunks are 13 000. A walk of this many takes about a second.
_MAX_PARTS = 1_000_000


@dataclass(frozen=True)
class Structure:
    """What the walk found."""

    frames: int = 1
    scans: int = 1
    has_metadata: bool = False
    bits: int | None = None  # per channel, where the container says so
    exif: bytes | None = None  # a PNG's eXIf chunk, which may stand behind the pixels, where Pillow sees it late
    has_text: bool = False


class Part(NamedTuple):
    """A segment, chunk or box: its type and the bytes from `start` to `end` in the file, its header included."""

    kind: bytes
    start: int
    end: int


def _size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Exactly `count` bytes from `offset`; raises TruncatedImage when there are fewer."""
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise TruncatedImage(f"the file ends at byte {offset + len(data)}, in the middle of the picture; copy it again")
    return data


# -- JPEG (ITU-T T.81, annex B) ----------------------------------------------------------------------------------------

_SOS, _EOI, _APP0, _APP2, _APP14, _COMMENT = b"\xda", b"\xd9", b"\xe0", b"\xe2", b"\xee", b"\xfe"
_STANDALONE = frozenset(bytes([marker]) for marker in (0x01, *range(0xD0, 0xD9)))
# In entropy-coded data a marker is 0xFF before anything but a stuffed zero, a restart marker or a fill byte.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_CUT_SHORT = "the JPEG data ends before its end-of-image marker; copy the file again"


def jpeg_segments(data: bytes) -> Iterator[Part]:
    """The segments of a JPEG up to and including its end-of-image marker; a scan carries its entropy-coded data."""
    position = 2
    for _ in range(_MAX_PARTS):
        start = data.find(b"\xff", position)
        marker_at = start + 1
        while data[marker_at : marker_at + 1] == b"\xff":  # fill bytes
            marker_at += 1
        marker = data[marker_at : marker_at + 1]
        if start < 0 or not marker:
            raise TruncatedImage(_JPEG_CUT_SHORT)
        if marker == _EOI:
            yield Part(marker, marker_at - 1, marker_at + 1)
            return
        if marker in _STANDALONE or marker == b"\0":  # nothing follows; or garbage between segments, as libjpeg skips
            position = marker_at + 1
            continue
        position = marker_at + 1 + int.from_bytes(data[marker_at + 1 : marker_at + 3], "big")
        if position > len(data):
            raise TruncatedImage(_JPEG_CUT_SHORT)
        if marker == _SOS:
            after = _MARKER_AFTER_SCAN.search(data, position)
            if after is None:
                raise TruncatedImage(_JPEG_CUT_SHORT)
            position = after.start()
        yield Part(marker, marker_at - 1, position)
    raise CorruptImage("the JPEG has more than a million segments")


def jpeg_payload(data: bytes, part: Part) -> bytes:
    """A segment's content, without its marker and length."""
    return data[part.start + 4 : part.end]


def is_jpeg_icc(data: bytes, part: Part) -> bool:
    """Whether this segment is a piece of the colour profile."""
    return part.kind == _APP2 and jpeg_payload(data, part).startswith(b"ICC_PROFILE\0")


def is_jpeg_metadata(data: bytes, part: Part) -> bool:
    """Whether this segment says something about the picture that is not needed to decode it: EXIF, XMP, IPTC, comments,
    thumbnails, the index of further pictures, makers' notes. Neither a plain JFIF header, the Adobe segment (it says
    how CMYK is stored) nor a colour profile is."""
    if part.kind == _COMMENT:
        return True
    if not _APP0 <= part.kind <= b"\xef" or is_jpeg_icc(data, part):
        return False
    payload = jpeg_payload(data, part)
    plain_jfif = part.kind == _APP0 and payload.startswith(b"JFIF\0") and len(payload) <= 14  # noqa: PLR2004
    adobe = part.kind == _APP14 and payload.startswith(b"Adobe") and len(payload) <= 12  # noqa: PLR2004
    return not (plain_jfif or adobe)


def _walk_jpeg(file: BinaryIO, limits: Limits) -> Structure:
    data = read_at(file, 0, _size_of(file))
    scans, metadata, end = 0, False, 0
    for part in jpeg_segments(data):
        metadata = metadata or is_jpeg_metadata(data, part)
        scans += part.kind == _SOS
        end = part.end
        if scans > limits.max_scans:
            raise TooManyScans(f"the JPEG has more than {limits.max_scans} scans; no camera writes such files")
    # Bytes after the end are further pictures (MPO, motion photos) or what somebody hid there.
    return Structure(scans=scans, has_metadata=metadata or end < len(data), bits=8)


# -- PNG (W3C, third edition) ------------------------------------------------------------------------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What decides the pixels and their colour, or carries nothing that a person could have written there.
PNG_PICTURE = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT cICP mDCV cLLI bKGD hIST sPLT pHYs acTL fcTL fdAT iCCP".split()
)
_PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def png_chunks(file: BinaryIO) -> Iterator[Part]:
    """The chunks of a PNG up to and including IEND, or up to the end of the file when it stands behind whole chunks."""
    size, position = _size_of(file), len(PNG_SIGNATURE)
    for _ in range(_MAX_PARTS):
        if position == size:
            return  # no IEND; whether the pixels are whole is the decoder's to say
        length, kind = struct.unpack(">I4s", read_at(file, position, 8))
        end = position + 12 + length
        if end > size:
            raise TruncatedImage(f"the PNG ends inside its {kind.decode('latin-1')} chunk; copy the file again")
        yield Part(kind, position, end)
        if kind == b"IEND":
            return
        position = end
    raise CorruptImage("the PNG has more than a million chunks")


def _walk_png(file: BinaryIO, limits: Limits) -> Structure:
    exif, frames, metadata, text, bits, end = None, 1, False, False, None, 0
    for part in png_chunks(file):
        metadata = metadata or part.kind not in PNG_PICTURE
        text = text or part.kind in _PNG_TEXT
        if part.kind == b"eXIf" and exif is None:
            exif = read_at(file, part.start + 8, part.end - part.start - 12)
        elif part.kind == b"acTL":
            frames = int.from_bytes(read_at(file, part.start + 8, 4), "big")
        elif part.kind == b"IHDR":
            bits = read_at(file, part.start + 16, 1)[0]
        end = part.end
    metadata = metadata or end < _size_of(file)
    return Structure(frames=max(1, frames), has_metadata=metadata, bits=bits, exif=exif, has_text=text)


# -- WebP (RFC 9649) ---------------------------------------------------------------------------------------------------

WEBP_PICTURE = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))


def webp_chunks(file: BinaryIO) -> Iterator[Part]:
    """The chunks of a WebP file, each padded to an even length."""
    end_of_riff = 8 + int.from_bytes(read_at(file, 4, 4), "little")
    if end_of_riff > _size_of(file):
        raise TruncatedImage("the WebP file is shorter than its header says; copy it again")
    position = 12
    for _ in range(_MAX_PARTS):
        if position + 8 > end_of_riff:
            return
        kind, length = struct.unpack("<4sI", read_at(file, position, 8))
        end = position + 8 + length + (length & 1)
        if end > _size_of(file):
            raise TruncatedImage("the WebP file ends inside a chunk; copy it again")
        yield Part(kind, position, end)
        position = end
    raise CorruptImage("the WebP file has more than a million chunks")


def _walk_webp(file: BinaryIO, limits: Limits) -> Structure:
    kinds, end = [], 12
    for part in webp_chunks(file):
        kinds.append(part.kind)
        end = part.end
    metadata = any(kind not in WEBP_PICTURE for kind in kinds) or end < _size_of(file)
    return Structure(frames=max(1, kinds.count(b"ANMF")), has_metadata=metadata, bits=8)


# -- GIF (CompuServe, GIF89a) ------------------------------------------------------------------------------------------

_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B
_GIF_GRAPHIC_CONTROL, _GIF_APPLICATION = 0xF9, 0xFF
_GIF_LOOP_COUNTS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def _skip_gif_blocks(data: bytes, position: int) -> int:
    """The position behind a run of data sub-blocks."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1


def _gif_table_length(packed: int) -> int:
    """Bytes of the colour table that a packed field announces."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _walk_gif(file: BinaryIO, limits: Limits) -> Structure:
    data = read_at(file, 0, _size_of(file))
    frames, metadata = 0, False
    position = 13 + _gif_table_length(data[10] if len(data) > 10 else 0)  # noqa: PLR2004
    while position + 1 < len(data) and data[position] != _GIF_TRAILER:
        if data[position] == _GIF_IMAGE and position + 9 < len(data):
            frames += 1
            _check_frames(frames, limits)
            position = _skip_gif_blocks(data, position + 11 + _gif_table_length(data[position + 9]))
        elif data[position] == _GIF_EXTENSION:
            label, application = data[position + 1], data[position + 3 : position + 14]
            loop_count = label == _GIF_APPLICATION and application in _GIF_LOOP_COUNTS
            metadata = metadata or not (label == _GIF_GRAPHIC_CONTROL or loop_count)
            position = _skip_gif_blocks(data, position + 2)
        else:
            break  # not a block: the decoder stops here too
    return Structure(frames=max(1, frames), has_metadata=metadata or position + 1 < len(data), bits=8)


# -- TIFF 6.0 and BigTIFF ----------------------------------------------------------------------------------------------


def _walk_tiff(file: BinaryIO, limits: Limits) -> Structure:
    """Count the pages by following the chain of directories. What is in the first one, Pillow reads."""
    head = read_at(file, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number, count_format, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset = struct.unpack(order + "Q", read_at(file, 8, 8))[0] if big else struct.unpack(order + "I", head[4:8])[0]
    seen: set[int] = set()
    while offset and offset not in seen and offset < _size_of(file):
        seen.add(offset)
        _check_frames(len(seen), limits)
        width = struct.calcsize(count_format)
        entries = struct.unpack(order + count_format, read_at(file, offset, width))[0]
        link = read_at(file, offset + width + entries * entry, struct.calcsize(number))
        offset = struct.unpack(order + number, link)[0]
    if not seen:
        raise TruncatedImage("the TIFF's first directory lies behind the end of the file; copy the file again")
    return Structure(frames=len(seen))


# -- AVIF and HEIF (ISO/IEC 14496-12) ----------------------------------------------------------------------------------


def _walk_boxes(file: BinaryIO, limits: Limits) -> Structure:
    """Follow the outermost boxes to see whether the file is as long as they say."""
    size, position = _size_of(file), 0
    for _ in range(_MAX_PARTS):
        if position + 8 > size:
            return Structure()
        length = int.from_bytes(read_at(file, position, 4), "big")
        if length == 1:  # a 64-bit length follows the type
            length = int.from_bytes(read_at(file, position + 8, 8), "big")
        if length == 0:  # up to the end of the file
            return Structure()
        if position + length > size:
            raise TruncatedImage("the file is shorter than its boxes say; copy it again")
        position += max(8, length)
    raise CorruptImage("the file has more than a million boxes")


def _no_structure(file: BinaryIO, limits: Limits) -> Structure:
    return Structure()


_WALKERS: dict[str, Callable[[BinaryIO, Limits], Structure]] = {
    "jpeg": _walk_jpeg,
    "png": _walk_png,
    "webp": _walk_webp,
    "gif": _walk_gif,
    "tiff": _walk_tiff,
    "avif": _walk_boxes,
    "heif": _walk_boxes,
}


def _check_frames(frames: int, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise TooManyFrames(
            f"more than {limits.max_frames} frames or pages; extract the first one, or raise max_frames"
        )


def walk(file: BinaryIO, name: str, limits: Limits) -> Structure:
    """The structure of an open file of the named format.

    Raises TruncatedImage, CorruptImage, TooManyFrames, TooManyScans.
    """
    structure = _WALKERS.get(name, _no_structure)(file, limits)
    _check_frames(structure.frames, limits)
    return structure
