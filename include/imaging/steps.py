"""The steps by which a picture becomes a proxy: each a small function from an image to an image, over a frozen plan.

They rely on the order that `proxy.DECODE` and `proxy.FINISH` give them, and each says why it stands where it does.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

from PIL import Image, ImageFilter, ImageMath, features
from PIL.JpegImagePlugin import zigzag_index

from include.imaging import color, tiff
from include.imaging.classify import flatness
from include.imaging.containers import check_png_rows
from include.imaging.errors import CorruptImage
from include.imaging.inspection import decoding
from include.imaging.jp2 import with_its_white
from include.imaging.memory import check_room
from include.imaging.pieces import Pieces
from include.imaging.records import ImageInfo

# A JPEG is decoded at the smallest scale that leaves this much of the target. Below 3/2 the averaging of a scaled-down
# decode shows: from there down to 11/10 photographs lose 0.4 SSIMULACRA2 on average at 8 megapixels, for half of the
# CPU less, and 0.8 at 24, for an eighth less, but screenshots 1.5 to 2.4; below 11/10 photographs lose 1.5.
_ENOUGH, _ENOUGH_FOR_PHOTOGRAPHS = Fraction(3, 2), Fraction(11, 10)
# Share of the 16 commonest grays above which a JPEG shows a screen or a page. Photographs have 0.12 to 0.26, scanned
# letters 0.75, screenshots 0.96.
_FLAT_SHARE = 0.4
# How much larger than the target Pillow may leave an image by averaging before Lanczos: 2.0 costs nothing visible.
_REDUCING_GAP = 2.0
# Pixels of the proxy, of which it can hold no less than 2: at 4, photographs are 0.06 SSIMULACRA2 worse.
_DETAIL = 2.5
_THREE_EIGHTHS = Fraction(3, 8)
_SCAN, _LONGEST_SCAN_HEADER, _TABLES = b"\xff\xda\0", 16, 0xFFDB
_TWO_BYTES = 0x10  # for each step in a table
_AS_STORED = sorted(range(64), key=zigzag_index.__getitem__)
_SCALES = (Fraction(1), Fraction(1, 2), _THREE_EIGHTHS, Fraction(1, 4), Fraction(1, 8))
Box = tuple[float, float, float, float]
_SWAPPING = (5, 6, 7, 8)
_DECODER_ROTATES = frozenset({"tiff", "heif"})
_TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO = 262, 0
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Plan:
    """What is to become of one picture: known before its first pixel is decoded."""

    info: ImageInfo
    target: tuple[int, int]  # upright width and height of the proxy
    icc_profile: bytes | None
    text_kept: bool = False  # whether the target is larger than asked for, so that small text stays readable

    @property
    def turn(self) -> int:
        """The orientation that is still to be applied once the decoder has done its part."""
        return 1 if self.info.format in _DECODER_ROTATES else self.info.orientation

    @property
    def sideways(self) -> bool:
        """Whether the decoded picture still has to be turned by a quarter."""
        return self.turn in _SWAPPING

    @property
    def target_as_decoded(self) -> tuple[int, int]:
        """The proxy's width and height before it is turned upright."""
        return (self.target[1], self.target[0]) if self.turn in _SWAPPING else self.target

    @property
    def size_as_decoded(self) -> tuple[int, int]:
        """The picture's width and height before it is turned upright."""
        upright = (self.info.width, self.info.height)
        return (upright[1], upright[0]) if self.turn in _SWAPPING else upright


def decode(image: Image.Image, plan: Plan) -> Image.Image:
    """The first frame's pixels, as few of them as serve: a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough.

    The scale is chosen in stored orientation, which is all that the decoder knows.
    Raises CorruptImage, TruncatedImage, MemoryLimit.
    """
    with decoding():
        _check_memory(image, plan)
        if plan.info.format == "jpeg" and plan.target != (plan.info.width, plan.info.height):
            return _decode_scaled_down(image, plan)
        if plan.info.format == "tiff":
            tiff.prepare(image, plan.info.bits)
        file: Any = getattr(image, "fp", None)
        image.load()
        if image.size != plan.size_as_decoded and plan.info.format != "jpeg":
            raise CorruptImage(f"the header says {plan.size_as_decoded}, the picture is {image.size} pixels")
        if plan.info.format == "tiff":
            return tiff.finish(image)
        if plan.info.format == "png":
            check_last_row(image, file)
        if plan.info.format == "jp2" and plan.info.bits > 8 and not image.mode.startswith("I"):  # noqa: PLR2004
            return with_its_white(image, file)
    return image


