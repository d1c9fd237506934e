"""Colour that is wrong is worse than a picture that is missing: Nova describes it with the same confidence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageCms

from include.imaging import create_proxy
from include.imaging.color import deep_gray_to_8_bit, is_srgb, to_srgb, tone_range
from tests.imaging import pictures
from tests.imaging.pictures import near

SIZE = (32, 32)


@pytest.mark.parametrize(
    ("low", "high", "bits", "expected"),
    [
        (0, 4000, 12, (0, 4095)),  # 12 bits in 16 are not nearly black
        (0, 60_000, 16, (0, 65_535)),
        (0.1, 0.9, None, (0, 1)),
        (0, 200, None, (0, 255)),
        (0, 40_000, None, (0, 65_535)),
        (-400, 8000, None, (-400, 8000)),  # elevations
        (0, 1e6, None, (0, 1e6)),
        (0, 70_000, 16, (0, 70_000)),  # more than the stated bits hold
        (0.0, 1.0001, None, (0.0, 1.0001)),  # a little beyond white, as sharpening leaves it: not the darkest of 0..255
        (0.0, 20.0, None, (0.0, 255.0)),  # a dark picture stays dark
        (0.0, 256.0, None, (0.0, 256.0)),
        (0.0, 4095.0, None, (0.0, 4095.0)),
    ],
)
def test_tone_range(low: float, high: float, bits: int | None, expected: tuple[float, float]) -> None:
    assert tone_range(low, high, bits) == expected


@pytest.mark.parametrize(("value", "gray"), [(0, 0), (257, 1), (32_896, 128), (65_535, 255)])
@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_gray_is_scaled_not_clipped(mode: str, value: int, gray: int) -> None:
    assert deep_gray_to_8_bit(Image.new(mode, SIZE, value), 16).getpixel((0, 0)) == gray


def test_white_is_zero_is_turned_round() -> None:
    assert deep_gray_to_8_bit(Image.new("I;16", SIZE, 65_535), 16, white_is_zero=True).getpixel((0, 0)) == 0
    assert deep_gray_to_8_bit(Image.new("I;16", SIZE, 0), 16, white_is_zero=True).getpixel((0, 0)) == 255


def test_floats_keep_their_tones() -> None:
    image = Image.new("F", SIZE, 0.5)
    assert deep_gray_to_8_bit(image, 32).getpixel((0, 0)) == 128
    image.putpixel((1, 0), -2.0)
    image.putpixel((2, 0), 3.0)
    gray = deep_gray_to_8_bit(image, 32)
    assert [gray.getpixel((x, 0)) for x in range(3)] == [128, 0, 255]


def test_floats_that_are_no_numbers_do_no_harm() -> None:
    image = Image.new("F", SIZE, 0.5)
    for x, value in enumerate((float("nan"), float("inf"), float("-inf"))):
        image.putpixel((x, 0), value)
    gray = deep_gray_to_8_bit(image, 32)
    assert [gray.getpixel((x, 0)) for x in range(4)] == [0, 255, 0, 128]


def test_constant_values_do_not_divide_by_zero() -> None:
    assert deep_gray_to_8_bit(Image.new("I", SIZE, -5), None).getextrema()[0] in range(256)


def test_profiles_are_judged_by_effect_not_by_name() -> None:
    assert is_srgb("RGB", pictures.srgb())
    assert is_srgb("RGB", None)
    assert not is_srgb("RGB", pictures.adobe_rgb())
    assert not is_srgb("RGBA", pictures.display_p3())
    assert not is_srgb("L", pictures.gray_profile(1.0))
    assert not is_srgb("CMYK", None)


@pytest.mark.parametrize("profile", [b"", b"x", b"\0" * 200, pictures.gray_profile(2.2), pictures.srgb()[:300]])
def test_a_profile_that_cannot_be_used_is_none(profile: bytes) -> None:
    image = Image.new("RGB", SIZE, (10, 200, 30))
    assert to_srgb(image, profile).getpixel((0, 0)) == (10, 200, 30)


def test_adobe_rgb_green_is_more_than_srgb_shows() -> None:
    """(60, 160, 60) in Adobe RGB, by its specification: linear 0.0414, 0.3588, 0.0414, which is outside sRGB's red."""
    pixel = to_srgb(Image.new("RGB", SIZE, (60, 160, 60)), pictures.adobe_rgb()).getpixel((0, 0))
    assert near(pixel, (0, 160, 51), 4)


def test_neutral_gray_stays_neutral() -> None:
    pixel = to_srgb(Image.new("RGB", SIZE, (128, 128, 128)), pictures.display_p3()).getpixel((0, 0))
    assert near(pixel, (128, 128, 128))


def test_alpha_is_not_a_colour() -> None:
    pixel = to_srgb(Image.new("RGBA", SIZE, (60, 160, 60, 77)), pictures.adobe_rgb()).getpixel((0, 0))
    assert near(pixel, (0, 160, 51, 77), 4)
    pixel = to_srgb(Image.new("LA", SIZE, (128, 77)), pictures.gray_profile(1.0)).getpixel((0, 0))
    assert near(pixel, (188, 77))


def test_linear_gray_becomes_srgb_gray() -> None:
    converted = to_srgb(Image.new("L", SIZE, 128), pictures.gray_profile(1.0))
    assert converted.mode == "L"
    assert near(converted.getpixel((0, 0)), 188)  # sRGB's transfer function at 128/255


def test_gray_pixels_with_an_rgb_profile() -> None:
    """Common from raw converters: the profile's curve counts, its primaries do not."""
    converted = to_srgb(Image.new("L", SIZE, 40), pictures.rgb_profile(
        (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), 1.0
    ))  # fmt: skip
    assert converted.mode == "L"
    assert near(converted.getpixel((0, 0)), 110)


def test_cmyk_without_a_profile(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    Image.new("CMYK", SIZE, (0, 255, 255, 0)).save(source, quality=95)
    result = create_proxy(source, tmp_path / "b")
    with Image.open(tmp_path / "b") as image:
        assert (result.action, image.mode) == ("converted", "RGB")
        assert near(image.convert("RGB").getpixel((5, 5)), (255, 0, 0), 6)


def test_cmyk_with_an_rgb_profile_is_not_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    Image.new("CMYK", SIZE, (0, 0, 0, 255)).save(source, quality=95, icc_profile=pictures.adobe_rgb())
    create_proxy(source, tmp_path / "b")
    with Image.open(tmp_path / "b") as image:
        assert near(image.convert("RGB").getpixel((5, 5)), (0, 0, 0), 6)


def test_lab(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(
        Image.new("RGB", SIZE, (200, 40, 60)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    lab.save(tmp_path / "a.tif")
    create_proxy(tmp_path / "a.tif", tmp_path / "b")
    with Image.open(tmp_path / "b") as image:
        assert near(image.convert("RGB").getpixel((5, 5)), (200, 40, 60), 4)
