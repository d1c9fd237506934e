"""What is stored is what was meant, once, under a key that any tool can read."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.local.credentials import Credentials
from include.local.seaweedfs import SeaweedFS
from include.storage.errors import SourceError, StorageError, StorageUnavailable
from include.storage.objects import clean_stem, object_key, upload_object
from tests.storage.test_sources import client_of


@pytest.fixture
def proxy(tmp_path: Path) -> Path:
    path = tmp_path / "proxy.png"
    path.write_bytes(b"\x89PNG pixels")
    return path


def test_an_object_carries_its_type_checksum_and_source(s3: Any, bucket: str, proxy: Path) -> None:
    labels = {"recipe": "r1", "content": "c1"}
    stored = upload_object(s3, proxy, bucket, "a/b.png", content_type="image/png", source_id=7, metadata=labels)
    digest = hashlib.sha256(proxy.read_bytes())
    assert (stored.uri, stored.size_bytes, stored.sha256) == (f"s3://{bucket}/a/b.png", 11, digest.hexdigest())
    assert stored.uploaded
    found = s3.head_object(Bucket=bucket, Key="a/b.png", ChecksumMode="ENABLED")
    assert found["ContentType"] == "image/png"
    assert found["Metadata"] == {"source-id": "7", "sha256": digest.hexdigest(), **labels}
    assert found["ChecksumSHA256"], "the server did not see our checksum"
    assert s3.get_object(Bucket=bucket, Key="a/b.png")["Body"].read() == proxy.read_bytes()


def test_the_same_content_is_not_sent_again_and_another_is(s3: Any, bucket: str, proxy: Path) -> None:
    def upload() -> bool:
        return upload_object(
            s3, proxy, bucket, "k.png", content_type="image/png", source_id=7, ask_from_bytes=0
        ).uploaded

    assert [upload(), upload()] == [True, False]
    proxy.write_bytes(b"\x89PNG pixelz")  # as long as before
    assert upload()
    assert s3.get_object(Bucket=bucket, Key="k.png")["Body"].read() == b"\x89PNG pixelz"


def test_a_small_file_is_sent_without_asking_and_a_large_one_is_asked_for(s3: Any, bucket: str, tmp_path: Path) -> None:
    sent: list[str] = []
    s3.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method) and None)
    for size in (200_000, 2_000_000):
        path = tmp_path / f"{size}.jpg"
        path.write_bytes(os.urandom(size))
        for _ in range(2):
            upload_object(s3, path, bucket, path.name, content_type="image/jpeg", source_id=7)
    assert sent == ["PUT", "PUT", "HEAD", "PUT", "HEAD"]


def test_extra_arguments_reach_the_server(s3: Any, bucket: str, proxy: Path) -> None:
    extra = {"Tagging": "team=photo", "ServerSideEncryption": "AES256"}
    upload_object(s3, proxy, bucket, "k.png", content_type="image/png", source_id=7, extra=extra)
    assert s3.get_object_tagging(Bucket=bucket, Key="k.png")["TagSet"] == [{"Key": "team", "Value": "photo"}]
    assert s3.head_object(Bucket=bucket, Key="k.png")["ServerSideEncryption"] == "AES256"


def test_a_large_original_goes_in_parts_and_is_recognised_later(s3: Any, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(os.urandom(11 << 20))

    def upload() -> bool:
        return upload_object(
            s3, path, bucket, "l.tif", content_type="image/tiff", source_id=7, multipart_bytes=5 << 20
        ).uploaded

    assert upload()
    found = s3.head_object(Bucket=bucket, Key="l.tif", ChecksumMode="ENABLED")
    assert found["ChecksumSHA256"].endswith("-3"), "three parts, each with its checksum"
    assert (found["ContentType"], found["ContentLength"]) == ("image/tiff", 11 << 20)
    assert s3.get_object(Bucket=bucket, Key="l.tif")["Body"].read() == path.read_bytes()
    assert not upload()


@pytest.mark.parametrize("multipart_bytes", [1 << 20, 1])
def test_failures_tell_storage_from_the_file(
    seaweedfs: SeaweedFS, s3: Any, bucket: str, proxy: Path, multipart_bytes: int
) -> None:
    def code(client: Any, path: Path, to: str) -> tuple[type[Exception], str]:
        with pytest.raises(StorageError) as caught:
            upload_object(
                client, path, to, "k.png", content_type="image/png", source_id=7, multipart_bytes=multipart_bytes
            )
        return type(caught.value), caught.value.code

    stranger = client_of(seaweedfs.endpoint_url, Credentials(seaweedfs.credentials.access_key, "wrong"))
    assert code(s3, proxy, "no-such-bucket") == (StorageUnavailable, "bucket_missing")
    assert code(stranger, proxy, bucket) == (StorageUnavailable, "access_denied")
    assert code(s3, proxy.with_name("gone.png"), bucket) == (SourceError, "source_missing")


def key_of(stem: str = "IMG_1", content: str = "sha256:abc", recipe: str = "v1") -> str:
    return object_key(
        "proxy_image/",
        recipe_version=recipe,
        content_version=content,
        original_stem=stem,
        source_file_id=42,
        extension=".JPG",
    )


def test_a_key_names_recipe_content_stem_and_source() -> None:
    assert re.fullmatch(r"proxy_image/[0-9a-f]{12}-[0-9a-f]{12}/IMG_1_42_nova\.jpg", key_of())
    content = hashlib.sha256(b"sha256:abc").hexdigest()[:12]
    assert key_of(recipe="0123456789abcdef") == f"proxy_image/0123456789ab-{content}/IMG_1_42_nova.jpg"
    assert len({key_of(), key_of(content="sha256:abd"), key_of(recipe="v2")}) == 3


def test_an_extension_cannot_smuggle_a_path() -> None:
    with pytest.raises(ValueError, match="extension"):
        object_key("p", recipe_version="r", content_version="c", original_stem="s", source_file_id=1, extension="a/b")


@pytest.mark.parametrize(
    ("stem", "cleaned"),
    [
        ("holiday photo (1)", "holiday-photo-1"),
        ("Größe/été", "Groe-ete"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本", "image"),
        ("", "image"),
        ("v1.2", "v1.2"),
    ],
)
def test_stems_stay_recognisable(stem: str, cleaned: str) -> None:
    assert clean_stem(stem) == cleaned


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_any_stem_becomes_a_safe_one(stem: str) -> None:
    cleaned = clean_stem(stem)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", cleaned)
    assert not cleaned.startswith((".", "-"))
    assert ".." not in cleaned
    assert clean_stem(cleaned) == cleaned
    assert key_of(stem, content=stem).count("/") == 2