def check_last_row(image: Image.Image, file: BinaryIO) -> None:
    """Where the last row of a decoded PNG is empty, see whether the file has it. Raises TruncatedImage."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    if last.getbbox(alpha_only=False) is None:
        check_png_rows(file)


def _decode_scaled_down(image: Image.Image, plan: Plan) -> Image.Image:
    """A JPEG's pixels at the smallest scale that its content bears, which shows once they are there: what turns out to
    be a screen or a page is decoded again where it matters."""
    file, tiles = image.fp, image.tile  # type: ignore[attr-defined]
    _draft(image, plan, _ENOUGH_FOR_PHOTOGRAPHS)
    image.load()
    enough = min(image.size) >= min(_times(plan.target_as_decoded, _ENOUGH))
    if enough or image.size == plan.size_as_decoded or flatness(image) < _FLAT_SHARE:
        return image
    file.seek(0)
    again: Image.Image = type(image)(file)  # type: ignore[call-arg]
    again.tile = tiles  # type: ignore[attr-defined]
    _draft(again, plan, _ENOUGH)
    again.load()
    return again


def _draft(image: Image.Image, plan: Plan, margin: Fraction) -> None:
    full = image.size
    image.draft("YCbCr" if _stored_as_ycbcr(image) else None, _times(plan.target_as_decoded, margin))
    at_half = image.size == _times(full, Fraction(1, 2))
    if at_half and min(_times(full, _THREE_EIGHTHS)) >= min(_times(plan.target_as_decoded, _ENOUGH)):
        _draft_three_eighths(image, full)
    elif image.size != full:
        _leave_out_what_folds_back(image)


def _leave_out_what_folds_back(image: Image.Image) -> None:
    """Of the 8 waves in each direction of a block, only as many as a scaled-down decode makes pixels of.

    libjpeg-turbo makes 1/2 and 1/4 by averaging pixels, in which finer waves fold back as patterns that were never
    there. They are read as nothing when their steps of quantisation are zeros: in tables behind the file's own, before
    the first scan. At 8 megapixels that brings 0.2 SSIMULACRA2, at 24 0.3, for no CPU.
    """
    file, kept = image.fp, 8 // image.decoderconfig[0]  # type: ignore[attr-defined]
    behind = file.tell()  # the header of the first scan, where Pillow has stopped reading
    start = max(0, behind - _LONGEST_SCAN_HEADER)
    file.seek(start)
    at = file.read(behind - start).rfind(_SCAN)
    if at < 0:
        return
    tables = b"".join(
        struct.pack(">B64H", _TWO_BYTES | number, *(steps[n] if n % 8 < kept > n // 8 else 0 for n in _AS_STORED))
        for number, steps in image.quantization.items()  # type: ignore[attr-defined]
    )
    segment = struct.pack(">HH", _TABLES, 2 + len(tables)) + tables
    end = file.seek(0, io.SEEK_END)
    image.fp = Pieces(file, ((0, start + at), segment, (start + at, end)))  # type: ignore[attr-defined]


def _draft_three_eighths(image: Image.Image, full: tuple[int, int]) -> None:
    """For 21 to 30 megapixels: libjpeg-turbo scales by eighths and makes three of them from a third, Pillow's `draft`
    only offers powers of two. These are the attributes that it sets. Saves a fifth of the CPU at 24 megapixels.
    """
    if not features.check_feature("libjpeg_turbo"):
        return
    size = _times(full, _THREE_EIGHTHS)
    image.tile = [tile._replace(extents=(0, 0, *size)) for tile in image.tile]  # type: ignore[attr-defined]
    image._size = size
    image.decoderconfig = (3, 0)  # type: ignore[attr-defined]


def _times(size: tuple[int, int], factor: Fraction) -> tuple[int, int]:
    return (math.ceil(size[0] * factor), math.ceil(size[1] * factor))


def _stored_as_ycbcr(image: Image.Image) -> bool:
    """Whether a JPEG certainly holds YCbCr; libjpeg cannot make it from the RGB that a few files hold."""
    if image.mode != "RGB":
        return False
    if "adobe_transform" in image.info:
        return bool(image.info["adobe_transform"] == 1)
    names = tuple(name for name, *_ in image.layer)  # type: ignore[attr-defined]
    return "jfif" in image.info or names == (1, 2, 3)


def _check_memory(image: Image.Image, plan: Plan) -> None:
    """Refuse a progressive JPEG whose coefficients, two bytes each, do not fit into the address space that is left.

    libjpeg holds all of them until the last scan, at any scale; when it gets no memory, Pillow reports broken data.
    """
    if plan.info.format != "jpeg" or not image.info.get("progressive"):
        return
    sampling = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]  # type: ignore[attr-defined]
    finest = max(horizontal for horizontal, _ in sampling) * max(vertical for _, vertical in sampling)
    per_pixel = 2 * sum(horizontal * vertical for horizontal, vertical in sampling) / finest
    check_room(int(image.width * image.height * per_pixel))


def to_eight_bits(image: Image.Image, plan: Plan) -> Image.Image:
    """L, LA, RGB, RGBA or CMYK at eight bits: what resizing, colour management and encoders work on. A JPEG's YCbCr
    stays what it is, from its decoder to the encoder.

    Before resizing, because palettes and bitonal images cannot be averaged.
    """
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        tags = getattr(image, "tag_v2", {})
        white_is_zero = tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
        gray = color.deep_gray_to_8_bit(image, plan.info.bits, white_is_zero)
        if "transparency" in image.info:  # Pillow knows what it means up to 8 bits only
            visible = image.convert("F").point(lambda value: value * 1.0 - image.info["transparency"])
            gray.putalpha(_where_not_zero(visible))
        return gray
    if plan.info.format == "png" and "transparency" in image.info:
        image.info["transparency"] = _as_eight_bits(image, plan.info.bits)
    if mode == "LAB":
        return color.lab_to_rgb(image)
    transparent = "transparency" in image.info
    if mode in ("1", "L"):
        return image.convert("LA" if transparent else "L")
    if mode in ("LA", "RGBA", "CMYK") or (mode == "YCbCr" and plan.info.format == "jpeg"):
        return image
    if mode in ("La", "RGBa"):
        return image.convert(mode.upper())
    return image.convert("RGBA" if transparent or mode == "PA" else "RGB")


def _where_not_zero(difference: Image.Image) -> Image.Image:
    """255 where an F image is not zero, else 0."""
    visible: Image.Image = ImageMath.lambda_eval(
        lambda args: args["convert"]((args["x"] != 0) * 255, "L"), x=difference
    )
    return visible


def _as_eight_bits(image: Image.Image, bits: int) -> object:
    """A PNG's transparent colour in the depth of the decoded pixels; Pillow leaves it in that of the file."""
    stated = image.info["transparency"]
    if image.mode == "L" and isinstance(stated, int) and bits < 8:  # noqa: PLR2004
        return stated * 255 // ((1 << bits) - 1)
    if image.mode == "RGB" and isinstance(stated, tuple) and bits == 16:  # noqa: PLR2004
        return tuple(value >> 8 for value in stated)
    return stated


