"""Every kind of picture in, a file out that Nova takes exactly, showing what a person would have seen."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageChops, ImageStat, features

from include.imaging import Limits, ProxyError, ProxyOptions, create_proxy, get_optimal_format, inspect_image
from tests.imaging import pictures
from tests.imaging.pictures import CORNERS, corner_colours, corners, near, photo, saved, text_page

SMALL = ProxyOptions(target_short_side=256)
ROOT = Path(__file__).resolve().parents[2]
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def _proxy(source: Path, options: ProxyOptions = SMALL) -> tuple[Image.Image, str]:
    """The decoded proxy and the action. Checks what holds for every proxy."""
    output = source.parent / "proxy"
    result = create_proxy(source, output, options)
    info = inspect_image(output)
    assert info.nova_ready
    assert info.clean
    assert (info.width, info.height) == result.proxy_dimensions
    assert info.format == result.format
    assert info.size_bytes == result.proxy_size_bytes
    assert result.original_size_bytes == source.stat().st_size
    assert result.media_type == f"image/{result.format}"
    assert [path.name for path in source.parent.iterdir() if path.name.endswith(".part")] == []
    with Image.open(output) as image:
        image.load()
        return image, result.action


def _save_heif(path: Path, image: Image.Image, orientation: int) -> None:
    pillow_heif.from_pillow(image).save(path, quality=95, exif=pictures.exif(orientation).tobytes())


# -- orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", pytest.param("avif", marks=needs_avif), "heif"])
@pytest.mark.parametrize("size", [(600, 400), (120, 80)], ids=["resized", "same size"])
def test_upright_whatever_the_orientation(tmp_path: Path, size: tuple[int, int], name: str, orientation: int) -> None:
    stored = pictures.stored(corners(*size), orientation)
    source = tmp_path / "source"
    if name == "heif":
        _save_heif(source, stored, orientation)
    else:
        saved(source, stored, format=name, exif=pictures.exif(orientation), quality=95)
    image, action = _proxy(source)
    assert image.size == ((384, 256) if size == (600, 400) else size)
    stripped = orientation == 1 and size == (120, 80) and name in {"jpeg", "png", "webp"}
    assert action == ("resized" if size == (600, 400) else "stripped" if stripped else "converted")
    for corner, pixel in corner_colours(image.convert("RGB")).items():
        assert near(pixel, CORNERS[corner], 12), corner


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("width", [3999, 4001])
def test_a_scaled_down_jpeg_is_not_shifted(tmp_path: Path, width: int, orientation: int) -> None:
    """Its last column stands for part of a block: stretching it over the whole would move edges."""
    upright = corners(width, 2999)
    source = saved(
        tmp_path / "a",
        pictures.stored(upright, orientation),
        format="JPEG",
        quality=95,
        exif=pictures.exif(orientation),
    )
    image, _ = _proxy(source)
    expected = upright.resize(image.size, Image.Resampling.LANCZOS)
    assert max(ImageStat.Stat(ImageChops.difference(image.convert("RGB"), expected)).rms) < 6


def test_orientation_behind_a_pngs_pixels(tmp_path: Path) -> None:
    late = pictures.png_chunk(b"eXIf", pictures.exif(6).tobytes()[6:])
    (tmp_path / "a").write_bytes(pictures.png_bytes(pictures.stored(corners(600, 400), 6), after_pixels=late))
    image, _ = _proxy(tmp_path / "a")
    assert image.size == (384, 256)
    assert near(corner_colours(image.convert("RGB"))["top left"], CORNERS["top left"])


# -- modes, depths, transparency ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(400, 300), (40, 30)], ids=["resized", "same size"])
@pytest.mark.parametrize(
    ("name", "filled", "expected"),
    [
        ("tiff", ("I;16", 32_896), (128,) * 3),
        ("png", ("I;16", 32_896), (128,) * 3),
        ("tiff", ("I;16B", 65_535), (255,) * 3),
        ("tiff", ("F", 0.5), (128,) * 3),
        ("tiff", ("I", 255), (255,) * 3),
        ("tiff", ("1", 1), (255,) * 3),
        ("png", ("1", 1), (255,) * 3),
        ("tiff", ("CMYK", (255, 0, 0, 0)), (0, 255, 255)),
        ("jpeg", ("CMYK", (255, 0, 0, 0)), (0, 255, 255)),
        ("jpeg", ("L", 77), (77,) * 3),
        ("bmp", ("RGB", (10, 120, 230)), (10, 120, 230)),
        ("gif", ("RGB", (10, 120, 230)), (10, 120, 230)),
        ("tiff", ("YCbCr", (128, 128, 128)), (128,) * 3),
    ],
)
def test_modes_keep_their_tones(
    tmp_path: Path, size: tuple[int, int], name: str, filled: tuple[str, Any], expected: tuple[int, int, int]
) -> None:
    mode, fill = filled
    source = saved(tmp_path / "a", Image.new(mode, size, fill), format=name)
    image, _ = _proxy(source)
    assert near(image.convert("RGB").getpixel((20, 15)), expected, 2)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_tiff_compressions(tmp_path: Path, compression: str) -> None:
    source = saved(tmp_path / "a", corners(600, 400), format="TIFF", compression=compression)
    image, _ = _proxy(source)
    assert near(corner_colours(image.convert("RGB"))["bottom left"], CORNERS["bottom left"], 6)


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    row = b"\0" + (b"\x40\x40" + b"\x80\x80" + b"\xc0\xc0") * 300
    (tmp_path / "a").write_bytes(pictures.raw_png((300, 300), 16, 2, row * 300))
    image, _ = _proxy(tmp_path / "a")
    assert near(image.convert("RGB").getpixel((9, 9)), (64, 128, 192), 1)


def test_bitonal_scans_become_gray_not_jagged(tmp_path: Path) -> None:
    page = text_page(1200, 800).convert("1")
    image, _ = _proxy(saved(tmp_path / "a", page, format="TIFF", compression="group4"))
    assert len(image.convert("L").getcolors() or ()) > 16  # a bitonal image resized as such has two


@pytest.mark.parametrize("size", [(400, 300), (40, 30)], ids=["resized", "same size"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["png", "tiff"])
def test_alpha_is_kept_where_it_means_something(tmp_path: Path, size: tuple[int, int], name: str, mode: str) -> None:
    picture = Image.new(mode, size, (200, 200, 200, 255) if mode == "RGBA" else (200, 255))
    picture.paste((90, 90, 90, 0) if mode == "RGBA" else (90, 0), (0, 0, size[0] // 2, size[1]))
    image, action = _proxy(saved(tmp_path / "a", picture, format=name))
    image = image.convert("RGBA")
    width, height = image.size
    assert near(image.getpixel((3 * width // 4, height // 2)), (200, 200, 200, 255))
    hidden = image.getpixel((width // 4, height // 2))
    assert hidden == ((0, 0, 0, 0) if action != "stripped" else (90, 90, 90, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_that_says_nothing_is_dropped(tmp_path: Path, mode: str) -> None:
    picture = photo(400, 300).convert(mode)
    result = create_proxy(saved(tmp_path / "a.png", picture), tmp_path / "b", SMALL)
    assert result.format == "jpeg"
    with Image.open(tmp_path / "b") as image:
        assert image.mode == mode[:-1]


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, mode: str) -> None:
    picture = Image.new("L", (400, 300), 50)
    picture.paste(200, (200, 0, 400, 300))
    transparency: object = 50
    if mode == "RGB":
        picture, transparency = picture.convert("RGB"), (50, 50, 50)
    elif mode == "P":
        picture = picture.convert("P")
    image, _ = _proxy(saved(tmp_path / "a", picture, format="PNG", transparency=transparency))
    image = image.convert("RGBA")
    assert image.getpixel((60, 100)) == (0, 0, 0, 0)
    assert near(image.getpixel((250, 100)), (200, 200, 200, 255))


def test_transparent_pixels_lend_no_colour_to_their_neighbours(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (1000, 1000), (0, 255, 0, 0))
    picture.paste((200, 200, 200, 255), (500, 0, 1000, 1000))
    image, _ = _proxy(saved(tmp_path / "a", picture, format="PNG"))
    for x in range(image.width):
        red, green, _, alpha = image.getpixel((x, 100))  # type: ignore[misc]
        assert alpha < 8 or abs(red - green) <= 8, x  # a green fringe otherwise


# -- animations and pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gif", "png", "webp", "tiff"])
@pytest.mark.parametrize("size", [(400, 300), (40, 30)], ids=["resized", "same size"])
def test_the_first_frame_is_the_picture(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    frames = [Image.new("RGB", size, colour) for colour in ((200, 40, 40), (40, 200, 40), (40, 40, 200))]
    image, _ = _proxy(saved(tmp_path / "a", frames[0], format=name, save_all=True, append_images=frames[1:]))
    assert getattr(image, "n_frames", 1) == 1
    assert near(image.convert("RGB").getpixel((5, 5)), (200, 40, 40), 6)


def test_mpo_is_its_first_picture(tmp_path: Path) -> None:
    source = saved(
        tmp_path / "a", corners(1200, 800), format="MPO", save_all=True, append_images=[photo(1200, 800)], quality=95
    )
    assert not inspect_image(source).clean
    image, _ = _proxy(source)
    assert near(corner_colours(image)["top left"], CORNERS["top left"], 6)


# -- profiles and metadata ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", pytest.param("avif", marks=needs_avif), "heif"])
@pytest.mark.parametrize("size", [(400, 300), (40, 30)], ids=["resized", "same size"])
def test_profiles_are_applied_and_gone(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    picture = Image.new("RGB", size, (60, 160, 60))
    if name == "heif":
        pillow_heif.from_pillow(picture).save(tmp_path / "a", quality=95, icc_profile=pictures.adobe_rgb())
    else:
        saved(tmp_path / "a", picture, format=name, icc_profile=pictures.adobe_rgb(), quality=95)
    image, action = _proxy(tmp_path / "a")
    assert action in {"resized", "converted"}
    assert near(image.convert("RGB").getpixel((20, 15)), (0, 160, 51), 8)
    assert "icc_profile" not in image.info


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("size", [(400, 300), (40, 30)], ids=["resized", "same size"])
def test_a_broken_profile_and_broken_exif_refuse_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    for name in ("jpeg", "png", "webp", "tiff"):
        source = saved(tmp_path / name, corners(*size), format=name, icc_profile=b"not a profile", quality=95)
        assert near(corner_colours(_proxy(source)[0].convert("RGB"))["top right"], CORNERS["top right"], 12)
    source = saved(
        tmp_path / "exif", corners(*size), format="JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffgarbage", quality=95
    )
    assert near(corner_colours(_proxy(source)[0])["top right"], CORNERS["top right"], 12)


@pytest.mark.parametrize("orientation", [1, 6])
def test_nothing_private_is_left(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "a").write_bytes(pictures.jpeg_with_everything(photo(600, 400), orientation))
    image, _ = _proxy(tmp_path / "a")
    assert b"SEC" not in (tmp_path / "proxy").read_bytes()
    assert not image.getexif()


@pytest.mark.parametrize("graphics_format", ["png", "webp"])
def test_nothing_private_is_left_in_graphics(tmp_path: Path, graphics_format: str) -> None:
    secrets = pictures.png_chunk(b"tEXt", b"Author\0SECRET") + pictures.png_chunk(
        b"eXIf", pictures.exif().tobytes()[6:]
    )
    (tmp_path / "a").write_bytes(pictures.png_bytes(text_page(900, 600), secrets, dpi=(300, 300)))
    options = ProxyOptions(target_short_side=256, graphics_format=graphics_format)  # type: ignore[arg-type]
    image, _ = _proxy(tmp_path / "a", options)
    assert (image.format or "").lower() == graphics_format
    assert b"SECRET" not in (tmp_path / "proxy").read_bytes()
    assert not {"dpi", "exif", "xmp", "icc_profile"} & set(image.info)


def test_a_png_with_megabytes_of_text_is_a_good_picture(tmp_path: Path) -> None:
    """Image generators store their workflow there; Pillow's own text limits refuse such files."""
    text = b"".join(pictures.png_chunk(b"tEXt", b"workflow\0" + b"x" * 2_000_000) for _ in range(40))
    (tmp_path / "a").write_bytes(pictures.png_bytes(corners(400, 300), text))
    assert _proxy(tmp_path / "a")[0].size == (341, 256)


