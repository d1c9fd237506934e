"""TIFFs that Pillow's reader takes for others: put right before and after it decodes them."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImagePalette

from include.imaging.errors import UnsupportedFormat

_COLOUR_MAP, _PLANAR, _APART = 320, 284, 2
# What libtiff hands over is in this machine's byte order, whatever the file's is; Pillow knows that of some.
_IN_NATIVE_ORDER = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
_OTHER_SIGN = [(value + 128) % 256 for value in range(256)]


def prepare(image: Any, bits: int) -> None:
    """Set up a TIFF, its header read, so that it is decoded as what it is. Raises UnsupportedFormat."""
    image.info.pop("xmp", None)  # or an orientation in XMP, which nobody else follows, turns it on loading
    if _planes_apart(image):
        if image.mode in ("LA", "La", "PA"):
            raise UnsupportedFormat("a TIFF of gray and alpha in planes; export it with its channels interleaved")
        _leave_deep_planes_to_libtiff(image, bits)
    _take_numbers_for_what_they_are(image)
    _believe_small_colour_maps(image)


def finish(image: Image.Image) -> Image.Image:
    """A decoded TIFF, its colours as the rest of this room knows them."""
    if image.mode == "LAB" and _planes_apart(image):  # Pillow turns the signs round only where channels are interleaved
        light, *colours = image.split()
        return Image.merge("LAB", (light, *(colour.point(_OTHER_SIGN) for colour in colours)))
    return image


def _planes_apart(image: Any) -> bool:
    return bool(image.tag_v2.get(_PLANAR) == _APART)


def _leave_deep_planes_to_libtiff(image: Any, bits: int) -> None:
    """Uncompressed planes of 16 bits, which Pillow's own reader takes for twice as many pixels of 8 bits."""
    if bits != 16 or image.tile[0].codec_name != "raw" or len(image.getbands()) == 1:  # noqa: PLR2004
        return
    args = (f"{image.mode};16N", False, image.tag_v2._offset)
    image.tile = [image.tile[0]._replace(codec_name="libtiff", extents=(0, 0, *image._tile_size), offset=0, args=args)]
    image.use_load_libtiff = True


def _take_numbers_for_what_they_are(image: Any) -> None:
    """Whole numbers of 32 bits without a sign, which Pillow takes for signed ones, whose upper half is negative; and
    numbers that libtiff has already turned round."""
    first = image.tile[0]
    if first.args[0] == "I;32N":
        image._mode, right = "F", "F;32N"
    elif first.codec_name == "libtiff" and first.args[0] in _IN_NATIVE_ORDER:
        right = _IN_NATIVE_ORDER[first.args[0]]
    else:
        return
    image.tile = [tile._replace(args=(right, *tile.args[1:])) for tile in image.tile]


def _believe_small_colour_maps(image: Any) -> None:
    """Colour maps in 0..255, which old programs wrote: as 0..65535, which is the rule, they would all be black."""
    colours = image.tag_v2.get(_COLOUR_MAP, ())
    if image.mode in ("P", "PA") and max(colours, default=0) < 256:  # noqa: PLR2004
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))
