"""The service `s3` of docker-compose.yaml, by its own command: the topology starts `weed mini`, which is up sooner."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from include.local.processes import ChildServer, free_ports
from include.local.seaweedfs import REGION
from scripts.make_env import filled
from tests.distributed.compose import ROOT, ComposeService, read_env_file, read_services
from tests.programs import require_weed, require_wget

# A container has these to itself.
OTHER_PORTS = (
    *(f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")),
    *(f"s3.port.{kind}" for kind in ("grpc", "iceberg", "lance")),
)
READY_SECONDS = 120  # a busy machine; an idle one needs three

pytestmark = pytest.mark.distributed


@dataclass
class Server:
    """The running server, and what a test needs of it."""

    service: ComposeService
    port: int
    environment: dict[str, str]

    def check(self) -> int:
        """The exit code of the compose file's health check."""
        kind, *words = self.service.healthcheck
        assert kind == "CMD"
        here = [word.replace("127.0.0.1:8333", f"127.0.0.1:{self.port}") for word in words]
        return subprocess.run(here, env=self.environment, check=False, timeout=READY_SECONDS).returncode

    def client(self, secret: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=self.environment["S3_ACCESS_KEY"],
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}),
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_weed()
    require_wget()
    folder = tmp_path_factory.mktemp("s3")
    variables = read_env_file(filled((ROOT / ".env.example").read_text()))
    service = read_services((ROOT / "docker-compose.yaml").read_text(), variables)["s3"]
    port, *others = free_ports(1 + len(OTHER_PORTS))
    path = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"
    found = Server(service, port, {"PATH": path, "HOME": str(folder), **service.environment})
    started = ChildServer(
        "weed server",
        ["/bin/sh", "-c", as_here(service.command[0], folder, port, others)],
        log_path=folder / "server.log",
        ready=lambda: found.check() == 0,
        env=found.environment,
        cwd=folder,
        ready_seconds=READY_SECONDS,
        stop_seconds=0,  # its data go with the test
    )
    with started:
        yield found
    for taken in (port, *others):
        for left in Path("/tmp").glob(f"seaweedfs-*-{taken}.sock"):  # noqa: S108 - their place is fixed in the server
            left.unlink()


def as_here(command: str, folder: Path, port: int, others: list[int]) -> str:
    """Return the compose file's command with folders of the test, addresses of loopback, and ports that are free."""
    (folder / "objects").mkdir()
    for theirs, ours in {
        "-dir=/objects": f"-dir={folder}/objects",
        "/tmp/identities.json": f"{folder}/identities.json",  # noqa: S108
        "-ip=s3": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-s3.port=8333": f"-s3.port={port}",
    }.items():
        assert theirs in command
        command = command.replace(theirs, ours)
    more = " ".join(f"-{name}={given}" for name, given in zip(OTHER_PORTS, others, strict=True))
    return f"{command.rstrip()} {more}"


def test_what_is_put_is_there_with_the_keys_of_the_env_file(server: Server) -> None:
    s3 = server.client(server.environment["S3_SECRET_KEY"])
    s3.create_bucket(Bucket="image-proxies")
    s3.put_object(Bucket="image-proxies", Key="a/b.jpg", Body=b"bytes", ContentType="image/jpeg")
    answer = s3.get_object(Bucket="image-proxies", Key="a/b.jpg")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"bytes", "image/jpeg")


def test_nobody_else_is_let_in(server: Server) -> None:
    with pytest.raises(ClientError) as refused:
        server.client("another secret").list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_bucket_that_nobody_made_is_not_made_by_writing_to_it(server: Server) -> None:
    """As at Amazon: a mistyped IMAGE_PROXY_BUCKET has to show."""
    with pytest.raises(ClientError) as refused:
        server.client(server.environment["S3_SECRET_KEY"]).put_object(Bucket="mistyped", Key="a", Body=b"")
    assert refused.value.response["Error"]["Code"] == "NoSuchBucket"
