"""The quick way to S3 stores what boto3 would have stored, or leaves it to boto3."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
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


# What a request may differ in: when it was made, the order of things, and what only carries bytes.
NOT_COMPARED = {"x-amz-date", "authorization", "user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "accept",
                "accept-encoding", "content-length", "expect", "connection"}  # fmt: skip
SIGNED = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")


class _Noting(BaseHTTPRequestHandler):
    """Notes each request and takes it."""

    protocol_version = "HTTP/1.1"
    noted: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def do_PUT(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        self.noted.append((self.command, self.path, headers, body))
        self.send_response_only(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def noting() -> Iterator[str]:
    _Noting.noted.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Noting) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def noted_client(url: str, config: Config | None = None, **more: Any) -> Any:
    """A client with keys of its own, whatever the environment says."""
    keys = {"aws_access_key_id": "ASIAOFTHEROLE", "aws_secret_access_key": "secret", "region_name": "eu-central-1"}
    paths = Config(s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, config=paths.merge(config) if config else paths, **keys, **more)


HOSTILE = {
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_DISABLE_TAGGING": "true",
    "AWS_REQUEST_PAYER": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_REGION": "xx-nowhere-1",
    "AWS_DEFAULT_REGION": "xx-nowhere-1",
    "AWS_ACCESS_KEY_ID": "AKIASTRANGER",
    "AWS_SECRET_ACCESS_KEY": "of a stranger",
    "AWS_SESSION_TOKEN": "of a stranger",
    "AWS_CHECKSUM_ALGORITHM": "CRC64NVME",
    "AWS_BUCKET": "another",
    "AWS_PROXY_URL": "http://127.0.0.1:1",
}


@pytest.mark.parametrize("environment", [{}, HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("rules", [NO_RULES, ObjectRules(None, "alias/photos", {"team": "photo desk+1"})])
def test_it_asks_the_same_of_s3_as_boto3_in_any_environment(
    noting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], rules: Any
) -> None:
    """Account, token, region, address, checksum, encryption and tags: all that the request carries."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = noted_client(noting, aws_session_token="token-of-the-role")
    sender = Sender(client, "photos", tmp_path, rules)
    sender.send("proxies/r-c/a_7_nova.jpg", b"pixels")
    assert sender.by_boto3 == 0
    sender.small = None
    sender.send("proxies/r-c/a_7_nova.jpg", b"pixels")
    quick, plain = (_compared(*request) for request in _Noting.noted)
    assert quick == plain
    assert quick["x-amz-security-token"] == "token-of-the-role"


def _compared(method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """What matters of a request, in one form."""
    signed = SIGNED.search(headers["authorization"])
    assert signed is not None
    kept = {name: value for name, value in headers.items() if name not in NOT_COMPARED}
    return {**kept, **signed.groupdict(), "method": method, "path": path, "body": body.decode()}


def test_it_introduces_itself_as_the_connection_does(noting: str, tmp_path: Path) -> None:
    client = noted_client(noting, config=Config(user_agent_extra="Airflow/3 DAG/photos"))
    Sender(client, "photos", tmp_path).send()
    assert "Airflow/3 DAG/photos" in _Noting.noted[0][2]["user-agent"]


@pytest.mark.parametrize(
    ("region", "bucket", "how", "url"),
    [
        ("eu-central-1", "photos", {}, "https://photos.s3.eu-central-1.amazonaws.com"),
        ("eu-central-1", "our.photos", {}, "https://s3.eu-central-1.amazonaws.com/our.photos"),
        (
            "eu-central-1",
            "photos",
            {"s3": {"addressing_style": "path"}},
            "https://s3.eu-central-1.amazonaws.com/photos",
        ),
        (
            "eu-central-1",
            "photos",
            {"use_dualstack_endpoint": True},
            "https://photos.s3.dualstack.eu-central-1.amazonaws.com",
        ),
        ("us-west-2", "photos", {"use_fips_endpoint": True}, "https://photos.s3-fips.us-west-2.amazonaws.com"),
        (
            "us-east-1",
            "arn:aws:s3:us-west-2:111122223333:accesspoint/photos",
            {"s3": {"use_arn_region": True}},
            "https://photos-111122223333.s3-accesspoint.us-west-2.amazonaws.com",
        ),
    ],
)
def test_address_and_region_are_botocores_own(region: str, bucket: str, how: dict[str, Any], url: str) -> None:
    keys = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "region_name": region}
    sample = _sample(boto3.client("s3", config=Config(**how), **keys), bucket)
    assert sample is not None
    assert (sample.bucket_url, sample.region) == (url, "us-west-2" if "us-west-2" in url else region)


def test_what_is_not_signed_for_s3_is_left_to_boto3() -> None:
    keys = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "region_name": "us-west-2"}
    arn = "arn:aws:s3-outposts:us-west-2:111122223333:outpost:op-01ac5d28a6a232904:accesspoint:photos"
    assert SmallObjects.of(boto3.client("s3", **keys), arn, NO_RULES) is None


def test_looking_at_a_request_disturbs_no_other_thread(sender: Sender, s3: Any) -> None:
    with ThreadPoolExecutor(2) as executor:
        looking = executor.submit(lambda: [_sample(sender.client, sender.bucket) for _ in range(100)])
        for number in range(30):
            sender.client.put_object(Bucket=sender.bucket, Key=f"{number}.jpg", Body=b"pixels")
        assert len(set(looking.result())) == 1
    assert s3.list_objects_v2(Bucket=sender.bucket)["KeyCount"] == 30
