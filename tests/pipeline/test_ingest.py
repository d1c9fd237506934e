"""New images come into the catalog: what is read for it, what is left out, and what a changing source may do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.catalog.catalog import Catalog
from include.catalog.records import Selection, Stage
from include.pipeline.ingest import IngestCounts, ingest_source
from include.pipeline.params import parse_params
from include.pipeline.plan import work_key
from include.pipeline.settings import load_settings
from include.storage.errors import SourceError, StorageUnavailable
from include.storage.listings import InvalidSource, parse_source
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground

HEADER = 64 * 1024


class CountingClient:
    """A boto3 S3 client that counts what came over the wire, and lets a test act between two requests."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.ranges: list[str] = []
        self.body_bytes = 0
        self.before_get: Callable[[str], None] = lambda _: None

    def get_object(self, **request: Any) -> Any:
        self.before_get(request["Key"])
        self.ranges.append(request["Range"])
        reply = self._client.get_object(**request)
        self.body_bytes += int(reply["ContentLength"])
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@dataclass
class Intake:
    """A source in S3 and the catalog that it is registered in."""

    catalog: Catalog
    s3: CountingClient
    bucket: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, width: int = 1400, height: int = 1000, **photo: Any) -> int:
        path = photograph(self.folder / f"made-{width}x{height}.jpg", width, height)
        self.s3.upload_file(str(path), self.bucket, key)
        return path.stat().st_size

    def take(self, source: str = "", **how: Any) -> IngestCounts:
        settings = load_settings(bucket="proxies", temp_dir=self.folder, **self.settings)
        return ingest_source(self.catalog, self.s3, settings, parse_source(source or f"s3://{self.bucket}/"), **how)

    def rows(self) -> dict[str, Any]:
        key = work_key(parse_params({}), load_settings())
        found = self.catalog.select_unprocessed(Selection(key, frozenset({Stage.PROXY}), "dag/looking"))
        return {image.uri.removeprefix(f"s3://{self.bucket}/"): image for image in found}


@pytest.fixture
def intake(ground: Ground) -> Iterator[Intake]:
    yield Intake(ground.catalog, CountingClient(ground.s3), ground.bucket, ground.pictures.parent)


def test_only_the_first_bytes_of_a_new_image_are_read(intake: Intake) -> None:
    sizes = [intake.put(f"2026/{n}.jpg", 2400, 1800) for n in range(3)]
    assert min(sizes) > 10 * HEADER
    counts = intake.take()
    assert (counts.new, counts.changed, counts.unchanged) == (3, 0, 0)
    assert intake.s3.ranges == [f"bytes=0-{HEADER - 1}"] * 3
    assert intake.s3.body_bytes == counts.header_bytes == 3 * HEADER
    row = intake.rows()["2026/0.jpg"]
    assert (row.media_type, row.format, row.resolution_width, row.resolution_height) == (
        "image/jpeg", "jpeg", 2400, 1800,
    )  # fmt: skip
    assert (row.size_bytes, row.content_version.partition(":")[0]) == (sizes[0], "etag")


def test_a_second_listing_reads_nothing_and_changes_nothing(intake: Intake) -> None:
    intake.put("a.jpg")
    intake.take()
    before, reads = intake.rows(), len(intake.s3.ranges)
    counts = intake.take()
    assert (counts.registered, counts.unchanged, counts.older) == (0, 1, 0)  # within the overlap
    assert (intake.rows(), len(intake.s3.ranges)) == (before, reads)


def test_what_is_older_than_the_watermark_is_not_looked_at_until_full(intake: Intake) -> None:
    intake.settings = {"ingest_overlap_seconds": 0}
    intake.put("a.jpg")
    intake.take()
    later = datetime.now(UTC) + timedelta(hours=1)
    intake.catalog.record_listing(f"s3://{intake.bucket}/", later, 1)
    intake.put("b.jpg")
    assert intake.take().older == 2
    counts = intake.take(full=True)
    assert (counts.older, counts.new, counts.unchanged) == (0, 1, 1)


def test_an_image_that_comes_behind_the_listings_back_is_taken_by_the_next(intake: Intake) -> None:
    """`a.jpg` is uploaded when the listing has passed its place; the watermark must not have passed it too."""
    intake.settings = {"ingest_overlap_seconds": 0}
    intake.put("m.jpg")
    intake.s3.before_get = lambda key: intake.s3.put_object(Bucket=intake.bucket, Key="a.jpg", Body=b"late") and None
    assert intake.take().new == 1
    intake.s3.before_get = lambda key: None
    counts = intake.take()
    assert counts.new == 1
    assert "a.jpg" in intake.rows()


