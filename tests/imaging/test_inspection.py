"""What a header says decides whether an original is sent as it is: a wrong yes sends GPS, or a picture on its side."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image, features

from include.imaging import Limits, ProxyError, boxes, containers, inspect_image
from tests.imaging import pictures
from tests.imaging.pictures import photo, png_bytes, png_chunk, saved

SIZE = (60, 40)


def _code(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(ProxyError) as caught:
        inspect_image(path, limits)
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jpeg", {}),
        ("png", {}),
        ("webp", {}),
        ("gif", {}),
        ("tiff", {}),
        ("bmp", {}),
        pytest.param("avif", {}, marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")),
    ],
)
def test_formats_are_told_by_content(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = saved(tmp_path / "wrong.xyz", photo(*SIZE), format=name, **options)
    info = inspect_image(path)
    assert (info.format, info.width, info.height, info.frames) == (name, *SIZE, 1)
    assert info.media_type == f"image/{name}"
    assert info.size_bytes == path.stat().st_size
    assert info.nova_ready == (name in {"jpeg", "png", "webp", "gif"})


def test_heif_without_changing_pillow_for_others(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(photo(*SIZE)).save(path)
    info = inspect_image(path)
    assert (info.format, info.width, info.height, info.media_type) == ("heif", *SIZE, "image/heic")
    assert not info.nova_ready
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff"])
def test_dimensions_are_upright(tmp_path: Path, name: str, orientation: int) -> None:
    data = pictures.exif(orientation)
    path = saved(tmp_path / "a", pictures.stored(photo(*SIZE), orientation), format=name, exif=data)
    info = inspect_image(path)
    assert (info.width, info.height, info.orientation) == (*SIZE, orientation)
    assert (info.stored_width, info.stored_height) == (SIZE if orientation == 3 else SIZE[::-1])
    assert not info.nova_ready
    assert not info.clean


def test_png_orientation_behind_the_pixels(tmp_path: Path) -> None:
    late = png_chunk(b"eXIf", pictures.exif(6).tobytes()[6:])
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(photo(*SIZE), after_pixels=late))
    info = inspect_image(path)
    assert (info.orientation, info.width, info.height) == (6, *SIZE[::-1])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(*SIZE), exif=b"Exif\0\0" + b"II*\0\xff\xff\xff\xff garbage")
    assert inspect_image(path).orientation == 1


@pytest.mark.parametrize(
    ("profile", "srgb"),
    [(pictures.srgb(), True), (pictures.adobe_rgb(), False), (pictures.display_p3(), False), (b"broken", True)],
    ids=["srgb", "adobe", "p3", "broken"],
)
def test_profiles_are_judged_by_what_they_do(tmp_path: Path, profile: bytes, srgb: bool) -> None:
    info = inspect_image(saved(tmp_path / "a.jpg", photo(*SIZE), icc_profile=profile))
    assert info.srgb is srgb
    assert info.nova_ready is srgb
    assert info.clean  # a colour profile is not private


@pytest.mark.parametrize(
    ("mode", "name", "bits", "ready"),
    [("CMYK", "JPEG", 8, False), ("I;16", "PNG", 16, False), ("L", "JPEG", 8, True), ("1", "PNG", 1, True)],
)
def test_modes_that_nova_does_not_take(tmp_path: Path, mode: str, name: str, bits: int, ready: bool) -> None:
    info = inspect_image(saved(tmp_path / "a", Image.new(mode, SIZE), format=name))
    assert (info.mode, info.bits, info.nova_ready) == (mode, bits, ready)


def test_a_side_over_8000_is_not_ready(tmp_path: Path) -> None:
    assert inspect_image(saved(tmp_path / "a.png", Image.new("L", (8000, 2)))).nova_ready
    assert not inspect_image(saved(tmp_path / "a.png", Image.new("L", (8001, 2)))).nova_ready


@pytest.mark.parametrize(
    "chunk", [png_chunk(b"tEXt", b"Author\0me"), png_chunk(b"tIME", bytes(7)), png_chunk(b"caBX", b"provenance")]
)
def test_png_metadata_is_seen(tmp_path: Path, chunk: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(photo(*SIZE)))
    assert inspect_image(path).clean
    path.write_bytes(png_bytes(photo(*SIZE), after_pixels=chunk))
    assert not inspect_image(path).clean


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif"])
def test_bytes_behind_the_picture_are_metadata(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a", photo(*SIZE), format=name)
    assert inspect_image(path).clean
    with path.open("ab") as file:
        file.write(b"hidden!!")
    assert not inspect_image(path).clean


def test_gif_comments_are_metadata_and_loops_are_not(tmp_path: Path) -> None:
    frames = [Image.new("L", SIZE, shade) for shade in (1, 100, 200)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:], loop=0)
    info = inspect_image(path)
    assert (info.frames, info.clean) == (3, True)
    assert not inspect_image(saved(tmp_path / "b.gif", frames[0], comment="me")).clean


def test_frames_of_each_kind(tmp_path: Path) -> None:
    frames = [Image.new("RGB", SIZE, (shade, 0, 0)) for shade in (10, 200)]
    for name in ("png", "webp", "tiff"):
        path = saved(tmp_path / f"a.{name}", frames[0], save_all=True, append_images=frames[1:])
        assert inspect_image(path).frames == 2, name
        assert _code(path, Limits(max_frames=1)) == "too_many_frames"


@pytest.mark.parametrize(
    "name",
    ["heif", pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF"))],
)
def test_frames_that_only_decoders_count(tmp_path: Path, name: str) -> None:
    path, frames = tmp_path / "a", [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (10, 90, 200)]
    if name == "heif":
        file = pillow_heif.HeifFile()
        for frame in frames:
            file.add_from_pillow(frame)
        file.save(path)
    else:
        frames[0].save(path, "AVIF", save_all=True, append_images=frames[1:])
    assert inspect_image(path).frames == 3
    assert _code(path, Limits(max_frames=2)) == "too_many_frames"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"just some text\n", "no known image format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"\0\0\2\0\1\0" + bytes(40), "cursor"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "metafile"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon raw"),
        (b"MM\0+\0\x08\0\0" + bytes(40), "big-endian BigTIFF"),
        (b"x", "no known image format"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "innocent.jpg"
    path.write_bytes(content)
    with pytest.raises(ProxyError, match=named) as caught:
        inspect_image(path)
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize("marker", [b"\xc3", b"\xf7"], ids=["lossless", "JPEG-LS"])
def test_jpegs_of_another_kind_are_refused_by_name(tmp_path: Path, marker: bytes) -> None:
    """One was corrupt where the decoder had to scale and readable where not, the other truncated."""
    content = pictures.jpeg_with_everything(photo(*SIZE))
    path = tmp_path / "a.jpg"
    path.write_bytes(content.replace(b"\xff\xc0", b"\xff" + marker))
    with pytest.raises(ProxyError, match="lossless") as caught:
        inspect_image(path)
    assert caught.value.code == "unsupported_format"


def test_camera_raw_is_refused_rather_than_its_thumbnail(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.dng", photo(*SIZE), format="TIFF", tiffinfo={50706: b"\x01\x04\0\0"})
    assert _code(path) == "unsupported_format"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert _code(tmp_path / "missing.jpg") == "unreadable"
    assert _code(tmp_path) == "unreadable"
    os.mkfifo(tmp_path / "pipe")
    assert _code(tmp_path / "pipe") == "unreadable"
    (tmp_path / "empty.jpg").touch()
    assert _code(tmp_path / "empty.jpg") == "empty"


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", photo(*SIZE))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read everything
    assert _code(path) == "unreadable"


def test_limits_that_the_header_tells(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", photo(*SIZE))
    assert _code(path, Limits(max_pixels=60 * 40 - 1)) == "too_many_pixels"
    assert inspect_image(path, Limits(max_pixels=60 * 40)).width == 60
    assert _code(path, Limits(max_bytes=path.stat().st_size - 1)) == "too_large_file"


def test_a_pixel_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    """200 bytes that decode to 40 GB."""
    path = tmp_path / "bomb.png"
    path.write_bytes(pictures.raw_png((100_000, 100_000), 8, 6, b""))
    assert _code(path) == "too_many_pixels"


def test_scans_are_counted_before_decoding(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photo(64, 64).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    scan = data[start : data.index(b"\xff\xda", start + 2)]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert inspect_image(path).width == 64
    path.write_bytes(data[:-2] + scan * 200 + b"\xff\xd9")
    assert _code(path) == "too_many_scans"


@pytest.mark.parametrize("name", ["png", "webp", "avif", "tiff"])
def test_a_half_is_truncated(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a", photo(*SIZE), format=name)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert _code(path) == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0\0\x04ab\xff\xd9",
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", b""),
        b"GIF89a\0",
        b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0",
        b"BM" + bytes(60),
        b"II*\0\x08\0\0\0\0\0\0\0\0\0",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
    ],
    ids=["jpeg", "png", "gif", "webp", "bmp", "tiff", "heif", "avif"],
)
def test_a_signature_with_nothing_behind_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert _code(path) in {"corrupt", "truncated"}


def test_a_tiff_that_points_at_itself_ends(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", photo(*SIZE))
    data = bytearray(path.read_bytes())
    first = struct.unpack("<I", data[4:8])[0]
    link = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    data[link : link + 4] = struct.pack("<I", first)
    path.write_bytes(data)
    assert inspect_image(path).frames == 1


def test_parts_without_end_are_not_followed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megabytes of empty chunks are minutes in any reader."""
    monkeypatch.setattr(containers, "MAX_PARTS", 1000)
    monkeypatch.setattr(boxes, "MAX_PARTS", 1000)
    path = tmp_path / "a"
    path.write_bytes(png_bytes(photo(*SIZE), png_chunk(b"tEXt", b"") * 2000))
    assert _code(path) == "corrupt"
    path.write_bytes(b"\xff\xd8" + b"\xff\xfe\0\2" * 2000 + b"\xff\xd9")
    assert _code(path) == "corrupt"
    chunks = b"JUNK\0\0\0\0" * 2000
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    assert _code(path) == "corrupt"
    path.write_bytes(b"\0\0\0\x14ftypheic\0\0\0\0heic" + b"\0\0\0\x08free" * 2000)
    assert _code(path) == "corrupt"


def test_boxes_of_no_length_do_not_loop(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for length in (1, 2, 7):
        path.write_bytes(b"\0\0\0\x14ftypheic\0\0\0\0heic" + struct.pack(">I4sQ", length, b"meta", length) * 9)
        assert _code(path) == "corrupt"


def test_a_gif_of_more_frames_than_anybody_watches(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.gif", Image.new("L", (1, 1))).read_bytes()
    at = data.index(b",\0\0\0\0")
    path = tmp_path / "b.gif"
    path.write_bytes(data[:at] + data[at:-1] * 20_000 + b";")
    assert _code(path) == "too_many_frames"
    assert inspect_image(path, Limits(max_frames=20_000)).frames == 20_000
