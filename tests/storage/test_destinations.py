"""A result stands at its destination whole or not at all, in a folder and in S3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from include.storage.destinations import Destination, UnusableDestination, parse_destination, whole_file
from include.storage.errors import StorageUnavailable
from include.storage.rules import ObjectRules


def write(destination: Destination, s3: Any, content: bytes, **more: Any) -> None:
    with whole_file(destination, "a.jsonl", s3, content_type="application/x-ndjson", **more) as path:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("s3://bucket", "s3://bucket/a"),
        ("s3://bucket/", "s3://bucket/a"),
        ("S3://bucket//x//y/", "s3://bucket/x/y/a"),
        ("/tmp/x", "file:///tmp/x/a"),  # noqa: S108
        ("file:///tmp/with%20blank", "file:///tmp/with%20blank/a"),
    ],
)
def test_addresses_that_are_understood(address: str, uri: str) -> None:
    assert parse_destination(address).uri("a") == uri


@pytest.mark.parametrize("address", ["", "  ", "s3://", "s3://B/x", "https://bucket/x", "file://host/x", "s3:///x"])
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(UnusableDestination):
        parse_destination(address)


def test_a_folder_is_made_and_gets_a_whole_file_only(tmp_path: Path) -> None:
    destination = parse_destination(str(tmp_path / "new" / "folder"))
    write(destination, None, b"first")
    folder = tmp_path / "new" / "folder"
    with pytest.raises(RuntimeError, match="half way"), whole_file(destination, "a.jsonl", None, content_type="x") as p:
        p.write_bytes(b"half")
        raise RuntimeError("half way")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.jsonl": b"first"}
    mask = os.umask(0)
    os.umask(mask)
    assert (folder / "a.jsonl").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_cannot_be_made_is_the_deployments_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageUnavailable, match="cannot write in"):
        write(parse_destination(str(tmp_path / "file" / "below")), None, b"x")


def test_s3_gets_a_whole_object_only(s3: Any, bucket: str, tmp_path: Path) -> None:
    destination = parse_destination(f"s3://{bucket}/exports/")
    rules = ObjectRules(tags={"team": "photo"})
    write(destination, s3, b"first", scratch=tmp_path, rules=rules)
    with pytest.raises(RuntimeError), whole_file(destination, "a.jsonl", s3, content_type="x", scratch=tmp_path) as p:
        p.write_bytes(b"half")
        raise RuntimeError("half way")
    found = s3.get_object(Bucket=bucket, Key="exports/a.jsonl")
    assert (found["Body"].read(), found["ContentType"]) == (b"first", "application/x-ndjson")
    assert s3.get_object_tagging(Bucket=bucket, Key="exports/a.jsonl")["TagSet"][0]["Value"] == "photo"
    assert list(tmp_path.iterdir()) == []


def test_a_large_object_goes_in_parts(s3: Any, bucket: str, tmp_path: Path) -> None:
    write(parse_destination(f"s3://{bucket}"), s3, bytes(40 << 20), scratch=tmp_path)
    head = s3.head_object(Bucket=bucket, Key="a.jsonl")
    assert (head["ContentLength"], head["ETag"].strip('"')[-2:]) == (40 << 20, "-3")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_bucket_that_is_not_there_says_so(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable) as error:
        write(parse_destination("s3://nobody-has-this-one/x"), s3, b"x", scratch=tmp_path)
    assert error.value.code == "bucket_missing"


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(ValueError, match="plain file name"),
        whole_file(parse_destination(str(tmp_path)), name, None, content_type="x"),
    ):
        pass
