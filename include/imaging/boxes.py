"""The structure of files made of boxes: AVIF and HEIF (ISO/IEC 14496-12), JPEG 2000 (ITU-T T.800), JPEG XL (18181-2).

Standard library only, as `containers`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, NamedTuple

from include.imaging import profiles
from include.imaging.errors import CorruptImage, ProxyError, TruncatedImage, UnsupportedFormat
from include.imaging.recipe import Limits
from include.imaging.structure import MAX_PARTS, Structure, check_pixels, read_at, size_of

_LONGEST_HEADER = 16 * 1024**2  # of boxes that are read as a whole


class _Box(NamedTuple):
    """A box: its type and the bytes from `body` to `end` in the file, its header not included."""

    kind: bytes
    body: int
    end: int


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[_Box]:
    """The boxes between two positions. Raises TruncatedImage when one reaches behind the end."""
    for _ in range(MAX_PARTS):
        if position + 8 > end:
            return
        length, kind = struct.unpack(">I4s", read_at(file, position, 8))
        body = position + 8
        if length == 1:  # a 64-bit length follows the type
            length, body = int.from_bytes(read_at(file, body, 8), "big"), body + 8
        if length == 0:  # up to the end
            length = end - position
        if position + length > end:
            raise TruncatedImage("the file is shorter than its boxes say; copy it again")
        if length < body - position:
            raise CorruptImage("a box is shorter than its own header")
        yield _Box(kind, body, position + length)
        position += length
    raise CorruptImage("the file has more than a million boxes")


def _content(file: BinaryIO, box: _Box) -> bytes:
    if box.end - box.body > _LONGEST_HEADER:
        raise CorruptImage(f"the {box.kind.decode('latin-1')} box is {box.end - box.body} bytes long")
    return read_at(file, box.body, box.end - box.body)


# -- AVIF and HEIF -----------------------------------------------------------------------------------------------------


_MOST_ITEMS, _MOST_PROPERTIES = 65_535, 32_767  # a picture of 200 million pixels in tiles of 512 x 512 has 763


def _numbers_of_properties(associations: bytes) -> dict[int, list[int]]:
    """By item, which of the file's properties are its own, counted from 1 (the `ipma` box)."""
    version, wide = associations[0], associations[3] & 1
    item_bytes, number_bytes = 4 if version else 2, 2 if wide else 1
    found: dict[int, list[int]] = {}
    at = 8
    for _ in range(min(int.from_bytes(associations[4:8], "big"), _MOST_ITEMS)):
        item, count = int.from_bytes(associations[at : at + item_bytes], "big"), associations[at + item_bytes]
        at += item_bytes + 1
        numbers = [associations[n : n + number_bytes] for n in range(at, at + count * number_bytes, number_bytes)]
        # Without the first bit, which says whether one may leave the property aside.
        found[item] = [int.from_bytes(number, "big") & (0x7FFF if wide else 0x7F) for number in numbers]
        at += count * number_bytes
    return found


def _colours_of_primary(file: BinaryIO, meta: _Box) -> list[bytes]:
    """What the picture that is shown says about its colours; another one beside it, its HDR version for one, may say
    something else."""
    primary, properties, numbers = 0, list[_Box](), dict[int, list[int]]()
    for box in _boxes(file, meta.body + 4, meta.end):
        if box.kind == b"pitm":
            content = _content(file, box)
            primary = int.from_bytes(content[4 : 8 if content[0] else 6], "big")
        for inner in _boxes(file, box.body, box.end) if box.kind == b"iprp" else ():
            if inner.kind == b"ipco":
                properties += islice(_boxes(file, inner.body, inner.end), _MOST_PROPERTIES)
            elif inner.kind == b"ipma":
                numbers |= _numbers_of_properties(_content(file, inner))
    own = (properties[number - 1] for number in numbers.get(primary, ()) if 0 < number <= len(properties))
    return [_content(file, box) for box in own if box.kind == b"colr"]


