"""The steps whose short cuts must not show: each against the plain way."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from include.imaging import Limits, ProxyOptions, calculate_target_dimensions, create_proxy
from include.imaging.inspection import opened
from include.imaging.steps import Plan, decode, sharpening
from tests.imaging.pictures import near, photo, saved, text_page

SMALL = ProxyOptions(target_short_side=256)
SAMPLES = Path(__file__).resolve().parents[2] / "include" / "samples"
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 200, 30))


def _proxy(source: Path) -> Image.Image:
    create_proxy(source, source.with_name("proxy"), SMALL)
    with Image.open(source.with_name("proxy")) as image:
        return image.convert("RGB")


def _difference(image: Image.Image, other: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(image, other)).rms)


@pytest.mark.parametrize("size", [(340, 340), (700, 700), (1101, 1101), (1150, 1150), (2500, 2500)])
@pytest.mark.parametrize(
    "how",
    [{"subsampling": "4:2:0"}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"keep_rgb": True}],
    ids=["4:2:0", "4:4:4", "4:2:2", "stored as RGB"],
)
def test_colours_of_a_jpeg_survive_at_every_scale(
    tmp_path: Path, size: tuple[int, int], how: dict[str, object]
) -> None:
    picture = Image.new("RGB", size)
    for index, colour in enumerate(COLOURS):
        picture.paste(colour, (index * size[0] // 4, 0, (index + 1) * size[0] // 4, size[1]))
    image = _proxy(saved(tmp_path / "a", picture, format="JPEG", quality=95, **how))
    for index, colour in enumerate(COLOURS):
        assert near(image.getpixel((32 + 64 * index, 100)), colour, 4)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("short_side", [330, 620, 860, 1133, 1250, 2448])
def test_a_scaled_down_decode_looks_like_a_full_one(tmp_path: Path, short_side: int, mode: str) -> None:
    with Image.open(SAMPLES / "picosdeeuropa.jpg") as image:
        picture = image.convert(mode).resize((short_side * 4 // 3, short_side))
    proxy = _proxy(saved(tmp_path / "a", picture, format="JPEG", quality=95))
    expected = saved(
        tmp_path / "plain", picture.resize(proxy.size, Image.Resampling.LANCZOS), format="JPEG", quality=85
    )
    with Image.open(expected) as plain:
        assert _difference(proxy, plain.convert("RGB")) < 7


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_page_is_decoded_at_a_larger_scale_than_a_photograph(tmp_path: Path, mode: str) -> None:
    """At 700 pixels, 2.7 times the target: half of that is enough for a photograph only."""
    options = ProxyOptions(target_short_side=256)
    for picture, expected in ((photo(1000, 700), (500, 350)), (text_page(1000, 700), (1000, 700))):
        path = saved(tmp_path / "a", picture.convert(mode), format="JPEG", quality=92)
        with opened(path, Limits()) as (_, header, info):
            target = calculate_target_dimensions(1000, 700, options.target_short_side)
            assert decode(header, Plan(info, target, None)).size == expected


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"keep_rgb": True}])
@pytest.mark.parametrize("short_side", [1030, 1051, 1057])
def test_three_eighths_of_a_jpeg_are_enough_between_a_half_and_a_quarter(
    tmp_path: Path, short_side: int, how: dict[str, object]
) -> None:
    path = saved(tmp_path / "a", photo(1601, short_side), format="JPEG", **how)
    with opened(path, Limits()) as (_, header, info):
        target = calculate_target_dimensions(1601, short_side, 256)
        assert decode(header, Plan(info, target, None)).size == (601, -(-short_side * 3 // 8))


def _wave(number: int, across: bool) -> Image.Image:
    """Stripes, 1200 x 900: in each block of a JPEG the wave of this number, and none else."""
    side = 1200 if across else 900
    grays = (128 + round(90 * math.cos((2 * x + 1) * number * math.pi / 16)) for x in range(side))
    stripes = Image.frombytes("L", (side, 1), bytes(grays))
    return (stripes if across else stripes.transpose(Image.Transpose.TRANSPOSE)).resize((1200, 900)).convert("RGB")


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"keep_rgb": True}])
@pytest.mark.parametrize(("scale", "short_side", "too_fine"), [(2, 300, 6), (4, 150, 3)])
def test_a_scaled_down_decode_makes_no_patterns_of_detail_that_it_cannot_hold(
    tmp_path: Path, scale: int, short_side: int, too_fine: int, how: dict[str, object]
) -> None:
    for across in (True, False):
        for wave, least, most in ((too_fine, 0, 1), (1, 55, 65)):
            path = saved(tmp_path / "a", _wave(wave, across), format="JPEG", quality=95, **how)
            with opened(path, Limits()) as (_, header, info):
                target = calculate_target_dimensions(1200, 900, short_side)
                gray = decode(header, Plan(info, target, None)).getchannel(0)
            assert gray.size == (1200 // scale, 900 // scale)
            assert least <= ImageStat.Stat(gray).stddev[0] <= most


def test_sharpening_is_more_after_more_averaging_and_less_after_more_shrinking() -> None:
    assert sharpening(2, 2.73) == pytest.approx(0.0321, abs=0.0002)
    assert sharpening(1, 3.0) == pytest.approx(0)
    assert sharpening(4, 6.0) > sharpening(2, 6.0)
    assert sharpening(2, 2.4) > sharpening(2, 4.8)
