"""The proxy stage: what is kept, what is made, what is uploaded, and what never happens."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from include.catalog.records import NewImage, Outcome, Stage
from include.imaging import DecodeWorkers
from include.imaging.errors import CorruptImage, MemoryLimit, TimeLimit
from include.pipeline.batches import RunCancelled
from include.pipeline.proxies import NotEnoughDisk
from include.storage.errors import StorageUnavailable
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground

CAMERA, GPS = 0x010F, 0x8825


def with_gps(path: Path, width: int, height: int) -> Path:
    exif = Image.Exif()
    exif[CAMERA] = "Lumen"
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 8.0, 14.6)})
    with Image.open(photograph(path, width, height)) as picture:
        picture.save(path, quality=90, exif=exif)
    return path


def stored_picture(ground: Ground, name: str) -> Image.Image:
    key = ground.uri(name).removeprefix(f"s3://{ground.bucket}/")
    return Image.open(io.BytesIO(ground.s3.get_object(Bucket=ground.bucket, Key=key)["Body"].read()))


# -- keeping the original --------------------------------------------------------------------------------------------


def test_a_small_clean_picture_is_kept_and_uploaded_because_nova_cannot_read_folders(ground: Ground) -> None:
    original = photograph(ground.pictures / "a.jpg", 640, 480).read_bytes()
    image = ground.make_proxies()["a.jpg"]
    assert (image.outcome, image.action) == (Outcome.KEPT, "kept")
    (key,) = ground.objects()
    assert ground.s3.get_object(Bucket=ground.bucket, Key=key)["Body"].read() == original


def test_a_small_clean_picture_that_is_in_s3_already_stays_there(ground: Ground) -> None:
    ground.s3.upload_file(str(photograph(ground.pictures.parent / "b.jpg", 640, 480)), ground.bucket, "originals/b.jpg")
    ground.register_object("originals/b.jpg")
    image = ground.make_proxies()["b.jpg"]
    assert image.outcome is Outcome.KEPT
    assert ground.uri("b.jpg") == f"s3://{ground.bucket}/originals/b.jpg"
    assert ground.objects() == ["originals/b.jpg"]


@pytest.mark.parametrize(
    ("keep_original", "action", "leaks"), [("if_clean", "stripped", False), ("always", "kept", True)]
)
def test_where_a_picture_was_taken_leaves_only_when_told_to(
    ground: Ground, keep_original: str, action: str, leaks: bool
) -> None:
    with_gps(ground.pictures / "a.jpg", 640, 480)
    assert ground.make_proxies(keep_original=keep_original)["a.jpg"].action == action
    with stored_picture(ground, "a.jpg") as stored:
        assert bool(stored.getexif().get_ifd(GPS)) is leaks


def test_never_means_never(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 640, 480)
    assert ground.make_proxies(keep_original="never")["a.jpg"].outcome is Outcome.PROXIED


def test_a_proxy_that_would_be_larger_is_not_used(ground: Ground) -> None:
    picture = Image.new("P", (1000, 1000))
    picture.putpalette([255, 255, 255, 20, 20, 120])
    for row in range(0, 1000, 7):  # hard edges that resampling turns into a thousand shades
        picture.paste(1, (0, row, 1000, row + 3))
    picture.save(ground.pictures / "lines.png", optimize=True)
    image = ground.make_proxies()["lines.png"]
    assert (image.outcome, image.reason) == (Outcome.KEPT, "proxy_larger")
    assert image.proxy_bytes == image.original_bytes


# -- falling back to the original ------------------------------------------------------------------------------------


def failing(error: Exception) -> Any:
    def create_proxy(self: DecodeWorkers, *arguments: object, **options: object) -> None:
        raise error

    return create_proxy


@pytest.mark.parametrize("error", [TimeLimit("too slow"), MemoryLimit("too much")])
def test_a_lack_of_resources_falls_back_to_a_clean_original(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    monkeypatch.setattr(DecodeWorkers, "create_proxy", failing(error))
    image = ground.make_proxies()["a.jpg"]
    assert (image.outcome, image.reason) == (Outcome.KEPT, error.code)  # type: ignore[attr-defined]


def test_an_original_with_gps_is_no_fallback(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gps(ground.pictures / "a.jpg", 1300, 1000)
    monkeypatch.setattr(DecodeWorkers, "create_proxy", failing(TimeLimit("too slow")))
    image = ground.make_proxies()["a.jpg"]
    assert (image.outcome, image.code) == (Outcome.FAILED, "time_limit")
    assert ground.objects() == []


def test_a_corrupt_file_is_never_sent_instead_of_its_proxy(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    monkeypatch.setattr(DecodeWorkers, "create_proxy", failing(CorruptImage("broken")))
    assert ground.make_proxies()["a.jpg"].code == "corrupt"
    assert ground.objects() == []


# -- one bad picture, and bad ground -----------------------------------------------------------------------------------


def test_a_bad_picture_is_an_outcome_and_the_others_go_on(ground: Ground) -> None:
    photograph(ground.pictures / "good.jpg", 1300, 1000)
    (ground.pictures / "empty.jpg").touch()
    (ground.pictures / "text.png").write_text("I am no picture")
    ground.s3.put_object(Bucket=ground.bucket, Key="gone.jpg", Body=b"x")
    ground.register_object("gone.jpg")
    ground.s3.delete_object(Bucket=ground.bucket, Key="gone.jpg")
    codes = {name: image.code for name, image in ground.make_proxies().items()}
    assert codes == {
        "good.jpg": None,
        "empty.jpg": "empty",
        "text.png": "unsupported_format",
        "gone.jpg": "source_missing",
    }


def test_a_deleted_file_does_not_stop_the_batch(ground: Ground) -> None:
    gone = photograph(ground.pictures / "a.jpg", 1300, 1000)
    photograph(ground.pictures / "b.jpg", 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    gone.unlink()
    assert ground.stage().run(ground.run_id, batch) == {Outcome.FAILED: 1, Outcome.PROXIED: 1}


def test_a_full_disk_is_said_before_anything_is_begun(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    with pytest.raises(NotEnoughDisk, match="IMAGE_PROXY_TEMP_DIR"):
        ground.make_proxies(min_free_bytes=2**60)
    assert ground.images()["a.jpg"].outcome is None


def test_storage_that_is_away_fails_the_task_and_a_retry_repeats_only_the_rest(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    real, ground.bucket = ground.bucket, "no-such-bucket"
    with pytest.raises(StorageUnavailable):
        ground.stage().run(ground.run_id, batch)
    ground.bucket = real
    assert ground.stage().run(ground.run_id, batch) == {Outcome.PROXIED: 1}
    assert ground.stage().run(ground.run_id, batch) == {}


def test_a_stopped_task_gives_its_images_back_at_once(ground: Ground) -> None:
    for number in range(8):
        photograph(ground.pictures / f"{number}.jpg", 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    stage = ground.stage()
    stage.stop.set()
    with pytest.raises(RunCancelled):
        stage.run(ground.run_id, batch)
    other = ground.catalog.claim_batch(ground.run_id, batch, Stage.PROXY, "next try", 60)
    assert other.items and other.busy == ()


def test_an_image_that_another_run_holds_is_left_to_it(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    first = ground.plan("first", stages=["proxy"])
    held_by = ground.run_id
    second = ground.plan("second", stages=["proxy"])
    assert ground.catalog.claim_batch(held_by, first, Stage.PROXY, "the first run", 60).items
    assert ground.stage().run(ground.run_id, second) == {Outcome.SKIPPED: 1}
    assert ground.images()["a.jpg"].code == "claimed_by_another_run"


def test_an_image_taken_over_meanwhile_is_put_back_not_written_twice(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ran out while the proxy was made, and another run took the image."""
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    second = ground.plan("second", stages=["proxy"])
    second_run = ground.run_id
    batch = ground.plan("first", stages=["proxy"])
    create = DecodeWorkers.create_proxy

    def overtaken(self: DecodeWorkers, *arguments: Any, **options: Any) -> Any:
        ground.catalog.release_all()
        assert ground.catalog.claim_batch(second_run, second, Stage.PROXY, "other", 60).items
        return create(self, *arguments, **options)

    monkeypatch.setattr(DecodeWorkers, "create_proxy", overtaken)
    assert ground.stage().run(ground.run_id, batch) == {Outcome.RETURNED: 1}
    assert ground.images()["a.jpg"].code == "lease_lost"


