"""The structure of image files, read without decoding a pixel: segments, chunks, frames, scans, metadata, completeness.

Standard library only. Each walker takes an open binary file, reads what it must, and raises `TruncatedImage` when the
file ends before its structure does and `CorruptImage` when there is no structure to follow.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from include.imaging import boxes, profiles
from include.imaging.errors import CorruptImage, TooManyScans, TruncatedImage, UnsupportedFormat
from include.imaging.recipe import Limits
from include.imaging.structure import MAX_PARTS, Part, Structure, check_frames, check_pixels, read_at, size_of

# -- JPEG (ITU-T T.81, annex B) ----------------------------------------------------------------------------------------

_SOS, _EOI, _DRI, _APP0, _APP2, _APP14 = b"\xda", b"\xd9", b"\xdd", b"\xe0", b"\xe2", b"\xee"
_SEQUENTIAL, _PROGRESSIVE = (b"\xc0", b"\xc1"), b"\xc2"
_FRAME_HEADERS = frozenset(bytes([marker]) for marker in range(0xC0, 0xD0)) - {b"\xc4", b"\xc8", b"\xcc"}
_LOSSLESS = frozenset({b"\xc3", b"\xc7", b"\xcb", b"\xcf", b"\xf7"})  # the last of JPEG-LS
# With the tables of quantisation, and of Huffman and arithmetic codes.
_NEEDED = _FRAME_HEADERS | {b"\xdb", b"\xc4", b"\xcc", _DRI, _SOS, _EOI}
_STANDALONE = frozenset(bytes([marker]) for marker in (0x01, *range(0xD0, 0xD9)))
# In entropy-coded data a marker is 0xFF before anything but a stuffed zero, a fill byte, or a restart marker where
# restarts were announced: where they were not, decoders stop there.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_SCAN_WITH_RESTARTS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_CUT_SHORT = "the JPEG data ends before its end-of-image marker; copy the file again"
_PREALLOCATED = bytes(64)  # no picture ends in so many zeros; a download that stopped does

# libjpeg invents the rest of a scan (in gray) once it meets a marker, and waits for more data when it meets none. So it
# gets the scan without any marker behind it, and Pillow reports a picture that is not there. What it gets instead is
# what it reads ahead, in codes that stand for nothing: up to four of the blocks of 8 x 8 can be missing unnoticed.
_INSTEAD_OF_THE_END = b"\xff\x00" * 16


def jpeg_segments(data: bytes) -> Iterator[Part]:
    """The segments of a JPEG up to and including its end-of-image marker; a scan carries its entropy-coded data.

    Raises TruncatedImage when that marker is missing, after the last segment that there is.
    """
    position, after_scan = 2, _MARKER_AFTER_SCAN
    for _ in range(MAX_PARTS):
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
        if marker == _DRI:
            announced = any(data[marker_at + 3 : marker_at + 5])
            after_scan = _MARKER_AFTER_SCAN_WITH_RESTARTS if announced else _MARKER_AFTER_SCAN
        if marker == _SOS:
            after = after_scan.search(data, position)
            position = after.start() if after else len(data)
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
    if part.kind in _NEEDED or is_jpeg_icc(data, part):
        return False
    payload = jpeg_payload(data, part)
    plain_jfif = part.kind == _APP0 and payload.startswith(b"JFIF\0") and len(payload) <= 14  # noqa: PLR2004
    adobe = part.kind == _APP14 and payload.startswith(b"Adobe") and len(payload) <= 12  # noqa: PLR2004
    return not (plain_jfif or adobe)


_UNSENT = 99


class _Scans:
    """Keeps account, over a JPEG's segments, of which coefficients were sent, and to which precision."""

    def __init__(self) -> None:
        self.frame = b""  # the marker of the frame header
        self.components: list[int] = []
        self.left: dict[int, list[int]] = {}  # by component, for each of its 64 coefficients: bits still to be sent
        self.count = 0
        self.first_end: int | None = None

    def add(self, data: bytes, part: Part) -> None:
        payload = data[part.start + 4 : min(part.end, part.start + 260)]  # not all of a scan
        if part.kind in _FRAME_HEADERS and not self.count:
            self.frame = part.kind
            self.components = list(payload[6 : 6 + 3 * payload[5] : 3]) if len(payload) > 5 else []  # noqa: PLR2004
            self.left = {component: [_UNSENT] * 64 for component in self.components}
        elif part.kind == _SOS:
            self.count += 1
            many = payload[0] if payload else 0
            first, last, precision = (*payload[1 + 2 * many : 4 + 2 * many], 0, 0, 0)[:3]
            if self.frame != _PROGRESSIVE:
                first, last, precision = 0, 63, 0
            for component in payload[1 : 1 + 2 * many : 2]:
                left = self.left.setdefault(component, [_UNSENT] * 64)
                for coefficient in range(first, min(last, 63) + 1):
                    left[coefficient] = min(left[coefficient], precision & 15)
            if self.count == 1 and self.frame in _SEQUENTIAL and many == len(self.components):
                self.first_end = part.end

    def check(self) -> None:
        """Raise TruncatedImage when a component, or the first one's details (its brightness), were not sent in full.

        Of the last scan only decoding would tell; what a progressive picture lacks then is its last bit of precision.
        """
        unsent = any(self.left[component][0] == _UNSENT for component in self.components)
        if unsent or (self.components and any(self.left[self.components[0]])):
            raise TruncatedImage("the JPEG ends before the last of its scans; copy the file again")


