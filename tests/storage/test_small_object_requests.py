"""What the quick way asks of S3 is what boto3 would ask: the same address, account, checksum, encryption and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import boto3
import pytest
from botocore.config import Config

from include.storage.rules import NO_RULES, ObjectRules
from include.storage.small_objects import SmallObjects, _sample
from tests.storage.test_small_objects import Sender

pytestmark = pytest.mark.usefixtures("usual_environment")


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
