"""JPEG XL, by the decoder inside pillow-jxl-plugin.

Its Pillow plugin is left alone: importing it would change Pillow for everybody in this process.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin

from include.imaging.boxes import jxl_dimensions
from include.imaging.errors import CorruptImage, UnsupportedFormat
from include.imaging.memory import check_room

# Measured: 10 (colour) to 22 (lossless with transparency). Checked beforehand because libjxl ends the process when it
# gets no memory, and that would be called a crash.
_BYTES_PER_PIXEL = 24
_MODES = frozenset({"L", "LA", "RGB", "RGBA", "I;16", "F"})


@lru_cache(maxsize=1)
def extension() -> Any:
    """The extension module of the package, without the package."""
    package = importlib.util.find_spec("pillow_jxl")
    if package is None or not package.submodule_search_locations:
        raise UnsupportedFormat("JPEG XL needs the package pillow-jxl-plugin, which is not installed")
    folder = Path(package.submodule_search_locations[0])
    found = next(path for path in sorted(folder.iterdir()) if path.suffix in (".so", ".pyd"))
    spec = importlib.util.spec_from_file_location("pillow_jxl", found)
    assert spec is not None and spec.loader is not None  # noqa: S101 - for the type checker
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _eight_bits_of_gray_and_alpha(data: bytes, pixels: int) -> bytes:
    """The upper bytes of 16 bits: the decoder calls these LA too, where it makes 8 bits of deep colour."""
    if len(data) == 2 * pixels:
        return data
    if len(data) == 4 * pixels:
        return data[1::2] if sys.byteorder == "little" else data[::2]
    raise UnsupportedFormat(
        "a variant of JPEG XL that is not read (gray and alpha of 32 bits); export it as 8 or 16 bit"
    )


def open_jxl(file: BinaryIO) -> Image.Image:
    """The picture in a JPEG XL file, decoded at once: the decoder knows no other way.

    It is upright, except for what was a JPEG: that comes back as the JPEG it was, with the orientation in its EXIF.

    Raises MemoryLimit, CorruptImage, UnsupportedFormat, and what Pillow's JPEG decoder raises.
    """
    width, height = jxl_dimensions(file)
    check_room(width * height * _BYTES_PER_PIXEL)
    file.seek(0)
    try:
        was_jpeg, info, data, profile, _ = extension().Decoder(num_threads=0)(file.read())
    except (RuntimeError, ValueError) as error:
        raise CorruptImage("the JPEG XL data is damaged or cut short; copy the file again") from error
    if was_jpeg:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if info.mode not in _MODES:
        raise UnsupportedFormat(f"a variant of JPEG XL that is not read ({info.mode}); export it as 8 or 16 bit RGB")
    if info.mode == "LA":
        data = _eight_bits_of_gray_and_alpha(data, info.width * info.height)
    picture = Image.frombytes(info.mode, (info.width, info.height), data)
    if profile:
        picture.info["icc_profile"] = bytes(profile)
    return picture
