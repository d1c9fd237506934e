"""The samples are what the README says they are, the same everywhere, and made once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from include.local.samples import PHOTOGRAPHS, make_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "new")


def digests(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(folder.iterdir())}


def test_the_screenshot_is_4k_and_full_of_text(samples: Path) -> None:
    with Image.open(samples / "screenshot-4k.png") as image:
        assert (image.size, image.mode) == ((3840, 2160), "RGB")
        table = image.crop((520, 1340, 2480, 2100)).convert("L")
    edges = sum(table.point(lambda level: 255 if level > 150 else 0).histogram()[255:])
    assert edges > 20_000, "small bright glyphs are what makes it hard"


def test_the_logo_is_see_through_in_degrees(samples: Path) -> None:
    with Image.open(samples / "transparent-logo.png") as image:
        assert image.mode == "RGBA"
        assert min(image.size) > 896
        alpha = image.getchannel("A")
        assert alpha.getpixel((0, 0)) == 0
        assert alpha.getextrema() == (0, 255)
        assert len(set(alpha.tobytes())) > 50


def test_the_telephone_photograph_is_upright_only_by_its_tag(samples: Path) -> None:
    with Image.open(samples / "rotated-phone.jpg") as image, Image.open(PHOTOGRAPHS / "seeding.jpg") as original:
        exif = image.getexif()
        assert (exif[0x0112], exif[0x010F]) == (6, "Lumen")
        assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 14.6), "a place to be stripped"
        assert image.width > image.height
        upright = ImageOps.exif_transpose(image)
        assert upright.height > upright.width
        difference = ImageChops.difference(upright, original.crop((420, 0, 2661, 2988)))
    assert max(ImageStat.Stat(difference).mean) < 3


def test_the_small_photograph_needs_nothing(samples: Path) -> None:
    with Image.open(samples / "small-icon-photo.jpg") as image:
        assert (image.size, image.mode) == ((640, 427), "RGB")
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)


def test_the_scan_is_16_bit_and_uses_them(samples: Path) -> None:
    with Image.open(samples / "scan.tif") as image:
        assert (image.format, image.mode, image.size) == ("TIFF", "I;16", (1654, 2339))
        darkest, brightest = image.getextrema()
    assert darkest < 20_000
    assert brightest > 50_000


def test_the_broken_upload_opens_and_then_ends(samples: Path) -> None:
    with Image.open(samples / "broken-upload.jpg") as image:
        assert min(image.size) > 896
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_the_photographs_are_the_committed_ones(samples: Path) -> None:
    made, committed = digests(samples), digests(PHOTOGRAPHS)
    photographs = {name: digest for name, digest in committed.items() if name.endswith(".jpg")}
    assert len(photographs) == 7
    assert photographs.items() <= made.items()
    assert len(made) == 7 + 6 + 1  # and the stamp
    assert all(name in (PHOTOGRAPHS / "ATTRIBUTION.md").read_text() for name in photographs)
    assert max(one.stat().st_size for one in PHOTOGRAPHS.iterdir()) < 4_500_000


def test_the_same_everywhere_and_made_once(samples: Path, tmp_path: Path) -> None:
    other = make_samples(tmp_path / "other")
    assert digests(other) == digests(samples)
    (other / "scan.tif").unlink()
    times = {one.name: one.stat().st_mtime_ns for one in other.iterdir() if one.name != ".version"}
    make_samples(other)
    assert digests(other) == digests(samples), "what is missing is made again"
    assert {name: (other / name).stat().st_mtime_ns for name in times} == times, "what is there is left alone"
    (other / ".version").write_text("0")
    (other / "transparent-logo.png").write_bytes(b"an older drawing")
    assert digests(make_samples(other)) == digests(samples), "what an older version made is made anew"