def drop_opaque_alpha(image: Image.Image, plan: Plan) -> Image.Image:
    """Without an alpha channel that says nothing. Before resizing, which costs twice as much with one."""
    if image.mode not in ("LA", "RGBA"):
        return image
    faintest, strongest = image.getchannel("A").getextrema()
    unused = plan.info.format == "bmp" and strongest == 0  # what fills it up there is not meant: others ignore it too
    return image.convert(image.mode[:-1]) if faintest == 255 or unused else image  # noqa: PLR2004


def resize(image: Image.Image, plan: Plan) -> Image.Image:
    """The target size by Lanczos, after averaging down to twice the target. Transparent pixels lend no colour."""
    target = plan.target_as_decoded
    if plan.size_as_decoded == target:
        return image
    box = _picture_box(image, plan)
    if image.mode == "YCbCr":
        brightness = _sharpen(_lanczos(image.getchannel(0), target, box), image, plan)
        resized = _thin_out(image, target, box)
        resized.im.putband(brightness.im, 0)  # `merge` would take copies of all three, 1 ms at 2 megapixels
        return resized
    alpha_mode = image.mode if image.mode in ("LA", "RGBA") else None
    if alpha_mode:  # Pillow does this too, but then without reducing_gap
        image = image.convert({"LA": "La", "RGBA": "RGBa"}[alpha_mode])
    resized = _lanczos(image, target, box)
    return resized.convert(alpha_mode) if alpha_mode else _sharpen(resized, image, plan)


