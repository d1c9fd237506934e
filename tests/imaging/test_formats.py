"""What people have in their archives: each format and depth comes out as a person saw it, or is refused by name."""

from __future__ import annotations

import base64
import io
import random
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat, features

from include.imaging import Limits, ProxyError, ProxyOptions, create_proxy, inspect_image
from tests.imaging import pictures
from tests.imaging.pictures import CORNERS, corner_colours, corners, near, photo, png_bytes, png_chunk

ROOT = Path(__file__).resolve().parents[2]
SMALL = ProxyOptions(target_short_side=256)
SIZE = (32, 32)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def _proxy(tmp_path: Path, content: bytes, options: ProxyOptions = SMALL) -> Image.Image:
    """The decoded proxy of a file with this content, under a name that says nothing."""
    (tmp_path / "source").write_bytes(content)
    result = create_proxy(tmp_path / "source", tmp_path / "proxy", options)
    info = inspect_image(tmp_path / "proxy")
    assert info.nova_ready
    assert info.clean
    assert (info.width, info.height) == result.proxy_dimensions
    with Image.open(tmp_path / "proxy") as image:
        image.load()
        return image.convert("RGBA" if image.mode in ("LA", "P", "RGBA") else "RGB")


def _code(tmp_path: Path, content: bytes, limits: Limits | None = None) -> str:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(ProxyError) as caught:
        create_proxy(tmp_path / "source", tmp_path / "proxy", limits=limits)
    assert not (tmp_path / "proxy").exists()
    return caught.value.code


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _upright(image: Image.Image, tolerance: int = 12) -> bool:
    colours = corner_colours(image.convert("RGB"))
    return all(near(colours[corner], CORNERS[corner], tolerance) for corner in CORNERS)


# -- icons -------------------------------------------------------------------------------------------------------------


def _dib(image: Image.Image) -> bytes:
    """A bitmap as icons hold it, of the last of Pillow's own."""
    return _saved(image, "ICO", bitmap_format="bmp", sizes=[image.size])[22:]


def test_an_icon_is_its_largest_picture_in_most_colours(tmp_path: Path) -> None:
    """Pillow alone takes the largest in fewest colours."""
    poor = _saved(Image.new("RGB", (48, 48), (90, 90, 90)), "PNG")
    rich = _saved(corners(48, 48), "PNG")
    tiny = _saved(Image.new("RGB", (16, 16)), "PNG")
    image = _proxy(tmp_path, pictures.icon(((16, 16), 32, tiny), ((48, 48), 4, poor), ((48, 48), 32, rich)))
    assert image.size == (48, 48)
    assert _upright(image)


def test_an_icon_of_bitmaps_keeps_its_transparency(tmp_path: Path) -> None:
    picture = corners(48, 48).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 24, 24))
    image = _proxy(tmp_path, pictures.icon(((48, 48), 32, _dib(picture))))
    assert image.getpixel((10, 10)) == (0, 0, 0, 0)
    assert near(image.getpixel((36, 10)), (*CORNERS["top right"], 255))


def test_an_icon_larger_than_icons_are(tmp_path: Path) -> None:
    """Its directory has a byte for each side; the PNG inside may be of any size."""
    with pytest.warns(UserWarning, match="expected size"):
        image = _proxy(tmp_path, pictures.icon(((256, 256), 32, _saved(corners(600, 600), "PNG"))))
    assert image.size == (256, 256)
    assert _upright(image)


def test_icons_that_are_bombs(tmp_path: Path) -> None:
    huge = pictures.raw_png((60_000, 60_000), 8, 6, b"")
    assert _code(tmp_path, pictures.icon(((16, 16), 32, huge))) == "too_many_pixels"
    bitmap = bytearray(_dib(corners(16, 16).convert("RGBA")))
    bitmap[4:12] = struct.pack("<ii", 50_000, 100_000)
    assert _code(tmp_path, pictures.icon(((16, 16), 32, bytes(bitmap)))) == "too_many_pixels"
    png = _saved(corners(16, 16), "PNG")
    crowded = pictures.icon(*[((16, 16), 32, b"")] * 20_000, ((16, 16), 32, png))
    assert _code(tmp_path, crowded) == "too_many_frames"
    assert _code(tmp_path, pictures.icon()) == "corrupt"
    assert _code(tmp_path, pictures.icon(((16, 16), 32, png))[:-40]) == "truncated"


