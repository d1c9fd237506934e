"""What the first bytes of an image tell, for whoever has no more than these at hand."""

from __future__ import annotations

from pathlib import Path

from include.imaging.errors import CorruptImage, TruncatedImage
from include.imaging.formats import SNIFF_BYTES, sniff
from include.imaging.inspection import SWAPPING, decoding, exif_of, open_file, open_picture, orientation_of
from include.imaging.recipe import Limits
from include.imaging.records import HeaderInfo
from include.imaging.structure import Structure, check_pixels

_WEBP_HEADER = 30  # bytes up to the end of its dimensions, in each of the three kinds


def read_header(path: str | Path, limits: Limits | None = None) -> HeaderInfo:
    """Describe an image from its beginning: `path` may hold only the first bytes of the file.

    Cheaper and less thorough than `inspect_image`: frames, scans and the end of the file are not looked at. Raises a
    ProxyError, also for a good file whose header lies further back (a TIFF's may) or whose decoder wants all of it
    (AVIF).
    """
    bounds = limits or Limits()
    with open_file(path, bounds) as (file, _):
        kind = sniff(head := file.read(SNIFF_BYTES))
        with decoding():
            width, height = _webp_canvas(head) if kind.name == "webp" else (0, 0)
            if not width:
                with open_picture(file, kind, Structure()) as picture:
                    width, height = picture.size
                    orientation = orientation_of(picture, kind, exif_of(picture, kind, Structure()))
                    if orientation in SWAPPING and kind.name != "tiff":  # Pillow swaps the size of these itself
                        width, height = height, width
            check_pixels(width, height, bounds)
    return HeaderInfo(kind.name, width, height)


def _webp_canvas(head: bytes) -> tuple[int, int]:
    """Width and height of a WebP, whose decoder wants the whole file (RFC 9649, sections 2.5 to 2.7)."""
    if len(head) < _WEBP_HEADER:
        raise TruncatedImage("the WebP ends within its header; copy the file again")
    body = head[20:]
    match head[12:16]:
        case b"VP8X":  # 24 bits each, less one
            return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        case b"VP8L":  # 14 bits each, less one, behind the signature byte
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":  # 14 bits each, behind the frame tag and the start code
            return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise CorruptImage("the WebP does not begin with a picture; export it anew")