# -- format and size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "best"),
    [(photo(500, 400), "JPEG"), (text_page(500, 400), "PNG"), (corners(500, 400), "PNG"), (photo(20, 10), "JPEG")],
    ids=["photo", "text", "drawing", "tiny photo"],
)
def test_format_by_content(tmp_path: Path, picture: Image.Image, best: str) -> None:
    source = saved(tmp_path / "a.bmp", picture)
    assert get_optimal_format(source) == best
    assert create_proxy(source, tmp_path / "b").format == best.lower()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_gray_photographs_are_photographs(tmp_path: Path, mode: str) -> None:
    """Gray has 256 colours, and a dark photograph few of those: its commonest 16 are half of it."""
    dark = photo(600, 400).convert("L").point(lambda level: level // 6)
    assert get_optimal_format(saved(tmp_path / "a", dark.convert(mode), format="PNG")) == "JPEG"
    page = pictures.text_page(600, 400).convert("L")
    assert get_optimal_format(saved(tmp_path / "b", page.convert(mode), format="PNG")) == "PNG"


def test_what_was_a_jpeg_stays_one(tmp_path: Path) -> None:
    """As PNG its compression noise would cost more bytes than the original had."""
    source = saved(tmp_path / "a.jpg", text_page(2000, 1500), quality=75)
    assert get_optimal_format(source) == "JPEG"
    result = create_proxy(source, tmp_path / "b")
    assert result.format == "jpeg"
    assert result.proxy_size_bytes < result.original_size_bytes


def test_graphics_are_lossless_either_way(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.bmp", text_page(500, 400))
    for graphics_format in ("png", "webp"):
        image, _ = _proxy(source, ProxyOptions(graphics_format=graphics_format))  # type: ignore[arg-type]
        assert ImageChops.difference(image.convert("RGB"), text_page(500, 400)).getbbox() is None


def test_photographs_are_subsampled_at_the_quality_asked_for(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.bmp", photo(500, 400))
    sizes = []
    for quality in (60, 85, 95):
        image, _ = _proxy(source, ProxyOptions(quality=quality))
        assert image.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined] # luma has twice the samples both ways
        sizes.append((tmp_path / "proxy").stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_default_is_exactly_896(tmp_path: Path) -> None:
    image, action = _proxy(saved(tmp_path / "a", photo(3264, 2448), format="JPEG"), ProxyOptions())
    assert (image.size, action) == ((1195, 896), "resized")


def test_a_panorama_fits_novas_longest_side(tmp_path: Path) -> None:
    image, action = _proxy(saved(tmp_path / "a", photo(9000, 90), format="JPEG"), ProxyOptions())
    assert (image.size, action) == ((8000, 80), "resized")


def test_a_resized_picture_looks_like_lanczos_of_the_whole(tmp_path: Path) -> None:
    source = saved(tmp_path / "a", photo(2400, 1800).resize((3000, 2250)), format="JPEG", quality=95)
    image, _ = _proxy(source, ProxyOptions(quality=95))
    with Image.open(source) as original:
        gold = original.resize(image.size, Image.Resampling.LANCZOS)
    assert max(ImageStat.Stat(ImageChops.difference(image.convert("L"), gold.convert("L"))).rms) < 3


# -- refusals and atomicity --------------------------------------------------------------------------------------------


def _refused(source: Path, output: Path, code: str, limits: Limits | None = None) -> None:
    before = set(source.parent.iterdir())
    with pytest.raises(ProxyError) as caught:
        create_proxy(source, output, limits=limits)
    assert caught.value.code == code, caught.value
    assert len(str(caught.value)) > 20  # says what to do
    assert set(source.parent.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    ["jpeg", "progressive", "png", "webp", "gif", "tiff", "lzw", "bmp", "heif", pytest.param("avif", marks=needs_avif)],
)
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_truncated_files_are_refused_not_half_gray(tmp_path: Path, name: str, kept: float) -> None:
    buffer = io.BytesIO()
    if name == "heif":
        pillow_heif.from_pillow(photo(1200, 1000)).save(buffer)
    else:
        form = {"progressive": "jpeg", "lzw": "tiff"}.get(name, name)
        extra = {"progressive": {"progressive": True}, "lzw": {"compression": "tiff_lzw"}}.get(name, {})
        photo(1200, 1000).save(buffer, form, **extra)
    (tmp_path / "a").write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * kept)])
    _refused(tmp_path / "a", tmp_path / "b", "truncated")