def _code_points(file: BinaryIO, meta: _Box) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics of the picture in a `meta` box, or None."""
    colours = list[bytes]()
    with suppress(ProxyError, IndexError):  # what is wrong with it, the decoder says
        colours = _colours_of_primary(file, meta)
    header = _content(file, meta)
    at = header.find(b"colrnclx")
    if not colours and at >= 0 and b"colrprof" not in header and b"colrrICC" not in header:
        colours = [header[at + 4 : at + 12]]  # of the tiles that it is made of
    stated = next((colour[4:8].ljust(4, b"\0") for colour in colours if colour.startswith(b"nclx")), None)
    return None if stated is None else (int.from_bytes(stated[:2], "big"), int.from_bytes(stated[2:], "big"))


def walk_heif(file: BinaryIO, limits: Limits) -> Structure:
    """See whether the file is as long as its boxes say, and find colours that are given by numbers, not a profile."""
    metas = [box for box in _boxes(file, 0, size_of(file)) if box.kind == b"meta"]
    stated = _code_points(file, metas[0]) if metas else None
    return Structure(icc=profiles.from_code_points(*stated) if stated else None)


# -- JPEG 2000 ---------------------------------------------------------------------------------------------------------

_CODESTREAM = b"\xff\x4f\xff\x51"  # start of codestream, size marker
_END_OF_CODESTREAM = b"\xff\xd9"
_EXIF_UUID = b"JpgTiffExif->JP2"
_MOST_TILES = 65_535  # Isot is a 16-bit number
_ICC_METHODS = (2, 3)


def _check_codestream(file: BinaryIO, start: int, end: int, limits: Limits) -> int:
    """The bits that Pillow gives a channel: 8 or 16. Raises TooManyPixels, TruncatedImage, CorruptImage."""
    head = read_at(file, start, 44)
    if not head.startswith(_CODESTREAM):
        raise CorruptImage("the JPEG 2000 file holds no codestream")
    right, bottom, left, top, tile_width, tile_height = struct.unpack(">6I", head[8:32])
    if left >= right or top >= bottom or not tile_width or not tile_height:
        raise CorruptImage("the JPEG 2000 header gives no size")
    check_pixels(right - left, bottom - top, limits)
    if -(-right // tile_width) * -(-bottom // tile_height) > _MOST_TILES:
        raise CorruptImage("the JPEG 2000 header asks for more tiles than the format has numbers for")
    # Some writers pad; what was cut off ends in data.
    tail = read_at(file, max(start, end - 1024), end - max(start, end - 1024))
    if _END_OF_CODESTREAM not in tail:
        raise TruncatedImage("the JPEG 2000 data ends before its end marker; copy the file again")
    return 16 if (head[42] & 0x7F) + 1 > 8 else 8  # noqa: PLR2004 - 9 to 15 bits are scaled up


def walk_jp2(file: BinaryIO, limits: Limits) -> Structure:
    """Check the codestream's size, and find the profile and the orientation that Pillow does not read."""
    size = size_of(file)
    if read_at(file, 0, 4) == _CODESTREAM:
        return Structure(has_metadata=True, bits=_check_codestream(file, 0, size, limits))
    icc, exif, bits = None, None, None
    for box in _boxes(file, 0, size):
        if box.kind == b"jp2h":
            for inner in _boxes(file, box.body, box.end):
                if inner.kind == b"colr" and icc is None:
                    colour = _content(file, inner)
                    icc = colour[3:] if colour[:1] and colour[0] in _ICC_METHODS else None
        elif box.kind == b"uuid" and exif is None and read_at(file, box.body, 16) == _EXIF_UUID:
            exif = _content(file, box)[16:]
        elif box.kind == b"jp2c" and bits is None:
            bits = _check_codestream(file, box.body, box.end, limits)
    if bits is None:
        raise TruncatedImage("the JPEG 2000 file ends before its picture; copy it again")
    return Structure(has_metadata=True, bits=bits, exif=exif, icc=icc)


_SIZE, _QUANTISATION, _ONE_QUANTISATION, _TILE_PART = 0xFF51, 0xFF5C, 0xFF5D, 0xFF90
_COMPONENTS_AT = 36  # of what follows the size marker's length: three bytes each, the first their depth
_ONE_BYTE_COMPONENTS = 256
_LARGEST_EXPONENT = 0x1F << 3  # in the upper five bits of each step's first byte


