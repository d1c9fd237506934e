"""What a company asks of its bucket reaches S3 with every request: key, tags, owner; and S3 tells where a bucket is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.storage.objects import upload_object
from include.storage.region import bucket_region
from include.storage.rules import ObjectRules
from tests.aws_server import aws_client, aws_server, make_bucket

OWNER = "111122223333"


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    with aws_server() as url:
        yield url


@pytest.fixture
def virginia(aws_url: str) -> str:
    return make_bucket(aws_url, "us-east-1")


@pytest.fixture
def aws_s3(aws_url: str) -> Any:
    return aws_client("s3", aws_url)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"pixels")
    return path


def upload(client: Any, path: Path, bucket: str, rules: ObjectRules, **more: Any) -> bool:
    facts = {"content_type": "image/jpeg", "source_id": 1, "ask_from_bytes": 0}
    return upload_object(client, path, bucket, path.name, rules=rules, **facts, **more).uploaded


def test_an_object_is_encrypted_with_the_key_that_is_asked_for(aws_s3: Any, virginia: str, picture: Path) -> None:
    upload(aws_s3, picture, virginia, ObjectRules(kms_key_id="alias/photos"))
    found = aws_s3.head_object(Bucket=virginia, Key="a.jpg")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/photos")


def test_what_was_stored_before_the_key_was_asked_for_is_stored_again(
    aws_s3: Any, virginia: str, tmp_path: Path
) -> None:
    path = tmp_path / "again.jpg"
    path.write_bytes(b"pixels")
    with_key = ObjectRules(kms_key_id="alias/photos")
    assert upload(aws_s3, path, virginia, ObjectRules())
    assert not upload(aws_s3, path, virginia, ObjectRules())
    assert upload(aws_s3, path, virginia, with_key)
    assert not upload(aws_s3, path, virginia, with_key)


def test_an_upload_in_parts_is_encrypted_too(aws_s3: Any, virginia: str, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(6 << 20))
    upload(aws_s3, path, virginia, ObjectRules(kms_key_id="alias/photos"), multipart_bytes=5 << 20)
    found = aws_s3.head_object(Bucket=virginia, Key="large.jpg")
    assert (found["ServerSideEncryption"], found["ETag"][-3:]) == ("aws:kms", '-2"')


@pytest.mark.parametrize("size", [6, 6 << 20])
def test_every_request_names_the_account_that_must_own_the_bucket(
    aws_s3: Any, virginia: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / f"owned-{size}.jpg"
    path.write_bytes(bytes(size))
    sent: list[tuple[str, Any]] = []
    aws_s3.meta.events.register(
        "before-send.s3", lambda request, **_: sent.append((request.method, request.headers)) and None
    )
    rules = ObjectRules(bucket_owner=OWNER)
    upload(aws_s3, path, virginia, rules, multipart_bytes=5 << 20)
    assert bucket_region(aws_s3, virginia, rules) == "us-east-1"
    assert {method for method, _ in sent} >= {"HEAD", "PUT"}
    for method, headers in sent:
        found = headers["x-amz-expected-bucket-owner"]
        assert (found.decode() if isinstance(found, bytes) else found) == OWNER, method


def test_tags_are_set_on_a_real_s3_server(s3: Any, bucket: str, picture: Path) -> None:
    upload(s3, picture, bucket, ObjectRules(tags={"team": "photo desk", "cost-centre": "42&7"}))
    found = s3.get_object_tagging(Bucket=bucket, Key="a.jpg")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in found} == {"team": "photo desk", "cost-centre": "42&7"}


def test_nothing_is_asked_for_by_default() -> None:
    assert ObjectRules().upload() == ObjectRules().request() == {}


def test_s3_tells_where_a_bucket_lies_whatever_region_asks(aws_url: str, virginia: str) -> None:
    frankfurt = make_bucket(aws_url, "eu-central-1")
    for region in ("us-east-1", "eu-central-1"):
        client = aws_client("s3", aws_url, region)
        assert bucket_region(client, frankfurt) == "eu-central-1"
        assert bucket_region(client, virginia) == "us-east-1"
        assert bucket_region(client, "nobody-has-this-bucket") is None


def test_another_s3_server_tells_no_region(s3: Any, bucket: str) -> None:
    assert bucket_region(s3, bucket) is None


def test_a_refusal_that_names_the_region_is_enough(aws_s3: Any) -> None:
    from botocore.stub import Stubber

    with Stubber(aws_s3) as stub:
        stub.add_client_error("head_bucket", "403", http_status_code=403)
        stub._queue[-1]["response"][1]["ResponseMetadata"]["HTTPHeaders"] = {"x-amz-bucket-region": "eu-west-3"}
        assert bucket_region(aws_s3, "not-ours") == "eu-west-3"
