"""Stripping that changes a pixel is a silent re-encoding; stripping that misses a segment sends somebody's address."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from include.imaging import ProxyError, create_proxy, inspect_image
from tests.imaging import pictures
from tests.imaging.pictures import photo, png_bytes, png_chunk, saved

SIZE = (120, 90)


def _pixels(path: Path) -> tuple[str, bytes]:
    with Image.open(path) as opened:
        image = opened.convert("RGBA") if opened.mode == "P" else opened
        return image.mode, image.tobytes()


def _stripped(tmp_path: Path, content: bytes) -> tuple[Path, Path]:
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(content)
    assert not inspect_image(source).clean
    result = create_proxy(source, output)
    assert result.action == "stripped"
    assert result.proxy_dimensions == result.original_dimensions == SIZE
    assert result.proxy_size_bytes == output.stat().st_size < len(content)
    assert _pixels(source) == _pixels(output)
    info = inspect_image(output)
    assert info.clean
    assert info.nova_ready
    return source, output


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    _, output = _stripped(tmp_path, pictures.jpeg_with_everything(photo(*SIZE).convert(mode)))
    assert b"SEC" not in output.read_bytes()
    with Image.open(output) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}


def test_jpeg_keeps_every_byte_of_its_scans(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photo(*SIZE).save(buffer, "JPEG", progressive=True, comment=b"SECRET")
    _, output = _stripped(tmp_path, buffer.getvalue())
    scans = buffer.getvalue()[buffer.getvalue().index(b"\xff\xda") :]
    assert output.read_bytes().endswith(scans)


def test_png_with_palette_and_transparency(tmp_path: Path) -> None:
    picture = photo(*SIZE).quantize(16)
    text = png_chunk(b"tEXt", b"Author\0SECRET") + png_chunk(b"eXIf", pictures.exif().tobytes()[6:])
    late = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0SECRET") + png_chunk(b"tIME", bytes(7))
    _, output = _stripped(tmp_path, png_bytes(picture, text, late, transparency=3) + b"SECRET behind the end")
    assert b"SECRET" not in output.read_bytes()


def test_png_keeps_what_its_colours_depend_on(tmp_path: Path) -> None:
    gamma = png_chunk(b"gAMA", (45455).to_bytes(4, "big"))
    content = png_bytes(photo(*SIZE))
    first = content.index(b"IDAT") - 4
    _, output = _stripped(tmp_path, content[:first] + gamma + content[first:] + b"x")
    assert b"gAMA" in output.read_bytes()


def test_png_without_its_profile_looks_the_same(tmp_path: Path) -> None:
    """A profile overrules the gamma beside it; without the profile, the gamma would count."""
    gamma = png_chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    content = png_bytes(photo(*SIZE), icc_profile=pictures.srgb())
    first = content.index(b"iCCP") - 4
    _, output = _stripped(tmp_path, content[:first] + gamma + content[first:] + b"x")
    assert b"gAMA" not in output.read_bytes()


def test_png_loses_what_a_strict_decoder_would_refuse(tmp_path: Path) -> None:
    wrong = bytearray(png_chunk(b"pHYs", bytes(9)))
    wrong[-1] ^= 1
    content = png_bytes(photo(*SIZE), png_chunk(b"tEXt", b"Author\0me"))
    first = content.index(b"IDAT") - 4
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(content[:first] + bytes(wrong) + content[first:])
    assert create_proxy(source, output).action == "stripped"
    assert b"pHYs" not in output.read_bytes()
    with Image.open(output) as image:
        image.load()


@pytest.mark.parametrize("end", [b"", png_chunk(b"IEND", b"SECRET")], ids=["none", "with something in it"])
def test_png_gets_an_end(tmp_path: Path, end: bytes) -> None:
    whole = png_bytes(photo(*SIZE))
    (tmp_path / "a").write_bytes(whole[:-12] + end)
    assert create_proxy(tmp_path / "a", tmp_path / "b").action == "stripped"
    assert (tmp_path / "b").read_bytes() == whole


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}], ids=["lossless", "lossy"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(tmp_path: Path, mode: str, options: dict[str, object]) -> None:
    picture = photo(*SIZE).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", exif=pictures.exif(), xmp=b"<SECRET/>", icc_profile=pictures.srgb(), **options)
    _, output = _stripped(tmp_path, buffer.getvalue())
    data = output.read_bytes()
    assert b"SECRET" not in data
    assert b"ICCP" not in data
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def _webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8 ", b"ALPH", b"ANIM"])
def test_webp_with_a_chunk_behind_its_picture(tmp_path: Path, kind: bytes) -> None:
    """Which no decoder looks at: a second picture, and even an empty header, which was an IndexError."""
    buffer = io.BytesIO()
    photo(*SIZE).save(buffer, "WEBP", lossless=True)
    for body in (b"", b"SECRET" * 5):
        source, output = tmp_path / "source", tmp_path / "output"
        source.write_bytes(_webp(buffer.getvalue()[12:], _webp_chunk(kind, body)))
        try:
            create_proxy(source, output)
        except ProxyError:  # more pixels than one may have, in a header made of text
            continue
        assert not inspect_image(source).clean
        assert output.read_bytes() == buffer.getvalue()


def test_webp_animation_of_one_frame(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    moving = [photo(*SIZE), photo(*SIZE)]
    moving[0].save(buffer, "WEBP", lossless=True, save_all=True, append_images=moving[1:], duration=100)
    data = buffer.getvalue()
    first = data.index(b"ANMF")
    second = data.index(b"ANMF", first + 4)
    frame = data[first + 8 : second]
    hidden = _webp(data[12:first], _webp_chunk(b"ANMF", frame + _webp_chunk(b"JUNK", b"SECRET")))
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(hidden)
    assert create_proxy(source, output).action == "stripped"
    assert output.read_bytes() == _webp(data[12:second])
    assert _pixels(source) == _pixels(output)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"sPLT", b"SECRET\0\x08" + bytes(6)),
        (b"gAMA", b"\0\0\xb1\x8fSECRET"),
        (b"pHYs", b"SECRET" * 9),
        (b"sBIT", b"SECRET"),
    ],
    ids=lambda chunk: chunk[0].decode(),
)
def test_png_with_text_where_numbers_belong(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    _, output = _stripped(tmp_path, png_bytes(photo(*SIZE), png_chunk(*chunk)))
    assert b"SECRET" not in output.read_bytes()


def test_jpeg_with_a_segment_that_decoders_skip(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photo(*SIZE).save(buffer, "JPEG", quality=92)
    data = buffer.getvalue()
    _, output = _stripped(tmp_path, data[:2] + b"\xff\xdc\0\x08SECRET" + data[2:])
    assert output.read_bytes() == data


def test_a_clean_file_comes_out_as_it_is(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", photo(*SIZE))
    assert create_proxy(source, tmp_path / "b.png").action == "stripped"
    assert (tmp_path / "b.png").read_bytes() == source.read_bytes()


def test_what_cannot_be_decoded_is_not_passed_on(tmp_path: Path) -> None:
    """Its structure is whole and nothing needs resizing: only decoding shows that Nova would refuse it."""
    content = bytearray(png_bytes(photo(*SIZE)))
    middle = content.index(b"IDAT") + 200
    content[middle : middle + 50] = bytes(50)
    source, output = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(content)
    with pytest.raises(ProxyError) as caught:
        create_proxy(source, output)
    assert caught.value.code == "corrupt"
    assert not output.exists()
