"""What a file is, from its headers: nothing is decoded, and every limit that headers can tell is checked."""

from __future__ import annotations

import errno
import importlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image

from include.imaging import color, profiles
from include.imaging.containers import walk
from include.imaging.errors import (
    CorruptImage,
    EmptyFile,
    FileTooLarge,
    MemoryLimit,
    ProxyError,
    TooManyPixels,
    TruncatedImage,
    Unreadable,
    UnsupportedFormat,
)
from include.imaging.formats import SNIFF_BYTES, Format, sniff
from include.imaging.pieces import Pieces
from include.imaging.recipe import Limits
from include.imaging.records import ImageInfo
from include.imaging.structure import Structure, check_frames, check_pixels

_ORIENTATION = 274  # TIFF 6.0 and EXIF
_BITS_PER_SAMPLE, _STRIP_OFFSETS, _STRIP_BYTES, _SUB_IFDS = 258, 273, 279, 330
_TILE_OFFSETS, _TILE_BYTES, _NEW_SUBFILE_TYPE, _DNG_VERSION = 324, 325, 254, 50706
_PLANAR_CONFIGURATION, _PLANES_APART = 284, 2
_EXIF_IFD, _INTEROPERABILITY_IFD, _COLOUR_SPACE = 34665, 40965, 40961
_IS_SRGB, _IS_ADOBE_RGB = 1, 2  # of the colour spaces; cameras mostly say 65535 and "R03" instead of 2 (DCF 2.0)
SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height
# None is a decoder's own OSError; the others are what seeking to where a damaged file points gives.
_WRONG_OFFSETS = frozenset({None, errno.EINVAL, errno.EOVERFLOW})
_VARIANTS = ("unknown pixel mode", "cannot handle", "unsupported bmp pixel", "unsupported bmp compression")
# The last is what Pillow calls it where libtiff reads.
_NO_MEMORY = ("out of memory", "memory allocation", "bad_alloc", "cannot allocate", "decoder error -9")
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})


@contextmanager
def decoding() -> Iterator[None]:
    """Whatever a decoder raises, as a typed refusal. Decoders raise nearly everything on hostile files."""
    try:
        yield
    except ProxyError:
        raise
    except MemoryError as error:
        raise MemoryLimit("decoding needs more memory than memory_bytes allows; raise the limit") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"Pillow's own limit was passed: {error}") from error
    except Exception as error:
        raise _refusal(error) from error


def _refusal(error: Exception) -> ProxyError:
    """The typed refusal that a decoder's message speaks of."""
    text = f"{type(error).__name__}: {error}".strip()
    lowered = text.lower()
    if isinstance(error, OSError) and error.errno not in _WRONG_OFFSETS:
        return Unreadable(f"reading the file failed: {error.strerror}")
    if any(words in lowered for words in _NO_MEMORY):
        return MemoryLimit(f"decoding needs more memory than memory_bytes allows ({text}); raise the limit")
    if isinstance(error, NotImplementedError) or any(words in lowered for words in _VARIANTS):
        return UnsupportedFormat(f"a variant of the format that is not read ({text}); export it as 8 or 16 bit RGB")
    if any(words in lowered for words in ("truncated", "unexpected end", "not enough image data", "premature")):
        return TruncatedImage(f"the file ends before the picture does ({text}); copy it again")
    return CorruptImage(f"the picture cannot be decoded ({text}); open it in an editor and export it anew")


@contextmanager
def open_file(path: str | Path, limits: Limits) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its size in bytes. Raises Unreadable, EmptyFile, FileTooLarge."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise Unreadable("the source is not a regular file")
        file = Path(path).open("rb")  # noqa: SIM115 - closed below; only opening it may be the source's fault
    except (OSError, ValueError) as error:
        raise Unreadable(f"the source cannot be read: {getattr(error, 'strerror', None) or error}") from error
    with file:
        if status.st_size == 0:
            raise EmptyFile("the file is empty; copy or upload it again")
        if status.st_size > limits.max_bytes:
            raise FileTooLarge(f"{status.st_size} bytes are more than max_bytes ({limits.max_bytes})")
        yield file, status.st_size


def open_picture(file: BinaryIO, kind: Format, structure: Structure) -> Image.Image:
    """The picture, its header read by the one decoder that the content named, from what of the file it is to see."""
    source = cast(BinaryIO, Pieces(file, structure.pieces)) if structure.pieces else file
    source.seek(0)
    picture: Image.Image = getattr(importlib.import_module(kind.module), kind.decoder)(source)
    if kind.name == "jpeg" and picture.mode == "CMYK" and "adobe" not in picture.info:
        # Only Adobe's are stored as negatives, which Pillow takes all of them for.
        picture.tile = [tile._replace(args=("CMYK", "")) for tile in picture.tile]  # type: ignore[attr-defined]
    return picture


def exif_of(picture: Image.Image, kind: Format, structure: Structure) -> Image.Exif:
    """What the file says about the picture; empty when that is nothing, or broken: no reason to refuse a good one."""
    exif = Image.Exif()
    with suppress(Exception):
        exif.load(structure.exif or picture.info.get("exif") or b"")
    return exif


