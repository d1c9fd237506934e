"""Copies, listings and streams on a real S3 server."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from include.storage import copies
from include.storage.copies import copy_object, delete_folder, keys_below, read_lines, read_small
from include.storage.errors import SourceError


def put(s3: Any, bucket: str, key: str, body: bytes = b"x") -> str:
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/{key}"


def test_a_copy_has_the_bytes_and_odd_keys_are_no_trouble(s3: Any, bucket: str) -> None:
    source = put(s3, bucket, "a folder/with space & ümlaut+.jpg", b"bytes")
    copy_object(s3, source, f"s3://{bucket}/copy/1.jpeg")
    assert read_small(s3, f"s3://{bucket}/copy/1.jpeg") == b"bytes"


@pytest.mark.parametrize("place", ["{bucket}/none.jpg", "there-is-no-such-bucket/a.jpg"])
def test_a_missing_source_is_the_images_own_trouble(s3: Any, bucket: str, place: str) -> None:
    with pytest.raises(SourceError) as missing:
        copy_object(s3, f"s3://{place.format(bucket=bucket)}", f"s3://{bucket}/copy.jpg")
    assert missing.value.code == "source_missing"


def test_a_folder_is_deleted_with_all_below_and_nothing_beside(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_DELETED_AT_ONCE", 4)
    for number in range(9):  # more than two requests take
        put(s3, bucket, f"job/input/{number}.jpg")
    put(s3, bucket, "job/input-kept/1.jpg")
    assert delete_folder(s3, f"s3://{bucket}/job/input") == 9
    assert list(keys_below(s3, f"s3://{bucket}/job")) == ["job/input-kept/1.jpg"]
    assert delete_folder(s3, f"s3://{bucket}/job/input") == 0


def test_lines_come_whole_across_chunks_and_only_as_they_are_read(s3: Any, bucket: str) -> None:
    lines = [f"{number}:".encode() + b"y" * 5000 for number in range(200)]
    uri = put(s3, bucket, "out.jsonl", b"\n".join(lines) + b"\n")
    assert list(read_lines(s3, uri)) == lines
    stream = read_lines(s3, uri)
    assert next(stream) == lines[0]
    stream.close()
    with pytest.raises(SourceError):
        next(read_lines(s3, f"s3://{bucket}/none"))


def test_a_large_output_is_never_in_memory_as_a_whole(s3: Any, bucket: str) -> None:
    size = 32 << 20
    uri = put(s3, bucket, "large.jsonl", (b"z" * 4095 + b"\n") * (size // 4096))
    tracemalloc.start()
    try:
        assert sum(len(line) + 1 for line in read_lines(s3, uri)) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 8