def _walk_jpeg(file: BinaryIO, limits: Limits) -> Structure:
    data = read_at(file, 0, size_of(file))
    scans, metadata, end, whole = _Scans(), False, 0, True
    try:
        for part in jpeg_segments(data):
            if part.kind in _LOSSLESS and not scans.count:
                raise UnsupportedFormat("the content is a lossless JPEG, which few programs read; export it as PNG")
            metadata = metadata or is_jpeg_metadata(data, part)
            scans.add(data, part)
            end = part.end
            if scans.count > limits.max_scans:
                raise TooManyScans(f"the JPEG has more than {limits.max_scans} scans; no camera writes such files")
    except TruncatedImage:
        if scans.first_end is None or data.endswith(_PREALLOCATED):
            raise
        whole = False  # some programs leave out the end marker, and nothing but it
    if scans.count:
        scans.check()
    # Bytes after the end are further pictures (MPO, motion photos) or what somebody hid there.
    return Structure(
        scans=scans.count,
        has_metadata=metadata or end < len(data),
        bits=8,
        pieces=None if scans.first_end is None else ((0, scans.first_end), _INSTEAD_OF_THE_END),
        whole=whole,
    )


# -- PNG (W3C, third edition) ------------------------------------------------------------------------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What decides the pixels and their colour, or carries nothing that a person could have written there. Not the suggested
# palettes (sPLT), whose names are free text.
PNG_PICTURE = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT cICP mDCV cLLI bKGD hIST pHYs acTL fcTL fdAT iCCP".split()
)
# The most bytes of those that have a length of their own: more is something else under their name.
_PNG_LONGEST = {
    b"PLTE": 768, b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"sBIT": 4, b"cICP": 4, b"mDCV": 24, b"cLLI": 8,
    b"bKGD": 6, b"hIST": 512, b"pHYs": 9,
}  # fmt: skip
# All that Pillow gets: anything else is optional, and broken, bombed or merely long it would make Pillow refuse.
PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PNG_INDEXED, _PNG_TRANSPARENT_COLOUR = 3, {0: 2, 2: 6}  # colour types; bytes by colour type: of gray, of RGB
_PNG_COLOUR = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
_UNSPECIFIED = b"\2\2"  # colour primaries and transfer characteristics that say nothing
_LONGEST_PROFILE = 16 * 1024**2  # scanners' profiles of three megabytes are real
_LONGEST_COLOUR_CHUNK = 4 * 1024**2  # compressed
_LONGEST_EXIF = 4 * 1024**2
_UNPACKED_AT_ONCE = 1024**2