def test_a_download_that_stopped_in_a_preallocated_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photo(1200, 1000).save(buffer, "JPEG")
    data = buffer.getvalue()
    (tmp_path / "a").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    _refused(tmp_path / "a", tmp_path / "b", "truncated")


def test_corrupt_pixels(tmp_path: Path) -> None:
    content = bytearray(pictures.png_bytes(photo(1200, 1000)))
    content[50_000:51_000] = bytes(1000)
    (tmp_path / "a").write_bytes(content)
    _refused(tmp_path / "a", tmp_path / "b", "corrupt")


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello, I am a text file")
    _refused(tmp_path / "text.jpg", tmp_path / "b", "unsupported_format")
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    _refused(tmp_path / "a.png", tmp_path / "b", "unsupported_format")
    (tmp_path / "empty.png").touch()
    _refused(tmp_path / "empty.png", tmp_path / "b", "empty")
    _refused(tmp_path / "missing.png", tmp_path / "b", "unreadable")


def test_a_process_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resizing allocates too, and not only decoding may find that there is nothing left."""
    source = saved(tmp_path / "a.png", photo(1200, 1000))

    def nothing_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", nothing_left)
    _refused(source, tmp_path / "b", "memory_limit")


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "a").write_bytes(b"\xff\xd8\xff\xe0")
    _refused(tmp_path / "a", tmp_path / "b", "truncated")
    assert (tmp_path / "b").read_bytes() == b"old"


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", photo(400, 300))
    _refused(source, tmp_path / "missing" / "b", "unwritable")
    (tmp_path / "folder").mkdir()
    _refused(source, tmp_path / "folder", "unwritable")
    _refused(source, Path(f"{tmp_path}/a\0b"), "unwritable")


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", photo(400, 300))
    create_proxy(source, tmp_path / ("b" * 255))
    assert (tmp_path / ("b" * 255)).stat().st_size > 0


_SMALL_DISK = """
import resource, sys
from include.imaging import ProxyError, ProxyOptions, create_proxy
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    create_proxy(sys.argv[1], sys.argv[2], ProxyOptions(graphics_format=sys.argv[4]))
except ProxyError as error:
    print(error.code)