def _lanczos(image: Image.Image, target: tuple[int, int], box: Box) -> Image.Image:
    return image.resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP)


def _thin_out(image: Image.Image, target: tuple[int, int], box: Box) -> Image.Image:
    """Good enough for colours: averaged by a whole factor, then the nearest of what is left.

    The encoder averages each 2 x 2 of them next, as 4:2:0 asks for: no filter here shows in its result, and each costs
    as much as half of the brightness.
    """
    factor = int(min(image.width / target[0], image.height / target[1]))
    if factor > 1:
        image = image.reduce(factor)
        box = (0, 0, box[2] / factor, box[3] / factor)
    return image.resize(target, Image.Resampling.NEAREST, box=box)


def _sharpen(resized: Image.Image, decoded: Image.Image, plan: Plan) -> Image.Image:
    """Without the blur of a scaled-down decode, which takes the mean of 2 x 2, 4 x 4 or 8 x 8 pixels."""
    averaged = 1 / _decoded_at(decoded, plan)
    if averaged == 1 or averaged.denominator > 1:  # three eighths are no averaging
        return resized
    amount = sharpening(int(averaged), min(plan.size_as_decoded) / min(plan.target))
    kernel = (0, -amount, 0, -amount, 1 + 4 * amount, -amount, 0, -amount, 0)
    return resized.filter(ImageFilter.Kernel((3, 3), kernel, scale=1))


def sharpening(averaged: int, ratio: float) -> float:
    """How much of each neighbour to take away after averaging `averaged` pixels and shrinking by `ratio` in all.

    Exact for detail of `_DETAIL` of the proxy's pixels: taking the mean leaves sin(nx) / (n sin x) of a wave that long,
    the neighbours' share brings 1 + 2a (1 - cos w) back.
    """
    wave = 2 * math.pi / _DETAIL
    x = wave / (2 * ratio)
    left = math.sin(averaged * x) / (averaged * math.sin(x))
    return (1 / left - 1) / (2 * (1 - math.cos(wave)))


def _picture_box(image: Image.Image, plan: Plan) -> Box:
    """Where the picture lies in a decoded image: a scaled-down JPEG is rounded up to whole pixels, and to stretch that
    rest with it would shift everything by up to a pixel."""
    scale = _decoded_at(image, plan)
    width, height = plan.size_as_decoded
    return (0, 0, float(width * scale), float(height * scale))


def _decoded_at(image: Image.Image, plan: Plan) -> Fraction:
    """The scale of a decoded image. Raises CorruptImage when its size is none that its header leads to."""
    for scale in _SCALES:
        if image.size == _times(plan.size_as_decoded, scale):
            return scale
    raise CorruptImage(f"the header says {plan.size_as_decoded}, the picture is {image.size} pixels")


def turn_upright(image: Image.Image, plan: Plan) -> Image.Image:
    """As a person sees it. After resizing, when there are fewer pixels to move."""
    turn = _TURNS.get(plan.turn)
    return image if turn is None else image.transpose(turn)


def to_srgb(image: Image.Image, plan: Plan) -> Image.Image:
    """In sRGB. After resizing: 19 ms instead of 139 for 12 megapixels."""
    return color.to_srgb(image, plan.icc_profile)


def hide_hidden_colour(image: Image.Image, plan: Plan) -> Image.Image:
    """Black wherever nothing is visible: what was erased to transparent must not leave with the proxy."""
    if image.mode not in ("LA", "RGBA"):
        return image
    visible = image.getchannel("A").point([0] + [255] * 255)
    return Image.composite(image, Image.new(image.mode, image.size, 0), visible)


def forget_metadata(image: Image.Image, plan: Plan) -> Image.Image:
    """Pixels and nothing else: encoders copy comments, profiles and resolutions that they find in `info`."""
    return Image.Image()._new(image.im)
