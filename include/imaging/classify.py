"""Photograph or graphic? Flat colours, sharp edges and transparency want a lossless format, photographs want JPEG."""

from __future__ import annotations

from typing import Any

from PIL import Image

_SAMPLE_SIDE = 256
# Of how many of the commonest colours the share counts, and the share above which a picture is a graphic. Gray has no
# more than 256 colours, of which 16 would be a good part of any photograph. How often this is right:
# benchmarks/results/format_choice.md.
_COLOURED = (16, 0.33)
_GRAY = (4, 0.48)


def flatness(image: Image.Image) -> float:
    """The share, 0 to 1, of the 16 commonest grays in a sample of a decoded JPEG."""
    sample = _sample(image)
    gray = sample.getchannel(0) if sample.mode == "YCbCr" else sample.convert("L")
    return _share(_colours(gray), _COLOURED[0])


def _looks_flat(image: Image.Image) -> bool:
    """Whether few colours make up most of the picture. Takes an L, RGB or CMYK image."""
    colours = _colours(_sample(image))
    gray = image.mode == "L" or (image.mode == "RGB" and all(r == g == b for _, (r, g, b) in colours))
    commonest, share = _GRAY if gray else _COLOURED
    return _share(colours, commonest) > share


def _sample(image: Image.Image) -> Image.Image:
    """256 x 256 pixels, which are not averaged: blending would invent colours in graphics."""
    sides = (min(_SAMPLE_SIDE, image.width), min(_SAMPLE_SIDE, image.height))
    return image.resize(sides, Image.Resampling.NEAREST)


def _colours(sample: Image.Image) -> list[Any]:
    """(count, colour) of a sample."""
    return sample.getcolors(sample.width * sample.height) or []


def _share(colours: list[Any], commonest: int) -> float:
    counts = sorted((count for count, _ in colours), reverse=True)
    return float(sum(counts[:commonest]) / sum(counts))


def is_graphic(image: Image.Image, source_format: str) -> bool:
    """Whether to write the picture losslessly. Takes an image before resizing, at eight bits, and with an alpha channel
    only if that says something.

    What was a JPEG stays one: its first encoding blurred its edges already, and a PNG would keep the traces of that at
    2.5 times the bytes (1.2 MB instead of 0.47 for a 4K page of text).
    """
    if source_format == "jpeg":
        return False
    return image.mode in ("LA", "RGBA") or _looks_flat(image)
