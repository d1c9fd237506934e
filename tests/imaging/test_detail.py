"""`detail="auto"`: text lost would be lost for good, photographs kept large would cost for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from include.imaging import ProxyOptions, create_proxy
from include.imaging.detail import READABLE_X_HEIGHT, small_text
from tests.imaging import pictures

AUTO = ProxyOptions(detail="auto")
SENTENCE = "seven zebras cross our narrow avenue near a museum corner, even as oxen move on "
SAMPLES = Path(__file__).parents[2] / "include" / "samples"


def page(
    size: int, width: int = 1920, height: int = 1280, ink: object = "black", ground: object = "white"
) -> Image.Image:
    """A page full of text of this font size."""
    image = Image.new("RGB", (width, height), ground)  # type: ignore[arg-type]
    return write(image, (20, 20, width, height - 20), size, ink)


def write(image: Image.Image, box: tuple[int, int, int, int], size: int, ink: object = "black") -> Image.Image:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for y in range(box[1], box[3] - size * 2, round(size * 1.5)):
        draw.text((box[0], y), SENTENCE * (1 + (box[2] - box[0]) // (20 * size)), fill=ink, font=font)  # type: ignore[arg-type]
    return image


def x_height(size: int) -> int:
    _, top, _, bottom = ImageFont.load_default(size).getbbox("x")
    return round(bottom - top)


@pytest.mark.parametrize("size", [12, 16, 20, 26])
@pytest.mark.parametrize(
    ("ink", "ground"), [("black", "white"), ("#dddddd", "#181a20"), ("#999999", "#ffffff"), ("#70c080", "#203040")]
)
def test_the_height_of_an_x_is_found(size: int, ink: str, ground: str) -> None:
    assert small_text(page(size, ink=ink, ground=ground)) == pytest.approx(x_height(size), abs=1)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "CMYK"])
def test_the_mode_does_not_matter(mode: str) -> None:
    assert small_text(page(16).convert(mode)) == small_text(page(16))


@pytest.mark.parametrize("ink", [(0, 0, 0, 255), (255, 255, 255, 255)])
def test_text_on_nothing_is_text(ink: tuple[int, ...]) -> None:
    image = write(Image.new("RGBA", (1920, 1280)), (20, 20, 1920, 1260), 16, ink)
    assert small_text(image) == pytest.approx(x_height(16), abs=1)


def test_the_smallest_text_decides_not_the_most() -> None:
    image = page(28)
    ImageDraw.Draw(image).rectangle((960, 640, 1920, 1280), fill="white")
    assert small_text(write(image, (970, 650, 1920, 1280), 12)) == pytest.approx(x_height(12), abs=1)


def test_a_caption_is_not_a_text() -> None:
    image = pictures.photo(1920, 1280)
    image.paste(page(10, 460, 50), (30, 1220))
    assert small_text(image) is None


def test_what_is_not_text_is_not_taken_for_it() -> None:
    size = (1920, 1280)
    flat, stripes, rules = Image.new("RGB", size, "navy"), Image.new("L", size, 255), Image.new("L", size, 255)
    for y in range(0, 1280, 8):
        ImageDraw.Draw(stripes).rectangle((0, y, 1920, y + 3), fill=0)
        ImageDraw.Draw(rules).line((0, y, 1920, y), fill=90)
    gradient = Image.linear_gradient("L").resize(size)
    for image in (flat, stripes, rules, gradient, pictures.photo(*size), Image.effect_noise(size, 60)):
        assert small_text(image) is None


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_photographs_are_as_under_fixed(tmp_path: Path, path: Path) -> None:
    if path.stem in ("friends", "life", "wine"):  # the smaller ones do for the bytes
        create_proxy(path, tmp_path / "fixed")
        create_proxy(path, tmp_path / "auto", AUTO)
        assert (tmp_path / "auto").read_bytes() == (tmp_path / "fixed").read_bytes()
    with Image.open(path) as photograph:
        assert small_text(photograph) is None


def with_photo(size: int) -> Image.Image:
    """A page whose PNG is large, so that a smaller proxy is worth its while."""
    image = page(size, 2400, 1600)
    image.paste(pictures.photo(1300, 1400), (1000, 100))
    return image


def test_small_text_keeps_what_it_needs(tmp_path: Path) -> None:
    image = with_photo(26)
    source = pictures.saved(tmp_path / "a.png", image)
    result = create_proxy(source, tmp_path / "out", AUTO)
    measured = small_text(image)
    assert measured is not None
    assert min(result.proxy_dimensions) == -(-1600 * READABLE_X_HEIGHT // measured) > 896
    assert create_proxy(source, tmp_path / "out").proxy_dimensions == (1344, 896)


def test_text_that_needs_nearly_all_pixels_is_left_alone(tmp_path: Path) -> None:
    image = page(12)
    source = pictures.saved(tmp_path / "a.png", image)
    result = create_proxy(source, tmp_path / "out", AUTO)
    assert (result.action, result.format, result.proxy_dimensions) == ("stripped", "png", image.size)
    with Image.open(tmp_path / "out") as proxy:
        assert proxy.tobytes() == image.tobytes()


def test_a_proxy_larger_than_its_original_is_not_made(tmp_path: Path) -> None:
    """Text does not shrink well: at three quarters, its PNG is larger than at full size."""
    source = pictures.saved(tmp_path / "a.png", page(16))
    result = create_proxy(source, tmp_path / "out", AUTO)
    assert result.proxy_size_bytes <= source.stat().st_size
    assert result.action == "stripped"


def test_large_text_shrinks_as_ever(tmp_path: Path) -> None:
    source = pictures.saved(tmp_path / "a.png", with_photo(32))
    assert min(create_proxy(source, tmp_path / "out", AUTO).proxy_dimensions) == 896


def test_small_pictures_are_as_under_fixed(tmp_path: Path) -> None:
    source = pictures.saved(tmp_path / "a.png", page(10, 1000, 800))
    assert create_proxy(source, tmp_path / "out", AUTO).proxy_dimensions == (1000, 800)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_jpeg_decoded_too_small_is_decoded_again(tmp_path: Path, orientation: int) -> None:
    """The first decode leaves half of 3000 pixels; the text is seen there, needs more, and may lie on its side."""
    upright = page(30, 4000, 3000)
    stored = pictures.stored(upright, orientation)
    source = pictures.saved(tmp_path / "a", stored, format="JPEG", exif=pictures.exif(orientation))
    result = create_proxy(source, tmp_path / "out", AUTO)
    assert 1500 < min(result.proxy_dimensions) < 2400
    with Image.open(tmp_path / "out") as proxy:
        assert small_text(proxy) == pytest.approx(READABLE_X_HEIGHT, abs=1)


def test_no_side_passes_novas_limit(tmp_path: Path) -> None:
    source = pictures.saved(tmp_path / "a.png", page(12, 9000, 1200))
    assert max(create_proxy(source, tmp_path / "out", AUTO).proxy_dimensions) == 8000
