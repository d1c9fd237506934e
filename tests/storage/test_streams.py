"""An object is passed on as it is, and a reader that goes away leaves no connection behind."""

from __future__ import annotations

from typing import Any

import pytest

from include.storage.errors import SourceError, StorageError
from include.storage.streams import open_object


def test_an_object_comes_in_pieces_as_it_is(s3: Any, bucket: str) -> None:
    content = bytes(range(256)) * 1024
    s3.put_object(Bucket=bucket, Key="a/picture.jpg", Body=content)
    found = open_object(s3, f"s3://{bucket}/a/picture.jpg")
    pieces = list(found.chunks())
    assert (found.size_bytes, b"".join(pieces)) == (len(content), content)
    assert len(pieces) > 1


def test_a_reader_that_stops_half_way_closes_the_connection(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=b"x" * 300_000)
    found = open_object(s3, f"s3://{bucket}/large")
    reading = found.chunks()
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert found.body._raw_stream.closed


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("s3://{bucket}/not-there", "source_missing"),
        ("s3://no-such-bucket-at-all/key", "source_missing"),
        ("file:///etc/passwd", "unsupported_uri"),
        ("s3://{bucket}/", "unsupported_uri"),
    ],
)
def test_what_is_not_there_is_the_object_s_own_fault(s3: Any, bucket: str, uri: str, code: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_object(s3, uri.format(bucket=bucket))
    assert caught.value.code == code
    assert isinstance(caught.value, StorageError)
