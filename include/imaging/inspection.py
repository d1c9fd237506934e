"""What a file is, from its headers: nothing is decoded, and every limit that headers can tell is checked."""

from __future__ import annotations

import importlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from include.imaging import color
from include.imaging.containers import Structure, walk
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
from include.imaging.recipe import Limits
from include.imaging.records import ImageInfo
from include.imaging.strip import without_png_text

_ORIENTATION = 274  # TIFF 6.0 and EXIF
_BITS_PER_SAMPLE, _STRIP_OFFSETS, _STRIP_BYTES, _SUB_IFDS = 258, 273, 279, 330
_TILE_OFFSETS, _TILE_BYTES, _NEW_SUBFILE_TYPE, _DNG_VERSION = 324, 325, 254, 50706
_SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height
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
    if isinstance(error, OSError) and error.errno is not None:
        return Unreadable(f"reading the file failed: {error.strerror}")
    if any(words in lowered for words in ("out of memory", "memory allocation", "bad_alloc", "cannot allocate")):
        return MemoryLimit(f"decoding needs more memory than memory_bytes allows ({text}); raise the limit")
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


def _open_picture(file: BinaryIO, kind: Format, structure: Structure) -> Image.Image:
    """The picture, its header read by the one decoder that the content named."""
    source: BinaryIO = file
    if structure.has_text and kind.name == "png":
        source = io.BytesIO()
        without_png_text(file, source)
    source.seek(0)
    if kind.name == "heif":  # the class itself: registering it would change Pillow for everybody in this process
        from pillow_heif.as_plugin import HeifImageFile

        picture: Image.Image = HeifImageFile(source)  # type: ignore[no-untyped-call]
        return picture
    importlib.import_module(kind.pillow_plugin)  # or Pillow imports all of its plugins to find one
    try:
        return Image.open(source, formats=(kind.pillow_name,))
    except UnidentifiedImageError:
        raise _why_not(source, kind) from None


def _why_not(file: BinaryIO, kind: Format) -> ProxyError:
    """Image.open() keeps the decoder's reason to itself; ask the decoder."""
    file.seek(0)
    try:
        Image.OPEN[kind.pillow_name][0](file, "")
    except (SyntaxError, NotImplementedError) as error:
        if "unknown pixel mode" in str(error) or isinstance(error, NotImplementedError):
            return UnsupportedFormat(f"a variant of {kind.name.upper()} that is not read; export it as 8 or 16 bit RGB")
        return _refusal(error)
    except Exception as error:
        return _refusal(error)
    return CorruptImage(f"the file begins like {kind.name.upper()} but cannot be read as such")


def _orientation(picture: Image.Image, kind: Format, structure: Structure) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or it cannot be read."""
    if kind.name == "heif":
        return 1  # its rotation is part of decoding, and its EXIF says what was, not what is to be done
    try:
        if kind.name == "tiff":
            value = picture.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
        else:
            exif = Image.Exif()
            exif.load(structure.exif or picture.info.get("exif") or b"")
            value = exif.get(_ORIENTATION)
    except Exception:  # broken EXIF is no reason to refuse a good picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004


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
    orientation = _orientation(picture, kind, structure)
    width, height = picture.size
    already_upright = kind.name == "tiff" and orientation in _SWAPPING  # Pillow swaps the size of these itself
    stored = (height, width) if already_upright else (width, height)
    upright = (stored[1], stored[0]) if orientation in _SWAPPING else stored
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
        srgb=color.is_srgb(picture.mode, picture.info.get("icc_profile")),
        size_bytes=size_bytes,
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
            picture = _open_picture(file, kind, structure)
            pixels = picture.width * picture.height
            if pixels > limits.max_pixels:
                raise TooManyPixels(f"{picture.width} x {picture.height} pixels are more than {limits.max_pixels}")
            if kind.name == "tiff":
                _check_tiff(picture, size_bytes)
            info = _describe(picture, kind, structure, size_bytes)
        with picture:
            yield file, picture, info


def inspect_image(path: str | Path, limits: Limits | None = None) -> ImageInfo:
    """Describe an image from its header.

    Raises a ProxyError: unreadable, empty, too_large_file, unsupported_format, corrupt, truncated, too_many_pixels,
    too_many_frames, too_many_scans.
    """
    with opened(path, limits or Limits()) as (_, _, info):
        return info
