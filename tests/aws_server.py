"""An AWS that can do what SeaweedFS cannot (KMS, regions, roles): moto's server on a free port of this machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer


@contextmanager
def aws_server() -> Iterator[str]:
    """The server's address while the block lasts."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def aws_client(service: str, url: str, region: str = "us-east-1") -> Any:
    """A boto3 client of the server."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(s3={"addressing_style": "path"}),
    )


def make_bucket(url: str, region: str) -> str:
    """A new bucket in `region`; all servers of one process share their buckets, so its name is one of its own."""
    name = f"test-{region}-{uuid.uuid4().hex[:8]}"
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    aws_client("s3", url, region).create_bucket(Bucket=name, **place)
    return name