def test_an_image_replaced_between_listing_and_reading_is_registered_as_what_was_read(intake: Intake) -> None:
    intake.put("a.jpg", 1400, 1000)

    def replace(key: str) -> None:
        intake.s3.before_get = lambda _: None
        intake.put("a.jpg", 1700, 1100)

    intake.s3.before_get = replace
    intake.take()
    row = intake.rows()["a.jpg"]
    etag = intake.s3.head_object(Bucket=intake.bucket, Key="a.jpg")["ETag"].strip('"')
    assert (row.resolution_width, row.content_version) == (1700, f"etag:{etag}")
    assert intake.take().registered == 0


def test_an_image_deleted_between_listing_and_reading_is_left_out(intake: Intake) -> None:
    intake.put("a.jpg")
    intake.put("b.jpg")
    intake.s3.before_get = lambda key: intake.s3.delete_object(Bucket=intake.bucket, Key="a.jpg") and None
    counts = intake.take()
    assert (counts.new, counts.skipped) == (1, {"vanished": 1})


def test_a_listing_that_breaks_off_moves_no_watermark_and_keeps_what_it_registered(intake: Intake) -> None:
    for name in ("a", "b"):
        intake.put(f"{name}.jpg")

    def refuse(key: str) -> None:
        if key == "b.jpg":
            raise StorageUnavailable("storage_unavailable", "the network is gone")

    source = f"s3://{intake.bucket}/"
    assert intake.take(limit=1).complete is False
    assert intake.catalog.watermark(source) is None
    intake.s3.before_get = refuse
    with pytest.raises(StorageUnavailable):
        intake.take()
    assert intake.catalog.watermark(source) is None
    assert set(intake.rows()) == {"a.jpg"}
    intake.s3.before_get = lambda _: None
    assert (intake.take().new, intake.catalog.watermark(source) is not None) == (1, True)


def test_new_content_is_a_new_version_with_its_old_proxy_superseded(ground: Ground, intake: Intake) -> None:
    photograph(ground.pictures / "a.jpg", 1400, 1000)
    folder = str(ground.pictures)
    assert intake.take(folder).new == 1
    made = ground.make_proxies_of_what_is_registered()
    assert made["a.jpg"].outcome == "proxied"
    before = ground.catalog.current(made["a.jpg"].file_id)
    photograph(ground.pictures / "a.jpg", 1600, 1200)
    assert intake.take(folder).changed == 1
    row = ground.catalog.current(made["a.jpg"].file_id)
    assert row is not None and before is not None
    assert (row["proxy_uri"], row["content_version"] != before["content_version"]) == (None, True)
    again = ground.make_proxies_of_what_is_registered("second")
    assert again["a.jpg"].file_id == made["a.jpg"].file_id
    assert len(ground.objects()) == 2  # the old proxy's object is still there


HOSTILE = {
    "empty.jpg": (b"", "image/jpeg", None),
    "text called.jpg": (b"not an image at all", "image/jpeg", None),
    "cut.png": (b"\x89PNG\r\n\x1a\n\0\0", "image/png", None),
    "bomb.png": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0\x9f\x9c\x8a\x1d",
        "image/png",
        None,
    ),
    "film.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 500, "video/mp4", None),
    "no suffix": (b"BM" + b"\0" * 60, "application/octet-stream", None),
}


def test_hostile_and_unsupported_files_are_registered_and_stop_nobody(intake: Intake) -> None:
    for name, (body, _, _) in HOSTILE.items():
        intake.s3.put_object(Bucket=intake.bucket, Key=name, Body=body)
    intake.put("good.jpg")
    counts = intake.take()
    assert counts.new == len(HOSTILE) + 1
    rows = intake.rows()
    assert {name: row.resolution_width for name, row in rows.items()} == {
        **{name: None for name, (_, kind, _) in HOSTILE.items() if kind.startswith("image/")},
        "good.jpg": 1400,
    }  # and what is no image is never listed for work


def test_what_people_do_not_put_there_is_skipped_with_a_reason(intake: Intake) -> None:
    intake.settings = {"prefix": "mine"}
    for key in ("folder/", ".DS_Store", "a/.thumbs/b.jpg", "mine/recipe/x_1_nova.jpg"):
        intake.s3.put_object(Bucket=intake.bucket, Key=key, Body=b"x")
    settings = load_settings(bucket=intake.bucket, prefix="mine", temp_dir=intake.folder)
    counts = ingest_source(intake.catalog, intake.s3, settings, parse_source(f"s3://{intake.bucket}/"))
    assert (counts.new, counts.skipped) == (0, {"folder_marker": 1, "hidden": 2, "own_proxy": 1})
    assert intake.s3.ranges == []


