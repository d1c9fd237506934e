"""A preview costs no second decode where there is a first, shows the picture upright, and is never worth a proxy."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from include.imaging import DecodeWorkers, Limits, PreviewRequest, ProxyError
from include.imaging.preview import create_preview, preview_size, write_preview
from include.imaging.proxy import write_proxy
from include.imaging.recipe import ProxyOptions
from tests.imaging.pictures import photo, saved


def wanted(folder: Path, side: int = 200) -> PreviewRequest:
    return PreviewRequest(str(folder / "preview"), side)


@pytest.mark.parametrize(
    ("size", "expected"), [((4000, 3000), (200, 150)), ((300, 9000), (7, 200)), ((120, 90), (120, 90))]
)
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert preview_size(*size, 200) == expected


def test_beside_a_proxy_it_is_made_from_the_same_pixels(tmp_path: Path) -> None:
    source = saved(tmp_path / "photo.jpg", photo(1600, 1200), quality=90)
    with DecodeWorkers(1) as workers:
        result = workers.create_proxy(source, tmp_path / "proxy", None, wanted(tmp_path))
    assert result.preview is not None
    with Image.open(tmp_path / "preview") as preview:
        assert (preview.format, preview.size) == ("JPEG", (200, 150))  # the proxy's 1195 x 896 by 6
        assert (result.preview.width, result.preview.height) == preview.size
        assert not preview.getexif()
        with Image.open(source) as original:
            small = original.convert("RGB").resize(preview.size)
        pixels = zip(preview.convert("RGB").tobytes(), small.tobytes(), strict=True)
        assert sum(abs(one - other) for one, other in pixels) / len(small.tobytes()) < 6


def test_the_proxys_bytes_are_the_same_with_a_preview_and_without(tmp_path: Path) -> None:
    source = saved(tmp_path / "photo.jpg", photo(1600, 1200), quality=90)
    write_proxy(source, tmp_path / "with", ProxyOptions(), Limits(), wanted(tmp_path))
    write_proxy(source, tmp_path / "without", ProxyOptions(), Limits())
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()


def test_a_sideways_photograph_is_previewed_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = saved(tmp_path / "photo.jpg", photo(1600, 1200), quality=90, exif=exif)
    preview = create_preview(source, wanted(tmp_path), Limits())
    assert (preview.width, preview.height) == (150, 200)


def test_a_transparent_picture_stays_transparent(tmp_path: Path) -> None:
    picture = photo(1600, 1200).convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 90))
    preview = create_preview(saved(tmp_path / "logo.png", picture), wanted(tmp_path), Limits())
    assert preview.format == "webp"
    with Image.open(tmp_path / "preview") as opened:
        assert opened.convert("RGBA").getpixel((5, 5))[3] == 90


def test_transparent_pixels_lend_a_preview_no_colour(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (400, 400), (255, 255, 255, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 201, 400))  # the blocks in the middle are half of both
    preview = write_preview(picture, wanted(tmp_path, 100))
    assert (preview.width, preview.height) == (100, 100)
    with Image.open(tmp_path / "preview") as opened:
        red, _, _, alpha = opened.convert("RGBA").getpixel((50, 50))
    assert 150 < alpha < 230
    assert red > 240


def test_a_picture_whose_bytes_serve_has_one_too(tmp_path: Path) -> None:
    source = saved(tmp_path / "small.jpg", photo(640, 480), quality=90)
    with DecodeWorkers(1) as workers:
        result = workers.create_proxy(source, tmp_path / "proxy", None, wanted(tmp_path))
    assert result.action == "stripped"
    assert result.preview is not None
    assert (result.preview.width, result.preview.height) == (200, 150)


def test_a_preview_that_cannot_be_written_costs_no_proxy(tmp_path: Path) -> None:
    source = saved(tmp_path / "photo.jpg", photo(1600, 1200), quality=90)
    nowhere = PreviewRequest(str(tmp_path / "no such folder" / "preview"), 200)
    with DecodeWorkers(1) as workers:
        result = workers.create_proxy(source, tmp_path / "proxy", None, nowhere)
    assert result.preview is None
    assert (tmp_path / "proxy").stat().st_size == result.proxy_size_bytes


def test_what_is_no_picture_has_no_preview(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with DecodeWorkers(1) as workers, pytest.raises(ProxyError):
        workers.create_preview(broken, wanted(tmp_path))
    assert not (tmp_path / "preview").exists()
