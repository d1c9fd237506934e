"""JPEG 2000 deeper than eight bits. Pillow's decoder rounds it to eight past white: what would be 256 becomes 0."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image, ImageChops

from include.imaging.boxes import squeezed_jp2
from include.imaging.pieces import Pieces

_WHITE_WHERE_ZERO = [255] + [0] * 255
_WHITE_FROM_THE_MIDDLE = [0] * 128 + [255] * 128


def with_its_white(image: Image.Image, file: BinaryIO) -> Image.Image:
    """A decoded picture whose white, and whose opaque, have become 0, with them where they were.

    Which zeros these are, a second decode tells, with black and white moved in from the ends. It is left out where
    there are no zeros.
    """
    channels = image.split()
    if all(channel.getextrema()[0] for channel in channels):
        return image
    squeezed: Image.Image = type(image)(Pieces(file, squeezed_jp2(file)))  # type: ignore[call-arg]
    squeezed.load()
    return Image.merge(image.mode, [_restored(*pair) for pair in zip(channels, squeezed.split(), strict=True)])


def _restored(channel: Image.Image, squeezed: Image.Image) -> Image.Image:
    """The channel, white where it is 0 and the squeezed one is bright."""
    lost = ImageChops.darker(channel.point(_WHITE_WHERE_ZERO), squeezed.point(_WHITE_FROM_THE_MIDDLE))
    return ImageChops.lighter(channel, lost)
