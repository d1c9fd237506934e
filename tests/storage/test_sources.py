"""Originals come as they are, or with the code that says whose fault it is."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from include.local.credentials import Credentials
from include.local.processes import free_port
from include.local.seaweedfs import SeaweedFS
from include.storage.errors import SourceError, StorageError, StorageUnavailable, source_error
from include.storage.sources import fetch_source, split_s3_uri
from tests.distributed.s3_proxy import Fault, S3Proxy

Unprivileged = Callable[[], AbstractContextManager[None]]


def image_failure(uri: str, folder: Path, client: Any = None, max_bytes: int | None = None) -> str:
    """The code of a failure that belongs to the image."""
    with pytest.raises(StorageError) as caught:
        fetch_source(uri, folder, client, max_bytes)
    assert not isinstance(caught.value, StorageUnavailable)
    return caught.value.code


def outage(uri: str, folder: Path, client: Any) -> str:
    """The code of a failure that belongs to the deployment."""
    with pytest.raises(StorageUnavailable) as caught:
        fetch_source(uri, folder, client)
    return caught.value.code


@pytest.mark.parametrize("name", ["plain.jpg", "two words.jpg", "Größe 日本.jpg", "50% #1?.jpg", b"latin-\xe9.jpg"])
def test_a_local_original_is_used_in_place_whatever_its_name(tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"pixels")
    source = fetch_source(path.as_uri(), tmp_path / "unused")
    assert (source.path, source.size_bytes, source.temporary) == (path, 6, False)


def test_a_hand_written_address_may_hold_bare_marks(tmp_path: Path) -> None:
    path = tmp_path / "is it #1?.jpg"
    path.write_bytes(b"pixels")
    assert fetch_source(f"file://localhost{path}", tmp_path).path == path


def test_a_local_original_that_is_missing_or_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait forever
    (tmp_path / "file.jpg").touch()
    assert image_failure((tmp_path / "gone.jpg").as_uri(), tmp_path) == "source_missing"
    assert image_failure((tmp_path / "file.jpg" / "below.jpg").as_uri(), tmp_path) == "source_missing"
    assert image_failure(tmp_path.as_uri(), tmp_path) == "source_not_a_file"
    assert image_failure((tmp_path / "pipe.jpg").as_uri(), tmp_path) == "source_not_a_file"


def test_a_local_original_without_permission_is_its_own_failure(open_folder: Path, unprivileged: Unprivileged) -> None:
    path = open_folder / "y.jpg"
    path.write_bytes(b"pixels")
    path.chmod(0)
    with unprivileged():
        assert image_failure(path.as_uri(), open_folder) == "source_unreadable"


def test_the_size_limit_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"123456")
    assert fetch_source(path.as_uri(), tmp_path, max_bytes=6).size_bytes == 6
    assert image_failure(path.as_uri(), tmp_path, max_bytes=5) == "source_too_large"


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/hostname",
        "relative.jpg",
        "https://example.com/x.jpg",
        "file:relative.jpg",
        "file://fileserver/share/x.jpg",
        "file:///a%00b.jpg",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://Bucket_/key",
        "s3://bucket/" + "k" * 1025,
        "",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, uri: str) -> None:
    assert image_failure(uri, tmp_path, client=object()) == "unsupported_uri"


def test_an_s3_address_keeps_its_key_as_it_is() -> None:
    assert split_s3_uri("s3://my-bucket/a b/50%20#1?.jpg") == ("my-bucket", "a b/50%20#1?.jpg")


def test_an_s3_original_without_a_client_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="client"):
        fetch_source("s3://bucket/key", tmp_path)


def test_an_s3_original_becomes_a_temporary_file(tmp_path: Path, s3: Any, bucket: str) -> None:
    content = os.urandom(3_500_000)  # more than one chunk
    s3.put_object(Bucket=bucket, Key="fo lder/Größe #1.jpg", Body=content)
    source = fetch_source(f"s3://{bucket}/fo lder/Größe #1.jpg", tmp_path, s3, max_bytes=len(content))
    assert source.temporary
    assert (source.path.parent, source.path.suffix, source.size_bytes) == (tmp_path, ".jpg", len(content))
    assert source.path.read_bytes() == content


def test_s3_failures_tell_the_image_from_the_deployment(
    tmp_path: Path, s3: Any, bucket: str, seaweedfs: SeaweedFS
) -> None:
    s3.put_object(Bucket=bucket, Key="x.jpg", Body=b"123456")
    stranger = client_of(seaweedfs.endpoint_url, Credentials(seaweedfs.credentials.access_key, "wrong"))
    unknown = client_of(seaweedfs.endpoint_url, Credentials("AKIAUNKNOWN", "wrong"))
    nobody_there = client_of(f"http://127.0.0.1:{free_port()}", seaweedfs.credentials)
    assert image_failure(f"s3://{bucket}/gone.jpg", tmp_path, s3) == "source_missing"
    assert image_failure(f"s3://{bucket}/x.jpg", tmp_path, s3, max_bytes=5) == "source_too_large"
    assert image_failure("s3://no-such-bucket/x.jpg", tmp_path, s3) == "source_missing"
    assert outage(f"s3://{bucket}/x.jpg", tmp_path, stranger) == "access_denied"
    assert outage(f"s3://{bucket}/x.jpg", tmp_path, unknown) == "access_denied"
    assert outage(f"s3://{bucket}/x.jpg", tmp_path, nobody_there) == "storage_unavailable"
    assert list(tmp_path.iterdir()) == [], "a failed download leaves nothing behind"


@pytest.mark.parametrize("s3_code", ["AccessDenied", "403"])
def test_an_object_that_its_owner_closed_does_not_stop_the_batch(s3_code: str) -> None:
    refused = ClientError({"Error": {"Code": s3_code, "Message": "no"}}, "GetObject")
    error = source_error(refused, "s3://b/k")
    assert isinstance(error, SourceError)
    assert (error.code, error.transient) == ("source_access_denied", True)


@pytest.mark.parametrize(
    ("s3_code", "status"),
    [("RequestTimeTooSkewed", 403), ("InvalidSecurity", 403), ("NotSignedUp", 403), ("TokenRefreshRequired", 400)],
)
def test_what_is_wrong_with_whoever_asks_is_not_the_images_fault(s3_code: str, status: int) -> None:
    """A worker whose clock is wrong is refused each image: it must not use up the tries of all of them."""
    reply = {"Error": {"Code": s3_code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = source_error(ClientError(reply, "GetObject"), "s3://b/k")  # type: ignore[arg-type]
    assert isinstance(error, StorageUnavailable)
    assert error.code == "access_denied"


def test_no_room_for_the_download_is_not_the_images_fault(tmp_path: Path, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="x.jpg", Body=b"123456")
    assert outage(f"s3://{bucket}/x.jpg", tmp_path / "missing", s3) == "storage_unavailable"


def client_of(endpoint: str, credentials: Credentials) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


class BreakingServer(ThreadingHTTPServer):
    """Sends half of what it announced, `broken` times; then all of it."""

    broken = 0
    requests = 0


class _Half(BaseHTTPRequestHandler):
    server: BreakingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * (500 if self.server.requests <= self.server.broken else 1000))
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def breaking() -> Iterator[BreakingServer]:
    with BreakingServer(("127.0.0.1", 0), _Half) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("broken", "requests"), [(2, 3), (9, 3)])
def test_a_body_that_breaks_off_is_read_again_and_never_taken_for_whole(
    tmp_path: Path, breaking: BreakingServer, broken: int, requests: int
) -> None:
    breaking.broken = broken
    client = client_of(f"http://127.0.0.1:{breaking.server_port}", Credentials("a", "b"))
    if broken < requests:
        assert fetch_source("s3://bucket/x.jpg", tmp_path, client).size_bytes == 1000
    else:
        assert outage("s3://bucket/x.jpg", tmp_path, client) == "storage_unavailable"
        assert list(tmp_path.iterdir()) == []
    assert breaking.requests == requests


def test_an_error_survives_the_way_from_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(StorageUnavailable("bucket_missing", "gone")))  # noqa: S301
    assert (type(copy), copy.code, str(copy)) == (StorageUnavailable, "bucket_missing", "gone")


def test_an_original_that_arrives_garbled_is_fetched_again(
    tmp_path: Path, seaweedfs: SeaweedFS, s3: Any, bucket: str
) -> None:
    """Once is the network's doing. Each time is the object's: it must not fail its batch for good."""
    s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"pixels")
    with S3Proxy() as proxy:
        proxy.upstream = ("127.0.0.1", int(seaweedfs.endpoint_url.rpartition(":")[2]))
        keys = seaweedfs.credentials
        client = boto3.client(
            "s3",
            endpoint_url=proxy.url,
            region_name="us-east-1",
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        with proxy.suffering(once := Fault("GET", corrupt=True, times=1)):
            assert fetch_source(f"s3://{bucket}/a.jpg", tmp_path, client).path.read_bytes() == b"pixels"
        with proxy.suffering(always := Fault("GET", corrupt=True)):
            assert image_failure(f"s3://{bucket}/a.jpg", tmp_path, client) == "source_unreadable"
        assert (once.hit, always.hit) == (1, 3)
