"""Photograph or graphic? Flat colours, sharp edges and transparency want a lossless format, photographs want JPEG."""

from __future__ import annotations

from PIL import Image

_SAMPLE_SIDE = 256
_COMMONEST = 16
# Share of a sample's pixels that have one of its 16 commonest colours: above it, a graphic. Right for 97.7 % of 88
# files (photographs, screenshots, text pages, drawings).
_GRAPHIC_SHARE = 0.33


def flatness(image: Image.Image) -> float:
    """The share, 0 to 1, of the 16 commonest colours in a sample of 256 x 256 pixels.

    Takes an L, RGB or CMYK image. The sample is not averaged: blending would invent colours in graphics.
    """
    sides = (min(_SAMPLE_SIDE, image.width), min(_SAMPLE_SIDE, image.height))
    sample = image.resize(sides, Image.Resampling.NEAREST)
    counts = sorted((count for count, _ in sample.getcolors(sides[0] * sides[1]) or ()), reverse=True)
    return sum(counts[:_COMMONEST]) / (sides[0] * sides[1])


def is_graphic(image: Image.Image, source_format: str) -> bool:
    """Whether to write the picture losslessly. Takes an image before resizing, at eight bits, and with an alpha channel
    only if that says something.

    What was a JPEG stays one: its first encoding blurred its edges already, and a PNG would keep the traces of that at
    2.5 times the bytes (1.2 MB instead of 0.47 for a 4K page of text).
    """
    if source_format == "jpeg":
        return False
    return image.mode in ("LA", "RGBA") or flatness(image) > _GRAPHIC_SHARE