def orientation_of(picture: Image.Image, kind: Format, exif: Image.Exif) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or it cannot be read."""
    if kind.name == "heif":
        return 1  # its rotation is part of decoding, and its EXIF says what was, not what is to be done
    value = None
    with suppress(Exception):
        value = picture.tag_v2.get(_ORIENTATION) if kind.name == "tiff" else exif.get(_ORIENTATION)  # type: ignore[attr-defined]
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004


def _profile(picture: Image.Image, structure: Structure, exif: Image.Exif) -> bytes | None:
    """The colour profile: the file's own, or what it says in another way."""
    stated: bytes | None = picture.info.get("icc_profile") or structure.icc
    if stated or picture.mode != "RGB" or picture.format != "JPEG":
        return stated
    with suppress(Exception):  # as above
        details, interoperability = exif.get_ifd(_EXIF_IFD), exif.get_ifd(_INTEROPERABILITY_IFD)
        adobe = str(interoperability.get(1, "")).startswith("R03") and details.get(_COLOUR_SPACE) != _IS_SRGB
        if adobe or details.get(_COLOUR_SPACE) == _IS_ADOBE_RGB:
            return profiles.adobe_rgb()
    return None


def _check_tiff(picture: Image.Image, size_bytes: int) -> None:
    """Refuse camera raw files, whose first picture is a thumbnail, and files that end before their pixel data."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    if _DNG_VERSION in tags or (tags.get(_NEW_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in tags):
        raise UnsupportedFormat("the content is a camera raw file; export it as JPEG, TIFF or HEIC")
    for offsets, lengths in ((_STRIP_OFFSETS, _STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES)):
        # Here, because libtiff's error would not tell a file that was cut off from one that is damaged.
        known = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        if any(offset >= size_bytes or offset + length > size_bytes for offset, length in known):
            raise TruncatedImage("the TIFF ends before its pixel data does; copy the file again")
    _check_tiff_parts(picture)


def _check_tiff_parts(picture: Image.Image) -> None:
    """Refuse an uncompressed TIFF that does not say where all of its pixels are: Pillow leaves the others black, or
    takes the file's first bytes for them. libtiff sees for itself what a compressed one lacks."""
    tags, tiles = picture.tag_v2, picture.tile  # type: ignore[attr-defined]
    planes = len(picture.getbands()) if tags.get(_PLANAR_CONFIGURATION) == _PLANES_APART else 1
    covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), _, _ in tiles)
    listed = tags.get(_STRIP_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    if tiles and tiles[0].codec_name == "raw" and (covered < planes * picture.width * picture.height or 0 in listed):
        raise TruncatedImage("the TIFF does not say where all of its pixels are; copy the file again")


def _bits(picture: Image.Image, structure: Structure) -> int:
    """Bits a channel, as stored."""
    if structure.bits is not None:
        return structure.bits
    if hasattr(picture, "tag_v2"):
        return int(max(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    stated = picture.info.get("bit_depth")
    if isinstance(stated, int):
        return stated
    return 16 if picture.mode.startswith("I;16") else 8


def _describe(picture: Image.Image, kind: Format, structure: Structure, size_bytes: int) -> ImageInfo:
    exif = exif_of(picture, kind, structure)
    orientation = orientation_of(picture, kind, exif)
    profile = _profile(picture, structure, exif)
    if profile:
        picture.info["icc_profile"] = profile  # where the steps find it
    width, height = picture.size
    already_upright = kind.name == "tiff" and orientation in SWAPPING  # Pillow swaps the size of these itself
    stored = (height, width) if already_upright else (width, height)
    upright = (stored[1], stored[0]) if orientation in SWAPPING else stored
    metadata = structure.has_metadata or any(picture.info.get(key) for key in ("exif", "xmp", "comment"))
    return ImageInfo(
        format=kind.name,
        width=upright[0],
        height=upright[1],
        stored_width=stored[0],
        stored_height=stored[1],
        orientation=orientation,
        mode=picture.mode,
        bits=_bits(picture, structure),
        frames=max(structure.frames, int(getattr(picture, "n_frames", 1)) if kind.name in ("avif", "heif") else 1),
        has_alpha=picture.mode in _ALPHA_MODES or "transparency" in picture.info,
        has_metadata=metadata or kind.name == "tiff",
        srgb=color.is_srgb(picture.mode, profile),
        size_bytes=size_bytes,
        whole=structure.whole,
    )


@contextmanager
def opened(path: str | Path, limits: Limits) -> Iterator[tuple[BinaryIO, Image.Image, ImageInfo]]:
    """The open file, the picture with its header read, and what it is.

    Raises every refusal that does not need decoding: Unreadable, EmptyFile, FileTooLarge, UnsupportedFormat,
    CorruptImage, TruncatedImage, TooManyPixels, TooManyFrames, TooManyScans.
    """
    with open_file(path, limits) as (file, size_bytes):
        kind = sniff(file.read(SNIFF_BYTES))
        with decoding():
            structure = walk(file, kind.name, limits)
            picture = open_picture(file, kind, structure)
            check_pixels(picture.width, picture.height, limits)
            if kind.name == "tiff":
                _check_tiff(picture, size_bytes)
            info = _describe(picture, kind, structure, size_bytes)
            check_frames(info.frames, limits)  # of AVIF and HEIF only their decoders know them
        with picture:
            yield file, picture, info


def inspect_image(path: str | Path, limits: Limits | None = None) -> ImageInfo:
    """Describe an image from its header.

    Raises a ProxyError: unreadable, empty, too_large_file, unsupported_format, corrupt, truncated, too_many_pixels,
    too_many_frames, too_many_scans.
    """
    with opened(path, limits or Limits()) as (_, _, info):
        return info
