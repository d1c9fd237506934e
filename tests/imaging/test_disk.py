"""A disk that fills in the middle of a batch loses nothing, blames no picture, and leaves no half of a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.imaging import RESOURCE_CODES, DecodeWorkers, ProxyError, ProxyOptions, create_proxy, inspect_image
from tests.imaging.disks import grow, small_disk
from tests.imaging.pictures import photo, saved, text_page


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 32) as folder:
        yield folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photo.jpg", {}),
        ("text.png", {}),
        ("text.png", {"graphics_format": "webp"}),
        ("small.png", {}),
    ],
    ids=["jpeg", "png", "webp", "stripped"],
)
def test_a_full_disk(tmp_path: Path, disk: Path, name: str, options: dict[str, Any]) -> None:
    picture = (
        text_page(2000, 1500) if name == "text.png" else photo(2000, 1500) if name == "photo.jpg" else photo(400, 300)
    )
    source = saved(tmp_path / name, picture)
    recipe = ProxyOptions(**options)
    (disk / "other").write_bytes(b"of somebody else")
    with DecodeWorkers(1) as pool:
        with pytest.raises(ProxyError) as caught:
            pool.create_proxy(source, disk / "proxy", recipe)
        assert caught.value.code == "disk_full"
        assert caught.value.code in RESOURCE_CODES
        assert caught.value.transient
        with pytest.raises(ProxyError, match="free some disk space"):
            create_proxy(source, disk / "proxy", recipe)
        assert [path.name for path in disk.iterdir()] == ["other"]
        grow(disk, 16_384)
        result = pool.create_proxy(source, disk / "proxy", recipe)
    info = inspect_image(disk / "proxy")
    assert (info.size_bytes, info.nova_ready) == (result.proxy_size_bytes, True)


def test_the_proxy_before_survives_a_full_disk(tmp_path: Path, disk: Path) -> None:
    source = saved(tmp_path / "photo.jpg", photo(2000, 1500))
    (disk / "proxy").write_bytes(b"the one before")
    with DecodeWorkers(1) as pool, pytest.raises(ProxyError):
        pool.create_proxy(source, disk / "proxy")
    assert (disk / "proxy").read_bytes() == b"the one before"
    assert len(list(disk.iterdir())) == 1