def _codestream_start(file: BinaryIO) -> int:
    if read_at(file, 0, 4) == _CODESTREAM:
        return 0
    return next(box.body for box in _boxes(file, 0, size_of(file)) if box.kind == b"jp2c")


def _halve_steps(body: bytearray, at: int) -> None:
    """Make quantisation steps half as large, which is one more to each exponent, and one guard bit less for it."""
    if not body[at] & 0x1F:  # reversible: there are no steps
        return
    if not body[at] >> 5 or max(body[at + 1 :: 2], default=0) >= _LARGEST_EXPONENT:
        raise UnsupportedFormat("a rare variant of JPEG 2000 that is not read; export it at 8 bits a channel")
    body[at] -= 1 << 5
    for step in range(at + 1, len(body), 2):
        body[step] += 1 << 3


def squeezed_jp2(file: BinaryIO) -> tuple[bytes | tuple[int, int], ...]:
    """A JPEG 2000 file of the same picture in which black is a quarter and white three quarters of the range.

    Its header alone is another: each channel is said to have a bit more, which moves the middle, and the steps of
    quantisation, which count from the depth, half their size. For what decodes the real one already.
    """
    start = _codestream_start(file)
    position, components = start + 2, 0
    header = bytearray(read_at(file, start, 2))
    while True:
        marker, length = struct.unpack(">HH", read_at(file, position, 4))
        if marker == _TILE_PART:
            return (0, start), bytes(header), (position, size_of(file))
        body = bytearray(read_at(file, position + 4, max(0, length - 2)))
        if marker == _SIZE:
            components = int.from_bytes(body[_COMPONENTS_AT - 2 : _COMPONENTS_AT], "big")
            for at in range(_COMPONENTS_AT, len(body), 3):
                body[at] += 1
        elif marker == _QUANTISATION:
            _halve_steps(body, 0)
        elif marker == _ONE_QUANTISATION:
            _halve_steps(body, 1 if components <= _ONE_BYTE_COMPONENTS else 2)
        header += struct.pack(">HH", marker, length) + body
        position += 2 + length


# -- JPEG XL (codestream: ISO/IEC 18181-1) -----------------------------------------------------------------------------

_JXL_SIGNATURE = b"\xff\x0a"
_JXL_SIDE_BITS = (9, 13, 18, 30)
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height


class _Bits:
    """Numbers from a bit stream, the lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken


def _jxl_size(head: bytes) -> tuple[int, int]:
    """Width and height from the first 16 bytes of a JPEG XL codestream, before any orientation."""
    bits = _Bits(head[2:])
    small = bits.take(1)

    def side() -> int:
        if small:
            return 8 * (1 + bits.take(5))
        return 1 + bits.take(_JXL_SIDE_BITS[bits.take(2)])

    height, ratio = side(), bits.take(3)
    across, down = _JXL_RATIOS.get(ratio, (0, 1))
    return (height * across // down if ratio else side()), height


def jxl_dimensions(file: BinaryIO) -> tuple[int, int]:
    """Width and height that a JPEG XL file announces. Raises TruncatedImage, CorruptImage."""
    start = 0
    if read_at(file, 0, 2) != _JXL_SIGNATURE:
        starts = {box.kind: box.body for box in reversed(list(_boxes(file, 0, size_of(file))))}
        if b"jxlc" not in starts and b"jxlp" not in starts:
            raise TruncatedImage("the JPEG XL file ends before its picture; copy it again")
        start = starts[b"jxlc"] if b"jxlc" in starts else starts[b"jxlp"] + 4  # behind the number of this part
    file.seek(start)
    head = file.read(16)
    if not head.startswith(_JXL_SIGNATURE):
        raise CorruptImage("the JPEG XL file holds no codestream")
    return _jxl_size(head.ljust(16, b"\0"))


def walk_jxl(file: BinaryIO, limits: Limits) -> Structure:
    """Check the codestream's size: the decoder does all of its work when it opens the file."""
    check_pixels(*jxl_dimensions(file), limits)
    return Structure(has_metadata=True)