def png_chunks(file: BinaryIO) -> Iterator[Part]:
    """The chunks of a PNG up to and including IEND, or up to the end of the file when it stands behind whole chunks."""
    size, position = size_of(file), len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
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


def is_png_metadata(part: Part) -> bool:
    """Whether this chunk says something about the picture that is not needed to show it."""
    longest = _PNG_LONGEST.get(part.kind)
    return part.kind not in PNG_PICTURE or (longest is not None and _png_length(part) > longest)


def _png_length(part: Part) -> int:
    """Bytes in a chunk, without its own length, its type and its checksum."""
    return part.end - part.start - 12


def makes_png_pixels(part: Part, colour_type: int) -> bool:
    """Whether the decoder is to see this chunk: not what is too long for its type, nor a transparent colour that is cut
    short, for which Pillow would refuse the picture."""
    cut_short = part.kind == b"tRNS" and _png_length(part) < _PNG_TRANSPARENT_COLOUR.get(colour_type, 0)
    return part.kind in PNG_PIXELS and not is_png_metadata(part) and not cut_short


def _png_profile(chunk: bytes) -> bytes | None:
    """The colour profile in an iCCP chunk, or None when it is broken or unpacks to more than any profile has."""
    _, separator, rest = chunk.partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        profile = unpacking.decompress(rest[1:], _LONGEST_PROFILE)
    except zlib.error:
        return None
    return profile if separator and rest[:1] == b"\0" and unpacking.eof else None


def _png_colour(chunks: dict[bytes, bytes]) -> bytes | None:
    """The profile that a PNG's colour chunks amount to, the first of them in the order that the standard gives."""
    stated = chunks.get(b"cICP", b"")
    if len(stated) == 4 and not stated.startswith(_UNSPECIFIED):  # noqa: PLR2004
        return profiles.from_code_points(stated[0], stated[1])
    profile = _png_profile(chunks[b"iCCP"]) if b"iCCP" in chunks else None
    if profile or b"sRGB" in chunks:
        return profile
    gamma, chromaticities = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) != 4 or not any(gamma):  # noqa: PLR2004
        return None
    points = struct.unpack(">8I", chromaticities) if len(chromaticities) == 32 else None  # noqa: PLR2004
    return profiles.from_gamma(int.from_bytes(gamma, "big"), points)


def _walk_png(file: BinaryIO, limits: Limits) -> Structure:
    exif, frames, metadata, bits, end, colour_type, palette = None, 1, False, None, 0, 0, False
    colour: dict[bytes, bytes] = {}
    shown: list[tuple[int, int]] = [(0, len(PNG_SIGNATURE))]
    for part in png_chunks(file):
        body, length = part.start + 8, part.end - part.start - 12
        metadata = metadata or is_png_metadata(part)
        if makes_png_pixels(part, colour_type):
            palette = palette or part.kind == b"PLTE"
            if shown[-1][1] == part.start:
                shown[-1] = (shown[-1][0], part.end)
            else:
                shown.append((part.start, part.end))
        if part.kind in _PNG_COLOUR and part.kind not in colour and length <= _LONGEST_COLOUR_CHUNK:
            colour[part.kind] = read_at(file, body, length)
        elif part.kind == b"eXIf" and exif is None and length <= _LONGEST_EXIF:
            exif = read_at(file, body, length)
        elif part.kind == b"acTL":
            frames = int.from_bytes(read_at(file, body, 4), "big")
        elif part.kind == b"IHDR" and bits is None:
            width, height, bits, colour_type = struct.unpack(">IIBB", read_at(file, body, 10))
            check_pixels(width, height, limits)
        end = part.end
    if colour_type == _PNG_INDEXED and not palette:  # Pillow makes one up
        raise CorruptImage("the PNG has lost its palette; export it anew")
    return Structure(
        frames=max(1, frames),
        has_metadata=metadata or end < size_of(file),
        bits=bits,
        exif=exif,
        icc=_png_colour(colour),
        pieces=tuple(shown),
    )


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def check_png_rows(file: BinaryIO) -> None:
    """Raise TruncatedImage when a PNG that can be decoded unpacks to fewer rows than its header announces: Pillow
    leaves the others black. Interlaced, it sees that itself."""
    width, height, depth, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", read_at(file, 16, 13))
    left = 0 if interlaced else height * (1 + -(-width * depth * _PNG_CHANNELS[colour_type] // 8))
    unpacking = zlib.decompressobj()
    for part in png_chunks(file):
        packed = read_at(file, part.start + 8, _png_length(part)) if part.kind == b"IDAT" else b""
        while packed and left > 0 and not unpacking.eof:
            left -= len(unpacking.decompress(packed, _UNPACKED_AT_ONCE))
            packed = unpacking.unconsumed_tail
    if left > 0:
        raise TruncatedImage("the PNG holds fewer rows than its header says; export it anew")


# -- WebP (RFC 9649) ---------------------------------------------------------------------------------------------------

WEBP_PICTURE = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))