def test_nothing_is_left_in_the_temporary_folder(ground: Ground) -> None:
    before = set(ground.pictures.parent.iterdir())
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    ground.make_proxies()
    left = {path.name for path in set(ground.pictures.parent.iterdir()) - before}
    assert not [name for name in left if name.startswith("image-proxy-")]


def test_the_stop_signal_is_each_tasks_own(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    ground.plan(stages=["proxy"])
    assert isinstance(ground.stage().stop, threading.Event)
    assert ground.stage().stop is not ground.stage().stop


# -- what changes under a run ------------------------------------------------------------------------------------------


def test_a_file_changed_since_it_was_registered_is_put_back_not_filed_under_the_old_content(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    photograph(ground.pictures / "a.jpg", 1500, 1100)
    assert ground.stage().run(ground.run_id, batch) == {Outcome.RETURNED: 1}
    assert ground.images()["a.jpg"].code == "content_changed"
    assert ground.make_proxies(conf={})["a.jpg"].original_width == 1500


def test_an_object_replaced_since_it_was_listed_is_not_filed_and_paid_for_under_the_old_content(ground: Ground) -> None:
    def listed() -> NewImage:
        head = ground.s3.head_object(Bucket=ground.bucket, Key="in/a.jpg")
        uri, version = f"s3://{ground.bucket}/in/a.jpg", f"etag:{head['ETag'].strip(chr(34))}"
        return NewImage(uri, "a.jpg", "image/jpeg", head["ContentLength"], version, datetime.now(UTC))

    path = photograph(ground.pictures.parent / "a.jpg", 1300, 1000)
    ground.s3.upload_file(str(path), ground.bucket, "in/a.jpg")
    ground.catalog.register([listed()])
    batch = ground.plan(stages=["proxy"])
    photograph(path, 1500, 1100)
    ground.s3.upload_file(str(path), ground.bucket, "in/a.jpg")
    assert ground.stage().run(ground.run_id, batch) == {Outcome.RETURNED: 1}
    assert ground.images()["a.jpg"].code == "content_changed"
    assert ground.objects() == ["in/a.jpg"]
    ground.catalog.register([listed()])
    assert ground.make_proxies()["a.jpg"].original_width == 1500


def test_a_version_of_the_teams_own_is_compared_with_nothing(ground: Ground, tmp_path: Path) -> None:
    """In a table of theirs, what is called an ETag may be of another upload."""
    path = photograph(ground.pictures.parent / "a.jpg", 1300, 1000)
    ground.s3.upload_file(str(path), ground.bucket, "in/a.jpg")
    uri = f"s3://{ground.bucket}/in/a.jpg"
    ground.catalog.register([NewImage(uri, "a.jpg", "image/jpeg", 1, f"etag:{'0' * 32}", datetime.now(UTC))])
    batch = ground.plan(stages=["proxy"])
    assert ground.stage(table_mapping=tmp_path / "map.toml").run(ground.run_id, batch) == {Outcome.PROXIED: 1}


def test_a_row_deleted_meanwhile_is_skipped_and_the_others_go_on(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photograph(ground.pictures / name, 1300, 1000)
    batch = ground.plan(stages=["proxy"])
    ids = {name: image.file_id for name, image in ground.images().items()}
    delete_row(ground, ids["c.jpg"])  # before its batch begins
    create = DecodeWorkers.create_proxy

    def deleted_while_made(self: DecodeWorkers, source: Path, *arguments: Any, **options: Any) -> Any:
        if Path(source).name == "a.jpg":
            delete_row(ground, ids["a.jpg"])
        return create(self, source, *arguments, **options)

    monkeypatch.setattr(DecodeWorkers, "create_proxy", deleted_while_made)
    assert ground.stage().run(ground.run_id, batch) == {Outcome.SKIPPED: 1, Outcome.PROXIED: 1}
    counts = ground.catalog.run_counts(ground.run_id)
    assert (counts.undecided, counts.by_outcome) == (0, {Outcome.SKIPPED: 2, Outcome.PROXIED: 1})


def delete_row(ground: Ground, file_id: int) -> None:
    with ground.catalog._store.writing() as connection:
        connection.execute(text("DELETE FROM files WHERE id = :id"), {"id": file_id})


def test_a_small_damaged_picture_is_not_kept_unseen(ground: Ground) -> None:
    photograph(ground.pictures / "a.png", 640, 480)
    whole = (ground.pictures / "a.png").read_bytes()
    (ground.pictures / "a.png").write_bytes(whole[: len(whole) // 2])
    assert ground.make_proxies()["a.png"].outcome is Outcome.FAILED
    assert ground.objects() == []


@pytest.mark.parametrize("uri", ["s3://arn:aws:s3:::originals/a.jpg", "s3://no such bucket/a.jpg", "ftp://x/a.jpg"])
def test_an_odd_address_is_its_images_own_failure(ground: Ground, uri: str) -> None:
    ground.catalog.register([NewImage(uri, "odd.jpg", "image/jpeg", 1, "v1", datetime.now(UTC))])
    photograph(ground.pictures / "good.jpg", 1300, 1000)
    outcomes = {name: image.outcome for name, image in ground.make_proxies().items()}
    assert outcomes == {"odd.jpg": Outcome.FAILED, "good.jpg": Outcome.PROXIED}


def test_a_kept_original_that_takes_another_connection_to_read_is_copied(ground: Ground) -> None:
    """Nova reads with the permissions of the connection that writes proxies."""
    path = ground.pictures.parent / "small.png"
    Image.new("RGB", (64, 48), "navy").save(path)
    ground.s3.upload_file(str(path), ground.bucket, "archive/small.png")
    ground.register_object("archive/small.png", "image/png")
    image = ground.make_proxies(source_aws_conn_id="archive")["small.png"]
    assert image.outcome is Outcome.KEPT
    assert ground.uri("small.png").startswith(f"s3://{ground.bucket}/proxy_image/")


def test_proxies_carry_the_tags_of_the_deployment(ground: Ground) -> None:
    photograph(ground.pictures / "large.jpg", 1200, 1000)
    ground.make_proxies(object_tags={"team": "photo"})
    (key,) = ground.objects()
    assert ground.s3.get_object_tagging(Bucket=ground.bucket, Key=key)["TagSet"] == [{"Key": "team", "Value": "photo"}]
