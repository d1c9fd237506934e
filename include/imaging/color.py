"""Colour: eight bits a channel from anything, and sRGB from any profile."""

from __future__ import annotations

import io
import math
from functools import lru_cache

from PIL import Image, ImageCms, ImageMath

_SRGB_TOLERANCE = 2  # levels of 255 by which sRGB profiles from different makers differ
_USED = 1 / 16  # of a range, by values that are meant for it
_ALPHA_MODES = {"LA": "L", "RGBA": "RGB"}


# -- depth -------------------------------------------------------------------------------------------------------------


def tone_range(low: float, high: float, bits: int | None = None) -> tuple[float, float]:
    """The values that become black and white, for pixels between `low` and `high` that may have any unit.

    The narrowest convention that holds them all is taken: the stated number of bits, 0..1 for floating point, 0..255,
    0..65535. What fits none (elevations, negative values) is stretched from its lowest to its highest value, and what
    would use next to nothing of 0..255 or 0..65535 (12 bits, a 1.001 of sharpening) from zero to its highest.
    """
    if bits is not None and low >= 0 and high < 2**bits:
        return 0.0, 2.0**bits - 1
    if low < 0 or high > 65535.0:  # noqa: PLR2004
        return low, high
    if high <= 1.0:
        return 0.0, 1.0
    white = 255.0 if high <= 255.0 else 65535.0  # noqa: PLR2004
    return 0.0, white if high > white * _USED else high


def _scale_to_gray(image: Image.Image, black: float, white: float) -> Image.Image:
    """An I or F image as L, with `black` at 0 and `white` at 255, rounded to nearest; `black` may be the larger."""
    scale = 255.0 / ((white - black) or 1.0)
    offset = 0.5 - black * scale
    # Pillow recognises only this shape of function for I and F, and convert("L") clips and cuts off the fraction.
    return image.convert("F").point(lambda value: value * scale + offset).convert("L")


def deep_gray_to_8_bit(image: Image.Image, bits: int | None, white_is_zero: bool = False) -> Image.Image:
    """16-bit, 32-bit and floating-point gray as L, without clipping; convert("L") alone turns 16 bits white.

    `bits` is the stated depth where one is known: 12 bits stored in 16 are not four times too dark.
    """
    if image.mode.startswith("I;16"):
        image = image.convert("I")
        bits = bits or 16
    else:  # 16 bits that do not come as such have a sign, which leaves 15; more are no range that anything keeps to
        bits = 15 if image.mode == "I" and bits == 16 else None  # noqa: PLR2004
    extrema = image.getextrema()
    low, high = float(extrema[0]), float(extrema[1])  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        image, low, high = _finite(image), 0.0, 1.0
    black, white = tone_range(low, high, bits)
    return _scale_to_gray(image, *((white, black) if white_is_zero else (black, white)))


def _finite(image: Image.Image) -> Image.Image:
    """Infinities and not-a-number as 1 and 0: such data has no range to speak of, and is taken for 0..1."""
    # In this order: both pick their second operand when the first is not a number.
    finite: Image.Image = ImageMath.lambda_eval(lambda args: args["min"](args["max"](args["x"], 0.0), 1.0), x=image)
    return finite


# -- profiles ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=32)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB for pixels in `mode`, or None when the profile is broken or made for other pixels.

    Cached by the profile's bytes: a folder of pictures from one camera builds it once.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        wanted = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[mode]
        if profile.profile.xcolor_space.strip() != wanted:
            return None
        return ImageCms.buildTransform(
            profile,
            _srgb(),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError, TypeError):
        return None


def _probe(mode: str) -> Image.Image:
    """The colours by which a profile is judged: a cube of 4 x 4 x 4 of RGB, or 64 grays."""
    if mode == "L":
        return Image.frombytes("L", (64, 1), bytes(range(0, 256, 4)))
    steps = (0, 85, 170, 255)
    cube = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
    return Image.frombytes("RGB", (64, 1), cube)


@lru_cache(maxsize=64)
def _changes_nothing(icc: bytes, mode: str) -> bool:
    transform = _transform(icc, mode)
    if transform is None:
        return True  # a profile that cannot be used is no profile
    probe = _probe(mode)
    before, after = probe.convert("RGB").tobytes(), ImageCms.applyTransform(probe, transform).tobytes()  # type: ignore[union-attr]
    return all(abs(x - y) <= _SRGB_TOLERANCE for x, y in zip(before, after, strict=True))


def profile_mode(mode: str, icc: bytes) -> str:
    """The mode in which pixels of `mode` meet this profile: gray pixels may carry an RGB profile."""
    base = _ALPHA_MODES.get(mode, mode)
    if base == "CMYK":
        return "CMYK"
    return "L" if base[0] in "1LIF" and icc[16:20] == b"GRAY" else "RGB"


def is_srgb(mode: str, icc: bytes | None) -> bool:
    """Whether pixels of `mode` with this profile already are sRGB: no profile, an unusable one, or one that changes no
    probe colour by more than two levels. Names are not believed; CMYK never is."""
    if mode in ("CMYK", "LAB"):
        return False
    return not icc or _changes_nothing(icc, profile_mode(mode, icc))


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* as sRGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    converted = ImageCms.profileToProfile(image, lab, _srgb(), outputMode="RGB")
    assert converted is not None  # noqa: S101 - only None when asked to work in place
    return converted


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """An L, LA, RGB, RGBA or CMYK image in sRGB, as L, LA, RGB or RGBA. A profile that cannot be used is ignored.

    Gray stays gray. CMYK without a profile is converted by the plain formula, as browsers do.
    """
    if icc is None or is_srgb(image.mode, icc):
        return image.convert("RGB") if image.mode == "CMYK" else image
    base_mode = _ALPHA_MODES.get(image.mode, image.mode)
    alpha = image.getchannel("A") if image.mode in _ALPHA_MODES else None
    working = profile_mode(image.mode, icc)
    transform = _transform(icc, working)
    base = image if alpha is None else image.convert(base_mode)
    if transform is None:
        converted = base.convert("RGB")
    else:
        applied = ImageCms.applyTransform(base.convert(working), transform)
        assert applied is not None  # noqa: S101 - only None when asked to work in place
        converted = applied
    if base_mode == "L":
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