def webp_chunks(file: BinaryIO) -> Iterator[Part]:
    """The chunks of a WebP file, each padded to an even length."""
    end_of_riff = 8 + int.from_bytes(read_at(file, 4, 4), "little")
    if end_of_riff > size_of(file):
        raise TruncatedImage("the WebP file is shorter than its header says; copy it again")
    yield from webp_chunks_between(file, 12, end_of_riff)


def webp_chunks_between(file: BinaryIO, position: int, end_of_riff: int) -> Iterator[Part]:
    """As `webp_chunks`, between two positions: a frame of an animation holds chunks too."""
    for _ in range(MAX_PARTS):
        if position + 8 > end_of_riff:
            return
        kind, length = struct.unpack("<4sI", read_at(file, position, 8))
        end = position + 8 + length + (length & 1)
        if end > size_of(file):
            raise TruncatedImage("the WebP file ends inside a chunk; copy it again")
        yield Part(kind, position, end)
        position = end
    raise CorruptImage("the WebP file has more than a million chunks")


def _webp_size(file: BinaryIO, part: Part) -> tuple[int, int]:
    """The dimensions that a chunk announces; (0, 0) when it announces none."""
    head = read_at(file, part.start + 8, min(10, part.end - part.start - 8)).ljust(10, b"\0")
    if part.kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if part.kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    if part.kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0


def _walk_webp(file: BinaryIO, limits: Limits) -> Structure:
    kinds, end = [], 12
    for part in webp_chunks(file):
        kinds.append(part.kind)
        width, height = _webp_size(file, part)
        check_pixels(width, height, limits)  # the decoder makes room for all of them when it opens the file
        end = part.end
    behind = kinds[:1] != [b"VP8X"] and len(kinds) > 1  # a simple file is one chunk
    metadata = behind or any(kind not in WEBP_PICTURE for kind in kinds) or end < size_of(file)
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
    data = read_at(file, 0, size_of(file))
    frames, metadata = 0, False
    position = 13 + _gif_table_length(data[10] if len(data) > 10 else 0)  # noqa: PLR2004
    while position + 1 < len(data) and data[position] != _GIF_TRAILER:
        if data[position] == _GIF_IMAGE and position + 9 < len(data):
            frames += 1
            check_frames(frames, limits)
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


_TIFF_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_MOST_TIFF_TAGS = 4096