# -- JPEG 2000 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (128, 128)}], ids=["jp2", "j2k", "tiles"])
def test_jpeg_2000(tmp_path: Path, options: dict[str, Any]) -> None:
    assert _upright(_proxy(tmp_path, _saved(corners(600, 400), "JPEG2000", **options)))
    info = inspect_image(tmp_path / "source")
    assert (info.format, info.media_type, info.width, info.height, info.nova_ready) == (
        "jp2", "image/jp2", 600, 400, False,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_jpeg_2000_modes(tmp_path: Path, mode: str) -> None:
    fill: Any = {"L": 77, "LA": (77, 255), "RGBA": (77, 77, 77, 255), "I;16": 77 * 257}[mode]
    image = _proxy(tmp_path, _saved(Image.new(mode, (300, 300), fill), "JPEG2000"))
    assert near(image.getpixel((9, 9)), (77, 77, 77), 2)


# 16 x 16 of RGBA at 12 bits, which Pillow does not write: white, (128, 0, 0) and black columns of 8, 4 and 4, the
# upper half of it half transparent.
_TWELVE_BITS = {
    "reversible": (
        "/0//UQAyAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAAECwEBCwEBCwEBCwEB/1IADAAAAAEAAQQEAAH/XAAHQGBoaHD/"
        "kAAKAAAAAAF2AAH/k9/hYCIYCis2JWBU3yP4SEEa+UAxomvo6x6yIpCDnnYnuXNefG1afsRzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5s"
        "PzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sPf4WwiF4CFJZAUhTh1AMIibcYAYEFPaUebD82H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD8"
        "2H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sP3+FsIheAhSWQFIU4dQDCIm3GAGBBT2lHmw/Nh+bD82H5sPzY"
        "fmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD82H5sPzYfmw/Nh+bD8/kqDu5DseBbwLHM6lbNkBv+hGw"
        "ofVz4gAejkgAYjkgATjkgALTkgAGnwf/f8fyDAAiF5I8b8LP8AoAIhoPKF/P8AoAIhoPKF+h+wIAANTAW//Z"
    ),
    "irreversible": (
        "/0//UQAyAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAAECwEBCwEBCwEBCwEB/1IADgECAAEAAQQEAACIiP9cAAtCaCR3"
        "03fTd2L/kAAKAAAAAAEzAAH/k995uCIZ3tyyB7mnkVXQkI6a6soJgBW1PaS29uYwBjzXk7rzkKwKQIfenZoVc5Ac1590Huk631tLq2nf"
        "kbgiGd60O9FIGX2g3iSuX3E/QArao3ylu7iEZgl9nVhQwWXHYZ+H3VW1afsE11cUMSnvAaWLP8fC35G4IhnetDvRSBl9oN4krl9xP0AK"
        "2qN8pbu4hGYJfZ1YUMFlx2Gfh91VtWn7BNdXFDEp7wGliz/Hws+weDu5DseCL/GZ1FGCCRuEEigN+e/SYwkJQD1OCYlKdsPpLAAiF5I8"
        "bUIKU6g+vZySXnx3gJrEcNcbx9ggACIaDxgE7Cm4hA0rb3hmlnHH2CAAIhoPGATsKbiEDStveGaWcaH2CAAA1MeJ1oMBs6qpcAXUyznP"
        "/9k="
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", _TWELVE_BITS)
def test_jpeg_2000_deeper_than_8_bits_keeps_its_white(tmp_path: Path, kind: str) -> None:
    """Pillow rounds it to 256, which is 0: lights came out as holes, and what was opaque as invisible."""
    image = _proxy(tmp_path, base64.b64decode(_TWELVE_BITS[kind]))
    for left, colour in ((2, (255, 255, 255)), (10, (128, 0, 0)), (14, (0, 0, 0))):
        assert near(image.getpixel((left, 4)), (*colour, 128), 4)
        assert near(image.getpixel((left, 12)), (*colour, 255), 4)


def _jp2_box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def test_jpeg_2000_with_a_profile(tmp_path: Path) -> None:
    """Which Pillow does not look for."""
    content = _saved(Image.new("RGB", SIZE, (60, 160, 60)), "JPEG2000")
    at = content.index(b"colr") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    colour = _jp2_box(b"colr", b"\2\0\0" + pictures.adobe_rgb())
    header = content.index(b"jp2h") - 4
    grown = int.from_bytes(content[header : header + 4], "big") + len(colour) - length
    content = content[:header] + struct.pack(">I", grown) + content[header + 4 : at] + colour + content[at + length :]
    assert near(_proxy(tmp_path, content).getpixel((5, 5)), (0, 160, 51), 8)


def test_jpeg_2000_with_an_orientation(tmp_path: Path) -> None:
    content = _saved(pictures.stored(corners(600, 400), 6), "JPEG2000")
    at = content.index(b"jp2c") - 4
    exif = _jp2_box(b"uuid", b"JpgTiffExif->JP2" + pictures.exif(6).tobytes()[6:])
    image = _proxy(tmp_path, content[:at] + exif + content[at:])
    assert image.size == (384, 256)
    assert _upright(image)


def test_jpeg_2000_that_is_no_good(tmp_path: Path) -> None:
    content = _saved(photo(600, 400), "JPEG2000")
    assert _code(tmp_path, content[: len(content) // 2]) == "truncated"
    stream = _saved(photo(600, 400), "JPEG2000", no_jp2=True)
    assert _code(tmp_path, stream[: len(stream) // 2]) == "truncated"
    damaged = bytearray(stream)
    damaged[8:16] = struct.pack(">II", 100_000, 100_000)  # the codestream's own idea of its size
    assert _code(tmp_path, bytes(damaged)) == "too_many_pixels"
    damaged[8:16], damaged[24:32] = struct.pack(">II", 10_000, 10_000), struct.pack(">II", 1, 1)
    assert _code(tmp_path, bytes(damaged)) == "corrupt"  # a hundred million tiles


# -- JPEG XL -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jxl() -> dict[str, bytes]:
    clear = corners(600, 400).convert("RGBA")
    clear.paste((0, 0, 0, 0), (300, 200, 600, 400))
    return pictures.jxl_files(corners(600, 400), clear)


@pytest.mark.parametrize("kind", ["plain", "boxed"])
def test_jpeg_xl(tmp_path: Path, jxl: dict[str, bytes], kind: str) -> None:
    """An orientation in its EXIF says what was, not what is to be done: the decoder turns pictures upright."""
    assert _upright(_proxy(tmp_path, jxl[kind]))
    info = inspect_image(tmp_path / "source")
    assert (info.format, info.media_type, info.width, info.height) == ("jxl", "image/jxl", 600, 400)
    assert b"SECRET" not in (tmp_path / "proxy").read_bytes()


def test_jpeg_xl_with_transparency(tmp_path: Path, jxl: dict[str, bytes]) -> None:
    image = _proxy(tmp_path, jxl["alpha"])
    assert image.getpixel((300, 200)) == (0, 0, 0, 0)
    assert near(image.getpixel((20, 20)), (*CORNERS["top left"], 255))


# 16 x 16 of linear gray 99/255 and alpha 200/255, in 16 bits and in floating point.
_DEEP_LA = (
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAAAtanhsY/8KQ/Aj+AEoWgQIEBAAVABLGIsVANwzxuAlcwwwXgSMjVDLkJE=",
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAAAzanhsY/8KQ8gJOYCiRQgQEABwAEs4aJjCg/cVFARYPvxP4e8iAJiCY2NjLxkZ6QM=",
)  # fmt: skip


def test_jpeg_xl_of_deep_gray_and_alpha(tmp_path: Path) -> None:
    """The decoder says LA whatever the depth: taken for 8 bits, each other pixel was the lower half of another."""
    whole, floating = map(base64.b64decode, _DEEP_LA)
    assert _code(tmp_path, floating) == "unsupported_format"
    assert near(_proxy(tmp_path, whole).getpixel((9, 9)), (167, 167, 167, 200), 2)


def test_jpeg_xl_that_was_a_jpeg(tmp_path: Path) -> None:
    """It comes back as that JPEG, with the orientation that is to be applied."""
    image = _proxy(
        tmp_path, pictures.jxl_files(pictures.stored(corners(600, 400), 6), corners(9, 9).convert("RGBA"))["jpeg"]
    )
    assert image.size == (384, 256)
    assert _upright(image)


def test_jpeg_xl_that_is_no_good(tmp_path: Path, jxl: dict[str, bytes]) -> None:
    assert _code(tmp_path, jxl["boxed"][: len(jxl["boxed"]) // 2]) == "truncated"
    assert _code(tmp_path, jxl["plain"][: len(jxl["plain"]) // 2]) == "corrupt"
    assert _code(tmp_path, b"\xff\x0a" + bytes(40)) == "corrupt"


@pytest.mark.parametrize("kind", ["plain", "boxed", "alpha", "jpeg"])
def test_jpeg_xl_is_measured_before_it_is_decoded(tmp_path: Path, jxl: dict[str, bytes], kind: str) -> None:
    """Its decoder does all of its work when it opens a file."""
    assert _code(tmp_path, jxl[kind], Limits(max_pixels=600 * 400 - 1)) == "too_many_pixels"
    create_proxy(tmp_path / "source", tmp_path / "proxy", limits=Limits(max_pixels=600 * 400))


_JXL_SHARED = """
import sys
from PIL import Image
Image.init()
before = dict(Image.OPEN), dict(Image.SAVE), dict(Image.MIME)
import include.imaging
include.imaging.create_proxy(sys.argv[1], sys.argv[2])
assert (dict(Image.OPEN), dict(Image.SAVE), dict(Image.MIME)) == before
assert "pillow_jxl.JpegXLImagePlugin" not in sys.modules
"""


def test_reading_jpeg_xl_registers_nothing(tmp_path: Path, jxl: dict[str, bytes]) -> None:
    (tmp_path / "a").write_bytes(jxl["plain"])
    subprocess.run([sys.executable, "-c", _JXL_SHARED, tmp_path / "a", tmp_path / "b"], cwd=ROOT, check=True)


# -- bitmaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "expected"), [(0, (200, 100, 50)), (128, (200, 100, 50, 128))])
def test_a_bitmap_of_32_bits(tmp_path: Path, alpha: int, expected: tuple[int, ...]) -> None:
    """Many programs say that there is an alpha channel and leave it at zero: not an invisible picture."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, *SIZE, 1, 32, 3, 4096, 0, 0, 0, 0) + masks.ljust(84, b"\0")
    content = (
        b"BM" + struct.pack("<IHHI", 14 + 124 + 4096, 0, 0, 14 + 124) + header + bytes((50, 100, 200, alpha)) * 1024
    )
    assert near(_proxy(tmp_path, content).getpixel((9, 9))[: len(expected)], expected, 1)  # type: ignore[index]


# -- TIFF as scanners, presses and laboratories write it ---------------------------------------------------------------


def test_tiled_tiff(tmp_path: Path) -> None:
    picture = corners(96, 64)
    tiles = [picture.crop((x, y, x + 32, y + 32)).tobytes() for y in (0, 32) for x in (0, 32, 64)]
    assert _upright(_proxy(tmp_path, pictures.tiff_bytes((96, 64), 3, tiles, tile=32)), 3)


def test_16_bit_cmyk_tiff(tmp_path: Path) -> None:
    pixel = struct.pack("<4H", 65_535, 0, 0, 0)
    content = pictures.tiff_bytes(SIZE, 4, [pixel * 1024], depth=16, photometric=5)
    assert near(_proxy(tmp_path, content).getpixel((5, 5)), (0, 255, 255), 3)


def test_16_bit_rgb_tiff(tmp_path: Path) -> None:
    pixel = struct.pack("<3H", 64 * 257, 128 * 257, 192 * 257)
    content = pictures.tiff_bytes(SIZE, 3, [pixel * 1024], depth=16)
    assert near(_proxy(tmp_path, content).getpixel((5, 5)), (64, 128, 192), 1)


def test_16_bit_planes_that_lie_apart(tmp_path: Path) -> None:
    """Uncompressed, as laboratories write them: read as 8 bits they are a pattern of twice the picture."""
    planes = [b"".join(struct.pack("<H", column * step) for column in range(32)) * 32 for step in (2000, 1000, 500)]
    content = pictures.tiff_bytes(SIZE, 3, planes, depth=16, planar=2)
    for column in (1, 9, 30):
        expected = tuple(column * step // 257 for step in (2000, 1000, 500))
        assert near(_proxy(tmp_path, content).getpixel((column, 5)), expected, 1)


def test_16_bit_planes_that_lie_on_their_side(tmp_path: Path) -> None:
    picture = pictures.stored(corners(48, 32), 6)
    planes = [bytes(level for level in plane.tobytes() for _ in range(2)) for plane in picture.split()]
    content = pictures.tiff_bytes(picture.size, 3, planes, depth=16, planar=2, more={274: ("H", [6])})
    image = _proxy(tmp_path, content)
    assert image.size == (48, 32)
    assert _upright(image, 3)


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "deflated"])
def test_lab_in_planes(tmp_path: Path, packed: bool) -> None:
    planes = [bytes([level % 256]) * 1024 for level in (138, 70, -50)]
    apart = [zlib.compress(plane) if packed else plane for plane in planes]
    content = pictures.tiff_bytes(SIZE, 3, apart, photometric=8, planar=2, compression=8 if packed else 1)
    together = pictures.tiff_bytes(SIZE, 3, [b"".join(map(bytes, zip(*planes, strict=True)))], photometric=8)
    expected = _proxy(tmp_path, together).getpixel((5, 5))
    assert near(_proxy(tmp_path, content).getpixel((5, 5)), expected, 1)  # type: ignore[arg-type]


def test_gray_and_alpha_in_planes_are_refused(tmp_path: Path) -> None:
    """Their alpha is not read, and the picture would come out invisible."""
    planes = [zlib.compress(bytes([level]) * 1024) for level in (77, 255)]
    more = {338: ("H", [2])}
    content = pictures.tiff_bytes(SIZE, 2, planes, photometric=1, planar=2, compression=8, more=more)
    assert _code(tmp_path, content) == "unsupported_format"


def test_a_colour_map_in_8_bits(tmp_path: Path) -> None:
    colours = [*(value // 2 for value in range(256)), *range(256), *reversed(range(256))]
    content = pictures.tiff_bytes(SIZE, 1, [bytes([200]) * 1024], photometric=3, more={320: ("H", colours)})
    assert near(_proxy(tmp_path, content).getpixel((5, 5))[:3], (100, 200, 55), 1)  # type: ignore[index]


@pytest.mark.parametrize(
    ("code", "sample_format", "value", "gray"),
    [("f", 3, 0.25, 64), ("i", 2, 40_000, 156), ("f", 3, 51.0, 51), ("i", 2, 204, 204), ("I", 1, 204, 204)],
)
def test_32_bit_gray_tiff(tmp_path: Path, code: str, sample_format: int, value: float, gray: int) -> None:
    content = pictures.tiff_bytes(
        SIZE, 1, [struct.pack(f"<{code}", value) * 1024], depth=32, photometric=1, sample_format=sample_format
    )
    assert near(_proxy(tmp_path, content).getpixel((5, 5)), (gray,) * 3, 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "deflated"])
@pytest.mark.parametrize(
    ("code", "sample_format", "white"),
    [("f", 3, 1.0), ("i", 2, 2**31 - 1), ("h", 2, 2**15 - 1), ("H", 1, 2**16 - 1), ("I", 1, 2**32 - 1)],
)
def test_deep_gray_in_either_byte_order(
    tmp_path: Path, order: str, packed: bool, code: str, sample_format: int, white: float
) -> None:
    """What libtiff unpacks was turned round once too often; without a sign, the brighter half became the darkest."""
    whole = int if white > 1 else float
    row = b"".join(struct.pack(f"{order}{code}", whole(white * column / 31)) for column in range(32))
    pixels = zlib.compress(row * 32) if packed else row * 32
    content = pictures.tiff_bytes(
        SIZE, 1, [pixels], depth=8 * struct.calcsize(code), photometric=1, sample_format=sample_format, order=order,
        compression=8 if packed else 1,
    )  # fmt: skip
    if (order, code) == (">", "I"):  # Pillow does not read them
        assert _code(tmp_path, content) == "unsupported_format"
        return
    image = _proxy(tmp_path, content)
    assert all(near(image.getpixel((column, 9)), (column * 255 // 31,) * 3, 4) for column in range(32))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_strips_that_are_not_listed(tmp_path: Path, planar: int, depth: int) -> None:
    """They would be black, or what stands at the beginning of the file."""
    strips = [bytes([99]) * (32 * 8 * depth // 8 * (3 if planar == 1 else 1))] * (4 if planar == 1 else 12)
    how = {"planar": planar, "rows": 8, "depth": depth}
    for kept in (1, 2, len(strips) - 1):
        assert _code(tmp_path, pictures.tiff_bytes(SIZE, 3, strips[:kept], **how)) == "truncated"
    nowhere = {273: ("I", [8] * (len(strips) - 1) + [0])}
    assert _code(tmp_path, pictures.tiff_bytes(SIZE, 3, strips, **how, more=nowhere)) == "truncated"
    assert near(_proxy(tmp_path, pictures.tiff_bytes(SIZE, 3, strips, **how)).getpixel((20, 30)), (99, 99, 99), 1)


def test_tiles_that_are_not_listed(tmp_path: Path) -> None:
    tiles = [bytes([99]) * (16 * 16 * 3)] * 6
    assert _code(tmp_path, pictures.tiff_bytes((40, 32), 3, tiles[:5], tile=16)) == "truncated"
    assert near(_proxy(tmp_path, pictures.tiff_bytes((40, 32), 3, tiles, tile=16)).getpixel((39, 31)), (99, 99, 99), 1)


def test_a_variant_that_is_not_read_is_not_called_corrupt(tmp_path: Path) -> None:
    pixel = struct.pack("<3f", 0.1, 0.2, 0.3)
    content = pictures.tiff_bytes(SIZE, 3, [pixel * 1024], depth=32, sample_format=3)
    assert _code(tmp_path, content) == "unsupported_format"


def test_tags_that_claim_the_same_bytes_again_and_again(tmp_path: Path) -> None:
    """Each would be read and taken apart: 4000 tags over 20 MB are minutes."""
    tags = b"".join(struct.pack("<HHII", 40_000 + n, 4, 5_000_000, 8) for n in range(4000))
    content = b"II*\0" + struct.pack("<I", 20_000_008) + bytes(20_000_000) + struct.pack("<H", 4000) + tags + bytes(4)
    assert _code(tmp_path, content) == "corrupt"
    many = b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + bytes(12 * 65_535 + 4)
    assert _code(tmp_path, many) == "corrupt"


# -- JPEG that ends too early ------------------------------------------------------------------------------------------


def _jpeg(picture: Image.Image, **options: Any) -> tuple[bytes, int]:
    """A JPEG and where the data of its first scan begins."""
    content = _saved(picture, "JPEG", quality=90, **options)
    scan = content.index(b"\xff\xda")
    return content, scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")


@pytest.mark.parametrize("size", [(1200, 900), (120, 90)], ids=["resized", "same size"])
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 9}, {"optimize": True, "subsampling": 0}])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_jpeg_cut_short_but_closed(
    tmp_path: Path, size: tuple[int, int], options: dict[str, Any], kept: float
) -> None:
    """libjpeg makes up the rest, in gray, and says nothing that Pillow would pass on."""
    content, start = _jpeg(photo(*size), **options)
    cut = start + int((len(content) - start) * kept)
    assert _code(tmp_path, content[:cut].rstrip(b"\xff") + b"\xff\xd9") == "truncated"


def test_a_progressive_jpeg_cut_short_but_closed(tmp_path: Path) -> None:
    """In any of its scans but the last, which adds one bit of precision that nobody would miss."""
    content, _ = _jpeg(photo(1200, 900), progressive=True)
    starts = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    assert len(starts) == 10
    for start, end in pairwise([*starts, len(content) - 2]):
        cut = content[: (start + end) // 2].rstrip(b"\xff") + b"\xff\xd9"
        if start != starts[-1]:
            assert _code(tmp_path, cut) == "truncated"
    whole = _proxy(tmp_path, content)
    difference = ImageChops.difference(_proxy(tmp_path, cut), whole)
    assert max(ImageStat.Stat(difference).rms) < 3


@pytest.mark.parametrize("size", [(1200, 900), (121, 91)], ids=["resized", "same size"])
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 9}, {"optimize": True, "subsampling": 0}])
def test_a_jpeg_without_its_end_marker_is_a_good_picture(
    tmp_path: Path, size: tuple[int, int], options: dict[str, Any]
) -> None:
    content, _ = _jpeg(corners(*size), **options)
    assert _upright(_proxy(tmp_path, content[:-2]))
    info = inspect_image(tmp_path / "source")
    assert not info.whole
    assert not info.nova_ready  # the original itself is not to be sent


def test_a_jpeg_with_restarts_that_were_not_announced(tmp_path: Path) -> None:
    """A decoder stops there and makes up the rest."""
    content, start = _jpeg(photo(1200, 900))
    middle = start + (len(content) - start) // 2
    assert _code(tmp_path, content[:middle].rstrip(b"\xff") + b"\xff\xd3" + content[middle:]) == "truncated"


def test_a_jpeg_with_a_component_left_out(tmp_path: Path) -> None:
    content, _ = _jpeg(photo(120, 90))
    scan = content.index(b"\xff\xda")
    only_first = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    assert _code(tmp_path, content[:scan] + only_first + content[scan + 14 :]) == "truncated"


# -- PNG chunks that are not the picture -------------------------------------------------------------------------------


def _deflated(count: int) -> bytes:
    packing = zlib.compressobj(9)
    return b"".join(packing.compress(bytes(2**20)) for _ in range(count // 2**20)) + packing.flush()


def test_chunks_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path) -> None:
    bomb = _deflated(2**28)
    for chunk in (
        png_chunk(b"iCCP", b"icc\0\0" + bomb),
        png_chunk(b"zTXt", b"Comment\0\0" + bomb) * 20,
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb) * 20,
    ):
        assert _upright(_proxy(tmp_path, png_bytes(corners(400, 300), chunk)))


@pytest.mark.parametrize("kind", [b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"iCCP", b"eXIf", b"fcTL", b"fdAT", b"cICP"])
@pytest.mark.parametrize("body", [b"", b"\xff", b"\xff" * 99])
def test_a_broken_optional_chunk_refuses_nothing(tmp_path: Path, kind: bytes, body: bytes) -> None:
    assert _upright(_proxy(tmp_path, png_bytes(corners(400, 300), png_chunk(kind, body))))
    wrong_sum = bytearray(png_chunk(kind, body))
    wrong_sum[-1] ^= 1
    assert _upright(_proxy(tmp_path, png_bytes(corners(400, 300), bytes(wrong_sum))))


@pytest.mark.parametrize("size", [(32, 32), (300, 300)], ids=["same size", "resized"])
@pytest.mark.parametrize(("depth", "colour_type", "channels"), [(8, 0, 1), (1, 0, 1), (16, 2, 3), (8, 3, 1), (8, 6, 4)])
def test_a_png_of_which_rows_are_missing(
    tmp_path: Path, size: tuple[int, int], depth: int, colour_type: int, channels: int
) -> None:
    """Its stream is whole and ends too early: the rest was black."""
    width, height = size
    palette = png_chunk(b"PLTE", bytes(range(256)) * 3) if colour_type == 3 else b""
    row = b"\0" + b"\xaa" * (-(-width * depth * channels // 8))
    empty = b"\0" * len(row)
    for rows in (row * (height // 2), row * (height - 1)):
        assert _code(tmp_path, pictures.raw_png(size, depth, colour_type, rows, palette)) == "truncated"
    for rows in (row * height, row * (height // 2) + empty * (height - height // 2)):
        assert _proxy(tmp_path, pictures.raw_png(size, depth, colour_type, rows, palette)).width
        (tmp_path / "proxy").unlink()


def test_a_palette_that_is_missing(tmp_path: Path) -> None:
    """Pillow makes one up, of blacks."""
    content = pictures.raw_png(SIZE, 8, 3, (b"\0" + bytes(range(32))) * 32)
    assert _code(tmp_path, content) == "corrupt"


@pytest.mark.parametrize(("colour_type", "length"), [(0, 0), (0, 1), (2, 2), (2, 5)])
def test_a_transparent_colour_cut_short_refuses_nothing(tmp_path: Path, colour_type: int, length: int) -> None:
    rows = (b"\0" + b"\x63" * 32 * (3 if colour_type else 1)) * 32
    content = pictures.raw_png(SIZE, 8, colour_type, rows, png_chunk(b"tRNS", bytes(length)))
    assert near(_proxy(tmp_path, content).getpixel((9, 9)), (99, 99, 99), 1)


def test_a_profile_of_megabytes_is_used(tmp_path: Path) -> None:
    """Scanners have such; Pillow refuses the picture."""
    profile = pictures.adobe_rgb()
    profile += random.Random(1).randbytes(3_000_000)  # noqa: S311
    profile = struct.pack(">I", len(profile)) + profile[4:]
    chunk = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))
    image = _proxy(tmp_path, png_bytes(Image.new("RGB", SIZE, (60, 160, 60)), chunk))
    assert near(image.getpixel((5, 5)), (0, 160, 51), 4)


# -- colour that is said otherwise than by a profile -------------------------------------------------------------------

GREEN = (60, 160, 60)
_P3_CICP = png_chunk(b"cICP", bytes((12, 13, 0, 1)))


def _in_srgb(profile: bytes, colour: tuple[int, int, int] = GREEN) -> tuple[int, ...]:
    converted = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), colour), ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    assert converted is not None
    return converted.getpixel((0, 0))  # type: ignore[return-value]


def _png_green(chunks: bytes) -> bytes:
    content = png_bytes(Image.new("RGB", SIZE, GREEN))
    return content[:33] + chunks + content[33:]


def _numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


_ADOBE_CHUNKS = png_chunk(b"gAMA", _numbers(45_455)) + png_chunk(
    b"cHRM", _numbers(31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (_P3_CICP, _in_srgb(pictures.display_p3())),
        (png_chunk(b"cICP", bytes((1, 13, 0, 1))), GREEN),
        (png_chunk(b"cICP", bytes((1, 8, 0, 1))), (133, 206, 133)),  # linear light
        (png_chunk(b"gAMA", _numbers(45_455)), GREEN),
        (png_chunk(b"gAMA", _numbers(100_000)), (133, 206, 133)),
        (png_chunk(b"gAMA", _numbers(0)), GREEN),
        (_ADOBE_CHUNKS, (0, 160, 51)),
        (_ADOBE_CHUNKS + png_chunk(b"sRGB", b"\0"), GREEN),
        (png_chunk(b"gAMA", _numbers(45_455)) + png_chunk(b"cHRM", bytes(32)), GREEN),
        (_P3_CICP + _ADOBE_CHUNKS + png_chunk(b"sRGB", b"\0"), _in_srgb(pictures.display_p3())),
        (png_chunk(b"cICP", bytes((2, 2, 0, 1))) + _ADOBE_CHUNKS, (0, 160, 51)),
    ],
    ids=["p3", "srgb", "linear", "2.2", "1.0", "none", "adobe", "overruled", "nonsense", "cicp first", "unspecified"],
)
def test_png_colours_in_numbers(tmp_path: Path, chunks: bytes, expected: tuple[int, ...]) -> None:
    image = _proxy(tmp_path, _png_green(chunks))
    assert near(image.getpixel((5, 5)), tuple(expected), 5)
    assert inspect_image(tmp_path / "source").nova_ready is (expected == GREEN)


def test_brighter_than_white_is_not_cut_off(tmp_path: Path) -> None:
    """High dynamic range (PQ): white paper is bright, a lamp is brighter."""
    picture = Image.new("RGB", (60, 30))
    for n, level in enumerate((0, 148, 192)):  # black, 203 candelas, 1000 candelas
        picture.paste((level,) * 3, (n * 20, 0, n * 20 + 20, 30))
    content = png_bytes(picture)
    image = _proxy(tmp_path, content[:33] + png_chunk(b"cICP", bytes((9, 16, 0, 1))) + content[33:])
    black, paper, lamp = (image.getpixel((n * 20 + 10, 15))[0] for n in range(3))  # type: ignore[index]
    assert black == 0
    assert 215 < paper < 245
    assert paper < lamp


@pytest.mark.parametrize("name", ["heif", pytest.param("avif", marks=needs_avif)])
def test_display_p3_by_code_points(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (64, 64), GREEN)
    if name == "heif":
        pillow_heif.from_pillow(picture).save(buffer, quality=95)
    else:
        picture.save(buffer, "AVIF", quality=95)
    content = bytearray(buffer.getvalue())
    assert near(_proxy(tmp_path, bytes(content)).getpixel((5, 5)), GREEN, 5)
    at = content.index(b"colrnclx") + 8
    content[at : at + 2] = (12).to_bytes(2, "big")
    assert near(_proxy(tmp_path, bytes(content)).getpixel((5, 5)), tuple(_in_srgb(pictures.display_p3())), 8)


@pytest.mark.parametrize(("primary", "expected"), [(0, "Display P3"), (1, "sRGB"), (2, "Adobe RGB")])
def test_colours_of_the_picture_that_is_shown(tmp_path: Path, primary: int, expected: str) -> None:
    """A file of several pictures, which need not agree: neither the first nor those with a profile decide."""
    file = pillow_heif.HeifFile()
    for primaries in (12, 1, 2):
        image = file.add_from_pillow(Image.new("RGB", (64, 64), GREEN))
        if primaries == 2:
            image.info["icc_profile"] = pictures.adobe_rgb()
        else:
            named = {"color_primaries": primaries, "transfer_characteristics": 13}
            image.info["nclx_profile"] = {**named, "matrix_coefficients": 6, "full_range_flag": 1}
    buffer = io.BytesIO()
    file.save(buffer, quality=95, primary_index=primary, save_nclx_profile=True)
    profiles = {"Display P3": pictures.display_p3(), "sRGB": pictures.srgb(), "Adobe RGB": pictures.adobe_rgb()}
    colour = _proxy(tmp_path, buffer.getvalue()).getpixel((5, 5))
    assert near(colour, tuple(_in_srgb(profiles[expected])), 8)


@pytest.mark.parametrize(
    ("space", "interoperability", "adobe"),
    [(65_535, "R03", True), (2, "", True), (1, "R98", False), (65_535, "R98", False), (1, "R03", False)],
)
def test_adobe_rgb_that_only_exif_tells_of(tmp_path: Path, space: int, interoperability: str, adobe: bool) -> None:
    """As cameras write it."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    exif.get_ifd(0x8769)[0xA005] = {1: interoperability}
    image = _proxy(tmp_path, _saved(Image.new("RGB", SIZE, GREEN), "JPEG", quality=95, exif=exif))
    assert near(image.getpixel((5, 5)), (0, 160, 51) if adobe else GREEN, 5)


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_with_a_press_profile(tmp_path: Path, name: str) -> None:
    """Printed cyan is no screen's cyan, and printed black no hole."""
    picture = Image.new("CMYK", (64, 32), (255, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (32, 0, 64, 32))
    image = _proxy(tmp_path, _saved(picture, name, quality=95, icc_profile=pictures.cmyk_profile()))
    cyan, black = image.getpixel((10, 10)), image.getpixel((50, 10))
    assert near(cyan, (0, 149, 217), 12), cyan
    assert near(black, (0, 0, 0), 40), black


def test_gray_profiles_keep_gray(tmp_path: Path) -> None:
    for name in ("JPEG", "PNG", "TIFF"):
        content = _saved(Image.new("L", SIZE, 128), name, icc_profile=pictures.gray_profile(1.0))
        assert near(_proxy(tmp_path, content).getpixel((5, 5)), (188,) * 3, 4), name


def test_an_orientation_in_xmp_alone_is_not_followed(tmp_path: Path) -> None:
    """Nor do browsers: what a person saw was the picture as stored."""
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for name in ("JPEG", "WEBP", "TIFF", "PNG"):
        options: dict[str, Any] = {"xmp": xmp} if name != "PNG" else {}
        if name == "TIFF":
            options = {"tiffinfo": {700: xmp}}
        content = _saved(corners(600, 400), name, **options)
        if name == "PNG":
            content = png_bytes(corners(600, 400), png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
        assert _upright(_proxy(tmp_path, content)), name


def test_palette_with_levels_of_transparency(tmp_path: Path) -> None:
    palette = Image.new("P", (60, 30))
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.paste(1, (30, 0, 60, 30))
    image = _proxy(tmp_path, _saved(palette, "PNG", transparency=b"\x40\xff"))
    info = inspect_image(tmp_path / "source")
    assert info.has_alpha
    assert image.getpixel((50, 10)) == (0, 0, 200, 255)
    assert image.getpixel((10, 10)) == (200, 0, 0, 64)


def test_webp_is_measured_before_its_canvas_is_made(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    content = bytearray(_saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = content.index(b"VP8X") + 12
    content[at : at + 6] = (16_000 - 1).to_bytes(3, "little") * 2
    assert _code(tmp_path, bytes(content)) == "too_many_pixels"


# -- depths and modes that are rarer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "colour_type", "pixel", "expected"),
    [
        (1, 0, b"\xff", (255, 255, 255)),
        (2, 0, b"\xaa", (170, 170, 170)),
        (4, 0, b"\x55", (85, 85, 85)),
        (16, 2, b"\x40\0\x80\0\xc0\0", (64, 128, 192)),
        (16, 4, b"\x40\0\xff\xff", (64, 64, 64)),
        (16, 6, b"\x40\0\x80\0\xc0\0\xff\xff", (64, 128, 192)),
        (2, 3, b"\x55", (0, 200, 0)),
    ],
    ids=["gray 1", "gray 2", "gray 4", "rgb 16", "gray and alpha 16", "rgba 16", "palette 2"],
)
def test_png_depths(tmp_path: Path, depth: int, colour_type: int, pixel: bytes, expected: tuple[int, int, int]) -> None:
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row = b"\0" + (pixel * (32 * depth * samples // 8 // len(pixel)))
    palette = png_chunk(b"PLTE", bytes((9, 9, 9, 0, 200, 0, 9, 9, 9))) if colour_type == 3 else b""
    image = _proxy(tmp_path, pictures.raw_png((32, 32), depth, colour_type, row * 32, palette))
    assert near(image.convert("RGB").getpixel((9, 9)), expected, 1)


@pytest.mark.parametrize(
    ("depth", "colour_type", "clear", "other", "stated"),
    [
        (1, 0, b"\xff\xff", b"\0\0", (1,)),
        (2, 0, b"\x55", b"\xff", (1,)),
        (4, 0, b"\xff", b"\0", (15,)),
        (8, 0, b"\x07", b"\x80", (7,)),
        (16, 0, b"\x12\x34", b"\x80\0", (0x1234,)),
        (8, 2, b"\7\7\7", b"\x80\0\0", (7, 7, 7)),
        (16, 2, b"\x12\x34" * 3, b"\x80\0\0\0\0\0", (0x1234,) * 3),
    ],
)
def test_a_transparent_colour_at_every_depth(
    tmp_path: Path, depth: int, colour_type: int, clear: bytes, other: bytes, stated: tuple[int, ...]
) -> None:
    half = 160 * depth * (3 if colour_type else 1) // 8  # large enough to be encoded anew
    row = b"\0" + clear * (half // len(clear)) + other * (half // len(other))
    transparent = png_chunk(b"tRNS", struct.pack(f">{len(stated)}H", *stated))
    image = _proxy(tmp_path, pictures.raw_png((320, 320), depth, colour_type, row * 320, transparent))
    assert (image.getpixel((9, 9))[3], image.getpixel((240, 9))[3]) == (0, 255)  # type: ignore[index]


def test_cmyk_stored_as_luma_and_chroma(tmp_path: Path) -> None:
    """YCCK, as Photoshop writes it: luma 200 without chroma, and no black."""
    content = bytearray(_saved(Image.new("CMYK", SIZE, (55, 127, 127, 0)), "JPEG", quality=100))
    at = content.index(b"Adobe") + 11
    assert content[at] == 0
    content[at] = 2
    assert near(_proxy(tmp_path, bytes(content)).getpixel((9, 9)), (55, 55, 55), 3)


def test_cmyk_that_is_no_negative(tmp_path: Path) -> None:
    """Without Adobe's marker, as presses' own software writes it, nothing is inverted."""
    content = _saved(Image.new("CMYK", SIZE, (255, 255, 0, 255)), "JPEG", quality=100)
    start = content.index(b"\xff\xee")
    end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    image = _proxy(tmp_path, content[:start] + content[end:])
    assert near(image.getpixel((9, 9)), (255, 255, 0), 3)  # stored as no cyan, no magenta, all yellow, no black


def test_heif_of_ten_bits(tmp_path: Path) -> None:
    pixel = struct.pack("<3H", 64 * 257, 128 * 257, 192 * 257)
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 64), pixel * 4096).save(buffer, quality=95)
    assert near(_proxy(tmp_path, buffer.getvalue()).getpixel((9, 9)), (64, 128, 192), 4)


def test_gif_with_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (60, 30))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (30, 0, 60, 30))
    image = _proxy(tmp_path, _saved(picture, "GIF", transparency=0), ProxyOptions(max_side=256))
    info = inspect_image(tmp_path / "source")
    assert info.has_alpha
    assert near(image.getpixel((50, 10)), (0, 0, 200, 255))
    assert image.getpixel((10, 10)) == (0, 0, 0, 0)
