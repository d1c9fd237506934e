"""Writing the proxy: the three formats that are made, and what each is asked for."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from include.imaging.recipe import ProxyOptions

# zlib's own default. Level 9, which `optimize=True` means, costs 3.5 to 10 times the CPU for 1 to 8 % fewer bytes.
_PNG_LEVEL = 6

# JPEG stays baseline with standard tables: optimised ones save 1 to 2 % of the bytes for twice the encoder's CPU,
# progressive ones 3 to 8 % for four to six times (10 to 20 ms, about what decoding a small photograph takes).


def encode(image: Image.Image, path: Path, name: str, options: ProxyOptions) -> None:
    """Write an L, LA, RGB or RGBA image to `path` as "jpeg", "png" or "webp". JPEG takes L, RGB and YCbCr only.

    To a real file: encoding to memory holds the interpreter lock from beginning to end, and threads then wait.
    Raises OSError.
    """
    with path.open("wb") as file:
        if name == "jpeg":
            image.save(file, format="JPEG", quality=options.quality, subsampling="4:2:0")
        elif name == "png":
            image.save(file, format="PNG", compress_level=_PNG_LEVEL)
        else:
            image.save(file, format="WEBP", lossless=True)
