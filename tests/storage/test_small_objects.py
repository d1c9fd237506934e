"""The quick way to S3 stores what boto3 would have stored, or leaves it to boto3."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.credentials import Credentials

from include.local.seaweedfs import SeaweedFS
from include.storage.errors import StorageUnavailable
from include.storage.objects import StoredObject, upload_object
from include.storage.rules import NO_RULES, ObjectRules
from include.storage.small_objects import SMALL_BYTES, SmallObjects, _sample
from tests.aws_server import aws_client, aws_server, make_bucket
from tests.distributed.s3_proxy import Fault, S3Proxy
from tests.storage.test_sources import client_of

pytestmark = pytest.mark.usefixtures("usual_environment")


@pytest.fixture
def through(seaweedfs: SeaweedFS) -> Iterator[S3Proxy]:
    """What stands between the clients and the server, and can misbehave."""
    with S3Proxy() as proxy:
        target = urlsplit(seaweedfs.endpoint_url)
        proxy.upstream = (str(target.hostname), int(target.port or 0))
        yield proxy


class Sender:
    """Uploads with both ways at hand, and counts what boto3 sent."""

    def __init__(self, client: Any, bucket: str, folder: Path, rules: ObjectRules = NO_RULES) -> None:
        self.client, self.bucket, self.rules, self.folder = client, bucket, rules, folder
        self.small = SmallObjects.of(client, bucket, rules)
        assert self.small is not None
        self.by_boto3 = 0
        client.meta.events.register("before-send.s3.PutObject", self._count)

    def _count(self, **_: Any) -> None:
        self.by_boto3 += 1

    def send(self, key: str = "a/b_1.jpg", body: bytes = b"pixels", **more: Any) -> StoredObject:
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()
        path.write_bytes(body)
        facts: dict[str, Any] = {"content_type": "image/jpeg", "source_id": 7, "metadata": {"recipe-version": "r1"}}
        return upload_object(
            self.client, path, self.bucket, key, rules=self.rules, small=self.small, **{**facts, **more}
        )


@pytest.fixture
def sender(through: S3Proxy, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path) -> Sender:
    return Sender(client_of(through.url, seaweedfs.credentials), bucket, tmp_path)


def facts_of(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    found = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    names = ("ContentType", "ContentLength", "Metadata", "ChecksumSHA256", "ETag")
    return {name: found[name] for name in names} | {"body": found["Body"].read()}


def test_the_object_is_the_one_that_boto3_would_have_stored(sender: Sender, s3: Any) -> None:
    body = os.urandom(200_000)
    quick = sender.send("quick_1.jpg", body)
    assert sender.by_boto3 == 0
    sender.small = None
    plain = sender.send("plain_1.jpg", body)
    assert sender.by_boto3 == 1
    assert facts_of(s3, sender.bucket, "quick_1.jpg") == facts_of(s3, sender.bucket, "plain_1.jpg")
    assert (quick.sha256, quick.size_bytes, quick.uploaded) == (plain.sha256, plain.size_bytes, plain.uploaded)
    assert quick.uri == f"s3://{sender.bucket}/quick_1.jpg"


def test_tags_go_with_it(through: S3Proxy, seaweedfs: SeaweedFS, s3: Any, bucket: str, tmp_path: Path) -> None:
    rules = ObjectRules(tags={"team": "photo desk", "cost-centre": "42&7"})
    sender = Sender(client_of(through.url, seaweedfs.credentials), bucket, tmp_path, rules)
    sender.send("k.jpg")
    found = s3.get_object_tagging(Bucket=bucket, Key="k.jpg")["TagSet"]
    assert ({tag["Key"]: tag["Value"] for tag in found}, sender.by_boto3) == (rules.tags, 0)


def test_it_is_encrypted_with_the_key_that_is_asked_for(tmp_path: Path) -> None:
    with aws_server() as url:
        client, bucket = aws_client("s3", url), make_bucket(url, "us-east-1")
        rules = ObjectRules(kms_key_id="alias/photos")
        sender = Sender(client, bucket, tmp_path, rules)
        sender.send("k.jpg")
        found = client.head_object(Bucket=bucket, Key="k.jpg")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/photos")
    assert sender.by_boto3 == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", status=500, times=1),
        Fault("PUT", status=503, code="SlowDown", times=1),
        Fault("PUT", corrupt=True, times=1),
    ],
    ids=["500", "503", "corrupt"],
)
def test_what_fails_is_done_by_boto3(sender: Sender, through: S3Proxy, s3: Any, fault: Fault) -> None:
    with through.suffering(fault):
        sender.send("k.jpg", b"as they were")
    assert (fault.hit, sender.by_boto3) == (1, 1)
    assert facts_of(s3, sender.bucket, "k.jpg")["body"] == b"as they were"
    sender.send("l.jpg")
    assert sender.by_boto3 == 1, "one failure is no reason to give it up"


def test_what_fails_again_and_again_is_not_tried_any_more(sender: Sender, through: S3Proxy) -> None:
    refused = Fault("PUT", status=403, code="AccessDenied")
    with through.suffering(refused):
        for number in range(5):
            with pytest.raises(StorageUnavailable) as caught:
                sender.send(f"{number}.jpg")
            assert caught.value.code == "access_denied"
    assert refused.hit == 3 + 5, "three attempts of its own, and each of boto3's"
    sender.send("k.jpg")
    assert sender.by_boto3 == 6


def test_failures_in_between_do_not_add_up(sender: Sender, through: S3Proxy) -> None:
    for number in range(6):
        with through.suffering(Fault("PUT", status=500, times=1)):
            sender.send(f"{number}.jpg")
        sender.send(f"{number}-well.jpg")
    assert sender.by_boto3 == 6


def test_the_errors_are_those_of_boto3(
    through: S3Proxy, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = seaweedfs.credentials
    client = client_of(through.url, keys)
    with caplog.at_level(logging.INFO, "include.storage"), pytest.raises(StorageUnavailable) as caught:
        Sender(client, "no-such-bucket", tmp_path).send()
    assert caught.value.code == "bucket_missing"
    stranger = client_of(through.url, type(keys)(keys.access_key, "wrong"))
    with pytest.raises(StorageUnavailable) as caught:
        Sender(stranger, bucket, tmp_path).send()
    assert caught.value.code == "access_denied"
    assert keys.access_key not in caplog.text


@pytest.mark.parametrize("key", ["a b.jpg", "été.jpg", "a//b.jpg", "a/../b.jpg", "a%20b.jpg", "~x.jpg", ".hidden"])
def test_a_key_that_another_client_might_write_differently_is_left_to_boto3(sender: Sender, key: str) -> None:
    assert sender.small is not None
    assert not sender.small.put(key, b"pixels", content_type="image/jpeg", metadata={})


def test_large_and_special_objects_are_left_to_boto3(sender: Sender, s3: Any) -> None:
    sender.send("large.jpg", os.urandom(SMALL_BYTES + 1))
    sender.send("special.jpg", extra={"ServerSideEncryption": "AES256"})
    assert sender.by_boto3 == 2
    assert s3.head_object(Bucket=sender.bucket, Key="special.jpg")["ServerSideEncryption"] == "AES256"
    sender.send("edge.jpg", os.urandom(SMALL_BYTES))
    assert sender.by_boto3 == 2


def has_a_quick_way(client: Any, rules: ObjectRules = NO_RULES) -> bool:
    return SmallObjects.of(client, "photos", rules) is not None


def test_an_expected_owner_and_unusual_clients_are_left_to_boto3(seaweedfs: SeaweedFS) -> None:
    assert has_a_quick_way(seaweedfs.client())
    assert not has_a_quick_way(seaweedfs.client(), ObjectRules(bucket_owner="111122223333"))
    assert not has_a_quick_way(seaweedfs.client(proxies={"http": "http://127.0.0.1:1"}))
    assert not has_a_quick_way(seaweedfs.client(client_cert="/etc/us.pem"))
    assert not has_a_quick_way(seaweedfs.client(signature_version="s3"))
    assert not has_a_quick_way(seaweedfs.client(signature_version=UNSIGNED))


@pytest.mark.parametrize("verify", [False, "/etc/our-own-authority.pem"])
def test_other_certificates_than_the_usual_are_left_to_boto3(verify: Any) -> None:
    keys = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "region_name": "eu-west-1"}
    assert has_a_quick_way(boto3.client("s3", **keys))
    assert not has_a_quick_way(boto3.client("s3", verify=verify, **keys))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
        ("AWS_SERVER_SIDE_ENCRYPTION", "AES256"),
        ("AWS_SSE_KMS_KEY_ID", "alias/another"),
        ("aws_sse_bucket_key_enabled", "true"),
        ("AWS_CONDITIONAL_PUT", "nonsense"),
    ],
)
def test_an_environment_that_means_another_thing_to_each_is_left_to_boto3(
    seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not has_a_quick_way(seaweedfs.client())


def test_hosts_without_a_proxy_are_no_proxy(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert has_a_quick_way(seaweedfs.client())


def test_a_client_without_credentials_is_left_to_boto3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert not has_a_quick_way(boto3.Session().client("s3", region_name="eu-west-1"))


class Counted(Credentials):
    """Keys that count how often they are asked for."""

    asked = 0

    def get_frozen_credentials(self) -> Any:
        self.asked += 1
        return super().get_frozen_credentials()


@pytest.mark.parametrize(("minutes", "again"), [(6, False), (4, True)])
def test_credentials_that_are_about_to_expire_are_asked_for_again(
    sender: Sender, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch, minutes: int, again: bool
) -> None:
    """Those of a role live for an hour, a backfill for a day: botocore renews them, and is asked each minute."""
    monkeypatch.setattr("include.storage.small_objects._CREDENTIALS_LIVE", timedelta(minutes=minutes))
    keys = Counted(seaweedfs.credentials.access_key, seaweedfs.credentials.secret_key)
    sender.client._request_signer._credentials = keys
    sender.small = SmallObjects.of(sender.client, sender.bucket, NO_RULES)
    before = keys.asked
    for number in range(200):  # it asks ten times a second at most
        sender.send(f"{number}.jpg")
        if keys.asked - before > 1:
            break
    assert (keys.asked - before > 1, sender.by_boto3) == (again, 0)


def test_threads_share_it(sender: Sender, s3: Any) -> None:
    def send(number: int) -> str:
        return sender.send(f"{number}.jpg", str(number).encode()).uri

    with ThreadPoolExecutor(8) as executor:
        uris = list(executor.map(send, range(64)))
    assert len(set(uris)) == 64
    assert sender.by_boto3 == 0
    assert all(s3.get_object(Bucket=sender.bucket, Key=f"{n}.jpg")["Body"].read() == str(n).encode() for n in range(64))


def test_looking_at_a_request_disturbs_no_other_thread(sender: Sender, s3: Any) -> None:
    with ThreadPoolExecutor(2) as executor:
        looking = executor.submit(lambda: [_sample(sender.client, sender.bucket) for _ in range(100)])
        for number in range(30):
            sender.client.put_object(Bucket=sender.bucket, Key=f"{number}.jpg", Body=b"pixels")
        assert len(set(looking.result())) == 1
    assert s3.list_objects_v2(Bucket=sender.bucket)["KeyCount"] == 30
