"""The first bytes of a file tell what the whole file would, or are refused; never anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.imaging import DecodeWorkers, HeaderInfo, ProxyError
from include.imaging.header import read_header
from include.imaging.inspection import inspect_image
from include.imaging.recipe import Limits

HEAD = 8 * 1024
NOISE = Image.effect_noise((330, 210), 80)
EXIF_ROTATED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"

KINDS: dict[str, dict[str, Any]] = {
    "plain.jpg": {"quality": 95},
    "rotated.jpg": {"quality": 95, "exif": EXIF_ROTATED},
    "progressive.jpg": {"quality": 95, "progressive": True},
    "graphic.png": {},
    "lossy.webp": {"quality": 95},
    "lossless.webp": {"lossless": True},
    "extended.webp": {"quality": 95, "icc_profile": b"x" * 200},
    "picture.gif": {},
    "picture.bmp": {},
    "picture.tif": {},
    "rotated.tif": {"tiffinfo": {274: 6}},
    "picture.jp2": {},
}


def made(folder: Path, name: str) -> Path:
    path = folder / name
    picture = NOISE if name.endswith(".gif") else NOISE.convert("RGB")
    picture.save(path, **KINDS[name])
    assert path.stat().st_size > 2 * HEAD
    return path


@pytest.mark.parametrize("name", KINDS)
def test_the_head_tells_what_the_whole_file_tells(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    whole = inspect_image(path)
    head = tmp_path / "head"
    head.write_bytes(path.read_bytes()[:HEAD])
    if name.endswith(".tif"):
        # Its directory lies behind the pixels here; the beginning may say nothing, but nothing wrong either.
        try:
            assert read_header(head) == HeaderInfo(whole.format, whole.width, whole.height)
        except ProxyError as error:
            assert error.code in ("corrupt", "truncated")
        head = path
    assert read_header(head) == HeaderInfo(whole.format, whole.width, whole.height)


@pytest.mark.parametrize("count", [0, 1, 12, 16, 20, 25, 30, 100])
@pytest.mark.parametrize("name", ["plain.jpg", "graphic.png", "lossy.webp", "lossless.webp", "extended.webp"])
def test_too_few_bytes_are_refused_or_right(tmp_path: Path, name: str, count: int) -> None:
    path = made(tmp_path, name)
    head = tmp_path / "head"
    head.write_bytes(path.read_bytes()[:count])
    try:
        found = read_header(head)
    except ProxyError as error:
        assert error.code in ("empty", "corrupt", "truncated", "unsupported_format")
    else:
        assert (found.width, found.height) == (330, 210)


def test_limits_hold_and_a_child_does_the_reading(tmp_path: Path) -> None:
    path = made(tmp_path, "plain.jpg")
    with DecodeWorkers(1) as workers:
        assert workers.read_header(path) == HeaderInfo("jpeg", 330, 210)
    with pytest.raises(ProxyError) as refused:
        read_header(path, Limits(max_pixels=1000))
    assert refused.value.code == "too_many_pixels"
