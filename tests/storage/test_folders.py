"""A folder as people keep them: nothing vanishes, nothing is touched, nothing stops the listing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from include.storage.errors import StorageError
from include.storage.folders import LocalFile, list_local_images
from include.storage.sources import fetch_source

Unprivileged = Callable[[], AbstractContextManager[None]]


def listed(folder: Path) -> dict[str, LocalFile]:
    return {str(one.path.relative_to(folder)): one for one in list_local_images(folder)}


def picture(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), "teal").save(path, kind)
    return path


def test_a_file_is_listed_with_what_the_catalog_needs(tmp_path: Path) -> None:
    path = picture(tmp_path / "my holiday" / "été 1.png")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (one,) = list_local_images(tmp_path)
    assert one == LocalFile(
        path=path,
        uri=path.as_uri(),
        filename="été 1.png",
        media_type="image/png",
        size_bytes=path.stat().st_size,
        modified_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        content_version=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
    assert fetch_source(one.uri, tmp_path).path == path, "the address leads back to the file"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000"])
def test_content_tells_the_type_when_the_name_lies(tmp_path: Path, kind: str) -> None:
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    picture(tmp_path / "upload.dat", kind)
    expected = {"HEIF": "image/heic", "JPEG2000": "image/jp2"}.get(kind, f"image/{kind.lower()}")
    assert listed(tmp_path)["upload.dat"].media_type == expected


def test_what_is_no_image_is_listed_as_what_it_is(tmp_path: Path) -> None:
    for name in ("notes.txt", "clip.mp4", "paper.pdf", "data.bin", "README"):
        (tmp_path / name).write_text("words")
    assert {name: one.media_type for name, one in listed(tmp_path).items()} == {
        "README": "application/octet-stream",
        "clip.mp4": "video/mp4",
        "data.bin": "application/octet-stream",
        "notes.txt": "text/plain",
        "paper.pdf": "application/pdf",
    }


def test_a_camera_raw_file_is_not_taken_for_its_thumbnail(tmp_path: Path) -> None:
    picture(tmp_path / "DSC_1.NEF", "TIFF")
    assert listed(tmp_path)["DSC_1.NEF"].media_type == "image/x-nikon-nef"


def test_empty_and_unreadable_images_do_not_vanish(open_folder: Path, unprivileged: Unprivileged) -> None:
    (open_folder / "x.jpg").touch(mode=0o644)
    picture(open_folder / "y.jpg").chmod(0)
    picture(open_folder / "z.jpg").chmod(0o644)
    with unprivileged():
        found = listed(open_folder)
    assert {name: one.media_type for name, one in found.items()} == {
        "x.jpg": "image/jpeg",
        "y.jpg": "image/jpeg",
        "z.jpg": "image/png",
    }
    assert found["x.jpg"].content_version == f"sha256:{hashlib.sha256().hexdigest()}"
    assert found["y.jpg"].content_version.startswith("stat:")


def test_a_closed_subfolder_is_named_and_passed_by(
    open_folder: Path, unprivileged: Unprivileged, caplog: pytest.LogCaptureFixture
) -> None:
    picture(open_folder / "closed" / "a.png")
    picture(open_folder / "open.png")
    (open_folder / "closed").chmod(0)
    with unprivileged():
        assert list(listed(open_folder)) == ["open.png"]
    assert str(open_folder / "closed") in caplog.text


def test_hidden_and_special_files_are_left_out(tmp_path: Path) -> None:
    picture(tmp_path / ".hidden.png")
    picture(tmp_path / ".thumbnails" / "a.png")
    picture(tmp_path / "._a.png")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait forever
    picture(tmp_path / "a.png")
    assert list(listed(tmp_path)) == ["a.png"]


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    picture(root / "sub" / "a.png")
    picture(elsewhere / "b.png")
    picture(tmp_path / "c.png")
    (root / "sub" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "sub")
    (root / "same.png").symlink_to(root / "sub" / "a.png")
    (root / "other").symlink_to(elsewhere)
    (root / "other2").symlink_to(elsewhere)
    (elsewhere / "parent").symlink_to(tmp_path)  # leads outside, and from there back in
    (root / "c.png").symlink_to(tmp_path / "c.png")
    (root / "dangling.png").symlink_to(root / "gone.png")
    (root / "self.png").symlink_to(root / "self.png")
    found = listed(root)
    assert {"sub/a.png", "other/b.png", "c.png"} <= set(found)
    assert not {"again/a.png", "same.png", "other2/b.png", "dangling.png", "self.png"} & set(found)
    assert len(found) < 10


def test_the_order_is_fixed_and_the_files_untouched(tmp_path: Path) -> None:
    for name in ("b/2.png", "a.png", "b/1.png", "c.png", "a/z.png"):
        picture(tmp_path / name)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*.png")}
    assert list(listed(tmp_path)) == ["a.png", "c.png", "a/z.png", "b/1.png", "b/2.png"]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*.png")} == before


def test_names_and_times_that_unicode_and_calendars_do_not_know(tmp_path: Path) -> None:
    path = picture(tmp_path / os.fsdecode(b"latin-\xe9.png"))
    os.utime(path, (2**33, 2**33))
    (one,) = list_local_images(tmp_path)
    one.filename.encode()  # a name that cannot be encoded cannot be stored
    assert one.uri.endswith("latin-%E9.png")
    assert one.modified_at.tzinfo is UTC


def test_a_folder_that_cannot_be_listed_says_why(open_folder: Path, unprivileged: Unprivileged) -> None:
    def code(folder: Path) -> str:
        with pytest.raises(StorageError) as caught:
            list_local_images(folder)
        return caught.value.code

    (open_folder / "closed").mkdir(mode=0)
    assert code(open_folder / "gone") == "source_missing"
    assert code(picture(open_folder / "a.png")) == "source_not_a_file"
    with unprivileged():
        assert code(open_folder / "closed") == "source_unreadable"