def test_nothing_of_ours_comes_in_from_a_bucket_that_holds_originals_too(intake: Intake) -> None:
    """A preview that was registered would be given a preview, which would be registered: without end."""
    settings = load_settings(bucket=intake.bucket, temp_dir=intake.folder)
    for folder in (settings.prefix, settings.preview_prefix, settings.evaluation_prefix, settings.batch_prefix):
        intake.put(f"{folder}/abc/photo_1.jpg")
    intake.put("proxy_previews_of_2025.jpg")
    counts = ingest_source(intake.catalog, intake.s3, settings, parse_source(f"s3://{intake.bucket}/"))
    ours = {"own_proxy": 1, "own_preview": 1, "own_copy": 1, "own_batch_file": 1}
    assert (list(intake.rows()), counts.skipped) == (["proxy_previews_of_2025.jpg"], ours)


@pytest.mark.parametrize("key", ["a b.jpg", "a+b.jpg", "ünï/日本.jpg", "per%2Fcent.jpg", "q?#&.jpg", "line\nbreak.jpg"])
def test_a_key_is_kept_as_it_is(intake: Intake, key: str) -> None:
    intake.put(key)
    assert intake.take().new == 1
    assert set(intake.rows()) == {key}
    assert intake.take().unchanged == 1


def test_a_header_behind_a_large_profile_is_found_by_one_longer_read(intake: Intake) -> None:
    path = intake.folder / "profile.jpg"
    Image.new("RGB", (500, 400)).resize((3000, 2000)).save(path, icc_profile=os.urandom(300_000), quality=100)
    path.write_bytes(path.read_bytes() + b"\0" * 2_000_000)
    intake.s3.upload_file(str(path), intake.bucket, "a.jpg")
    counts = intake.take()
    assert intake.rows()["a.jpg"].resolution_width == 3000
    assert (counts.header_reads, counts.header_bytes) == (2, HEADER + 16 * HEADER)


def test_a_folder_is_registered_by_size_and_time_without_reading_it_whole(ground: Ground, intake: Intake) -> None:
    photograph(ground.pictures / "a.jpg", 2400, 1800)
    counts = intake.take(str(ground.pictures))
    assert (counts.new, counts.header_bytes) == (1, HEADER)
    [row] = intake.rows().values()
    assert row.content_version.startswith("stat:")
    assert intake.take(str(ground.pictures)).registered == 0


def test_a_file_moved_into_a_folder_with_its_old_time_is_not_missed(ground: Ground, intake: Intake) -> None:
    intake.settings = {"ingest_overlap_seconds": 0}
    old = photograph(ground.pictures.parent / "old.jpg", 1400, 1000)
    os.utime(old, (1e9, 1e9))
    photograph(ground.pictures / "a.jpg", 1400, 1000)
    intake.take(str(ground.pictures))
    shutil.move(old, ground.pictures / "old.jpg")
    assert intake.take(str(ground.pictures)).new == 1


def test_a_folder_that_was_registered_by_its_bytes_is_not_processed_twice(ground: Ground, intake: Intake) -> None:
    photograph(ground.pictures / "a.jpg", 1400, 1000)
    photograph(ground.pictures / "b.jpg", 1400, 1000)
    ground.plan()
    photograph(ground.pictures / "b.jpg", 1500, 1000)
    counts = intake.take(str(ground.pictures))
    assert (counts.new, counts.changed, counts.unchanged) == (0, 1, 1)


def test_a_source_that_is_away_fails_instead_of_registering_nothing(intake: Intake, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        intake.take(str(tmp_path / "unmounted"))
    with pytest.raises(StorageUnavailable):
        intake.take("s3://no-such-bucket-here/")


@pytest.mark.parametrize("text", ["pictures", "../x", "http://host/x", "s3://", "s3://UPPER/x", "file://host/x", ""])
def test_a_wrong_source_says_what_to_type(text: str) -> None:
    with pytest.raises(InvalidSource, match="type s3://bucket/prefix or an absolute folder"):
        parse_source(text)


@pytest.mark.parametrize("name", ["my pictures", "50% off", "ünï", "a#b?c", "per%20cent"])
def test_a_folder_is_found_again_by_its_name(intake: Intake, name: str) -> None:
    """A task of `catalog_ingest` is handed the name that the task before it made of what was typed."""
    folder = intake.folder / name
    folder.mkdir()
    photograph(folder / "a.jpg", 1300, 1000)
    source = parse_source(str(folder))
    assert parse_source(source.name) == source
    assert intake.take(source.name).new == 1
