"""The steps by which a picture becomes a proxy: each a small function from an image to an image, over a frozen plan.

They rely on the order that `proxy.DECODE` and `proxy.FINISH` give them, and each says why it stands where it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from include.imaging import color
from include.imaging.errors import CorruptImage
from include.imaging.inspection import decoding
from include.imaging.memory import check_room
from include.imaging.records import ImageInfo

# Decode at the smallest scale that leaves this much of the target, as a ratio of halves: at 1.5 the loss against a full
# decode is at most 0.5 SSIMULACRA2, at 1.0 it is 1.3.
_DRAFT_NUMERATOR, _DRAFT_DENOMINATOR = 3, 2
# How much larger than the target Pillow may leave an image by averaging before Lanczos: 2.0 costs nothing visible.
_REDUCING_GAP = 2.0
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
            wanted = [-(-side * _DRAFT_NUMERATOR // _DRAFT_DENOMINATOR) for side in plan.target_as_decoded]
            image.draft(None, (wanted[0], wanted[1]))
        if plan.info.format == "tiff":
            image.info.pop("xmp", None)  # or an orientation in XMP, which nobody else follows, turns it on loading
        image.load()
        if image.size != plan.size_as_decoded and plan.info.format != "jpeg":
            raise CorruptImage(f"the header says {plan.size_as_decoded}, the picture is {image.size} pixels")
    return image


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
    """L, LA, RGB, RGBA or CMYK at eight bits: what resizing, colour management and encoders work on.

    Before resizing, because palettes and bitonal images cannot be averaged.
    """
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        tags = getattr(image, "tag_v2", {})
        white_is_zero = tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
        return color.deep_gray_to_8_bit(image, plan.info.bits, white_is_zero)
    if mode == "LAB":
        return color.lab_to_rgb(image)
    transparent = "transparency" in image.info
    if mode in ("1", "L"):
        return image.convert("LA" if transparent else "L")
    if mode in ("LA", "RGBA", "CMYK"):
        return image
    if mode in ("La", "RGBa"):
        return image.convert(mode.upper())
    return image.convert("RGBA" if transparent or mode == "PA" else "RGB")


def drop_opaque_alpha(image: Image.Image, plan: Plan) -> Image.Image:
    """Without an alpha channel that says nothing. Before resizing, which costs twice as much with one."""
    if image.mode not in ("LA", "RGBA") or image.getchannel("A").getextrema()[0] != 255:  # noqa: PLR2004
        return image
    return image.convert(image.mode[:-1])


def resize(image: Image.Image, plan: Plan) -> Image.Image:
    """The target size by Lanczos, after averaging down to twice the target. Transparent pixels lend no colour."""
    target = plan.target_as_decoded
    if plan.size_as_decoded == target:
        return image
    alpha_mode = image.mode if image.mode in ("LA", "RGBA") else None
    if alpha_mode:  # Pillow does this too, but then without reducing_gap
        image = image.convert({"LA": "La", "RGBA": "RGBa"}[alpha_mode])
    image = image.resize(target, Image.Resampling.LANCZOS, box=_picture_box(image, plan), reducing_gap=_REDUCING_GAP)
    return image.convert(alpha_mode) if alpha_mode else image


def _picture_box(image: Image.Image, plan: Plan) -> tuple[float, float, float, float]:
    """Where the picture lies in a decoded image: a scaled-down JPEG is rounded up to whole pixels, and to stretch that
    rest with it would shift everything by up to a pixel."""
    width, height = plan.size_as_decoded
    for scale in (1, 2, 4, 8):
        if image.size == (-(-width // scale), -(-height // scale)):
            return (0, 0, width / scale, height / scale)
    raise CorruptImage(f"the header says {width} x {height}, the picture is {image.size} pixels")


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
    clean = Image.new(image.mode, image.size)
    clean.im = image.im
    return clean