def _check_tiff_tags(file: BinaryIO, order: str, offset: int, big: bool) -> None:
    """Refuse a first directory whose tags claim more bytes than the file has several times over: they point at the same
    bytes, and each would be read and taken apart on its own."""
    size, width = size_of(file), 8 if big else 2
    if offset >= size:
        return  # said by who follows the chain
    entries = struct.unpack(order + ("Q" if big else "H"), read_at(file, offset, width))[0]
    if entries > _MOST_TIFF_TAGS:
        raise CorruptImage(f"the TIFF's first directory claims {entries} tags; export it anew")
    table, claimed = read_at(file, offset + width, entries * (20 if big else 12)), 0
    for _, kind, count, *_ in struct.iter_unpack(order + ("HHQ8s" if big else "HHI4s"), table):
        claimed += count * (_TIFF_TYPE_BYTES[kind] if kind < len(_TIFF_TYPE_BYTES) else 0)
    if claimed > 2 * size + 65536:
        raise CorruptImage("the TIFF's tags claim more bytes than the file has; export it anew")


def _walk_tiff(file: BinaryIO, limits: Limits) -> Structure:
    """Count the pages by following the chain of directories. What is in the first one, Pillow reads."""
    head = read_at(file, 0, 8)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number, count_format, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    offset = struct.unpack(order + "Q", read_at(file, 8, 8))[0] if big else struct.unpack(order + "I", head[4:8])[0]
    _check_tiff_tags(file, order, offset, big)
    seen: set[int] = set()
    while offset and offset not in seen and offset < size_of(file):
        seen.add(offset)
        check_frames(len(seen), limits)
        width = struct.calcsize(count_format)
        entries = struct.unpack(order + count_format, read_at(file, offset, width))[0]
        link = read_at(file, offset + width + entries * entry, struct.calcsize(number))
        offset = struct.unpack(order + number, link)[0]
    if not seen:
        raise TruncatedImage("the TIFF's first directory lies behind the end of the file; copy the file again")
    return Structure(frames=len(seen))


# -- Windows icons and bitmaps -----------------------------------------------------------------------------------------

_ICON_HEADER, _ICON_ENTRY = "<HHH", "<BBBBHHII"


def _walk_ico(file: BinaryIO, limits: Limits) -> Structure:
    """Choose the largest of an icon's pictures, of those the one with most colours, and show the decoder no other."""
    _, _, count = struct.unpack(_ICON_HEADER, read_at(file, 0, 6))
    check_frames(count, limits)
    if not count:
        raise CorruptImage("the icon holds no picture")
    entries = list(struct.iter_unpack(_ICON_ENTRY, read_at(file, 6, 16 * count)))
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5], entry[6]))
    *described, length, offset = best
    head = read_at(file, offset, 40)
    if offset + length > size_of(file):
        raise TruncatedImage("the icon ends inside its largest picture; copy the file again")
    if head.startswith(PNG_SIGNATURE):
        width, height = struct.unpack(">II", head[16:24])
    else:
        width, height = (abs(side) for side in struct.unpack("<ii", head[4:12]))  # a height of two: picture and mask
    check_pixels(width, height, limits)
    entry = struct.pack(_ICON_ENTRY, *described, length, 6 + 16)
    only = (struct.pack(_ICON_HEADER, 0, 1, 1) + entry, (offset, offset + length))
    return Structure(frames=count, has_metadata=True, bits=8, pieces=only)


def _walk_bmp(file: BinaryIO, limits: Limits) -> Structure:
    return Structure()  # its header has the dimensions, and nothing else needs to be known beforehand


_WALKERS: dict[str, Callable[[BinaryIO, Limits], Structure]] = {
    "jpeg": _walk_jpeg,
    "png": _walk_png,
    "webp": _walk_webp,
    "gif": _walk_gif,
    "tiff": _walk_tiff,
    "bmp": _walk_bmp,
    "avif": boxes.walk_heif,
    "heif": boxes.walk_heif,
    "ico": _walk_ico,
    "jp2": boxes.walk_jp2,
    "jxl": boxes.walk_jxl,
}


def walk(file: BinaryIO, name: str, limits: Limits) -> Structure:
    """The structure of an open file of the named format.

    Raises TruncatedImage, CorruptImage, TooManyFrames, TooManyPixels, TooManyScans.
    """
    structure = _WALKERS[name](file, limits)
    check_frames(structure.frames, limits)
    return structure