"""


@pytest.mark.parametrize("graphics_format", ["png", "webp"])
@pytest.mark.parametrize("kind", ["photo", "text", "stripped"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, kind: str, graphics_format: str) -> None:
    """A limit on file size stands for the disk: the system accepts part of a block and refuses the rest."""
    picture = text_page(2000, 1500) if kind == "text" else photo(2000, 1500) if kind == "photo" else photo(500, 400)
    source = saved(tmp_path / "a", picture, format="PNG")
    create_proxy(source, tmp_path / "whole", ProxyOptions(graphics_format=graphics_format))  # type: ignore[arg-type]
    size = (tmp_path / "whole").stat().st_size
    before = set(tmp_path.iterdir())
    for limit in (size - 1, size // 2, 100):
        command = [sys.executable, "-c", _SMALL_DISK, source, tmp_path / "b", str(limit), graphics_format]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "disk_full", limit
        assert set(tmp_path.iterdir()) == before


_SHARED_PROCESS = """
import sys
import include.imaging
assert "PIL" not in sys.modules
from PIL import Image, ImageFile, PngImagePlugin

def state():
    limits = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)
    return limits, dict(Image.OPEN), dict(Image.SAVE)

Image.init()
before = state()
include.imaging.create_proxy(sys.argv[1], sys.argv[2])
assert state() == before
"""


def test_importing_and_using_changes_nothing_for_others(tmp_path: Path) -> None:
    """An operator shares its process with whatever else a deployment loads."""
    pillow_heif.from_pillow(photo(100, 80)).save(tmp_path / "a.heic")
    command = [sys.executable, "-c", _SHARED_PROCESS, tmp_path / "a.heic", tmp_path / "b"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_sources_are_not_touched(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.jpg", photo(400, 300))
    source.chmod(0o444)
    before, status = source.read_bytes(), source.stat()
    create_proxy(source, tmp_path / "b", SMALL)
    assert source.read_bytes() == before
    assert source.stat().st_mtime_ns == status.st_mtime_ns
