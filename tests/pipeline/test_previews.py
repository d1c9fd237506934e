"""What people see of an original: there with its proxy, gone with its content, and never worth an image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.imaging import DecodeWorkers, PreviewRequest
from include.imaging.errors import MemoryLimit
from include.local.seaweedfs import SeaweedFS
from include.storage.errors import StorageUnavailable
from tests.imaging.pictures import photo, saved
from tests.pipeline.conftest import Ground


def stored(ground: Ground, name: str) -> Image.Image | None:
    """The preview of an image as S3 has it."""
    preview = ground.catalog.preview(ground.images()[name].file_id)
    if preview is None:
        return None
    bucket, _, key = preview.uri.removeprefix("s3://").partition("/")
    content = ground.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert len(content) == preview.bytes
    assert ground.catalog.target_figures().preview_bytes >= preview.bytes
    return Image.open(io.BytesIO(content))


def test_a_proxy_comes_with_a_preview_of_its_original(ground: Ground) -> None:
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    ground.make_proxies(preview_side=300)
    preview = stored(ground, "a.jpg")
    assert preview is not None
    assert preview.size == (299, 224)
    assert ground.catalog.preview(ground.images()["a.jpg"].file_id).uri.rpartition("/")[2].endswith("_preview.jpg")


def test_a_kept_original_has_one_too(ground: Ground) -> None:
    saved(ground.pictures / "small.jpg", photo(640, 480), quality=80)
    assert ground.make_proxies(preview_side=300)["small.jpg"].action == "kept"
    assert stored(ground, "small.jpg").size == (300, 225)


@pytest.mark.usefixtures("usual_environment")
def test_proxy_and_preview_carry_what_the_bucket_asks_for_and_neither_takes_boto3(
    ground: Ground, seaweedfs: SeaweedFS
) -> None:
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    ground.s3, sent = seaweedfs.client(), []
    ground.s3.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method) and None)
    ground.make_proxies(preview_side=300, object_tags={"team": "photo desk"})
    assert sent == []
    keys = [found["Key"] for found in ground.s3.list_objects_v2(Bucket=ground.bucket)["Contents"]]
    assert len(keys) == 2
    for key in keys:
        found = ground.s3.get_object_tagging(Bucket=ground.bucket, Key=key)["TagSet"]
        assert found == [{"Key": "team", "Value": "photo desk"}], key


def test_none_is_kept_where_none_is_wanted(ground: Ground) -> None:
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    ground.make_proxies(preview_side=0)
    assert stored(ground, "a.jpg") is None
    keys = [found["Key"] for found in ground.s3.list_objects_v2(Bucket=ground.bucket)["Contents"]]
    assert [key for key in keys if key.startswith("proxy_preview/")] == []


def test_a_picture_that_takes_too_much_for_a_proxy_may_still_be_seen(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryLimit("too much")

    monkeypatch.setattr(DecodeWorkers, "create_proxy", no_memory)
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    assert ground.make_proxies(keep_original="never", preview_side=300)["a.jpg"].code == "memory_limit"
    assert stored(ground, "a.jpg").size == (300, 225)


def test_a_corrupt_file_has_none(ground: Ground) -> None:
    whole = saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95).read_bytes()
    (ground.pictures / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert ground.make_proxies()["a.jpg"].code == "truncated"
    assert stored(ground, "a.jpg") is None


def test_a_preview_that_storage_refuses_costs_no_proxy(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("storage_unavailable", "away")

    monkeypatch.setattr("include.pipeline.previews.upload_object", refuse)
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    assert ground.make_proxies()["a.jpg"].action == "resized"
    assert stored(ground, "a.jpg") is None


def test_changed_content_has_the_old_ones_preview_no_more(ground: Ground, tmp_path: Path) -> None:
    saved(ground.pictures / "a.jpg", photo(1600, 1200), quality=95)
    ground.make_proxies()
    assert stored(ground, "a.jpg") is not None
    saved(ground.pictures / "a.jpg", photo(1500, 1200), quality=95)
    ground.plan("later", stages=["proxy"])
    assert stored(ground, "a.jpg") is None


def test_a_request_is_bounded() -> None:
    with pytest.raises(ValueError, match="longest_side"):
        PreviewRequest("x", 5000)
