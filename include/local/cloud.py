"""The embedded cloud: an S3 server and the Nova stand-in on loopback, and the Airflow connections that lead to them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from include.local.credentials import load_credentials
from include.local.processes import ChildServer
from include.local.seaweedfs import REGION, SeaweedFS

BUCKET: Final = "image-proxies"
ROOT: Final = Path(__file__).resolve().parents[2]


class EmbeddedCloud:
    """SeaweedFS and the Nova stand-in, started and stopped together; a context manager.

    Credentials, objects and the stand-in's log of calls stay in ``var`` across starts. ``stand_in_options`` are more
    of its command-line options (throttling, latency, forced errors).
    """

    def __init__(self, var: Path, stand_in_options: tuple[str, ...] = ()) -> None:
        self.var = var.absolute()
        self.call_log = self.var / "nova_stand_in" / "calls.jsonl"
        self.s3 = SeaweedFS(
            self.var / "seaweedfs", self.var / "logs" / "seaweedfs.log", load_credentials(self.var / "credentials.json")
        )
        self._stand_in_options = stand_in_options
        self._nova_log = self.var / "logs" / "nova_stand_in.log"
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.enter_context(self.s3)
            self._make_bucket()
            starting.enter_context(self._stand_in())
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def nova_url(self) -> str:
        """Return where the stand-in answers; it chose the port itself and said so in a line of JSON."""
        lines = self._nova_log.read_text(encoding="utf-8").splitlines()
        return next(str(json.loads(line)["url"]) for line in lines if line.startswith("{"))

    def calls(self) -> list[dict[str, Any]]:
        """Return the stand-in's log: every request it got, answered or refused."""
        if not self.call_log.exists():
            return []
        return [json.loads(line) for line in self.call_log.read_text(encoding="utf-8").splitlines()]

    def aws_connection(self) -> dict[str, Any]:
        """Return the Airflow connection that sends S3 and Bedrock here; real AWS is the same with other content."""
        return {
            "conn_type": "aws",
            "login": self.s3.credentials.access_key,
            "password": self.s3.credentials.secret_key,
            "extra": {
                "region_name": REGION,
                "service_config": {
                    "s3": {"endpoint_url": self.s3.endpoint_url},
                    "bedrock-runtime": {"endpoint_url": self.nova_url},
                    "bedrock": {"endpoint_url": self.nova_url},
                },
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        }

    def _make_bucket(self) -> None:
        client = self.s3.client()
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)

    def _stand_in(self) -> ChildServer:
        credentials = self.s3.credentials
        return ChildServer(
            "Nova stand-in",
            [
                sys.executable,
                "-m",
                "include.local.nova_stand_in",
                *("--s3-endpoint", self.s3.endpoint_url),
                *("--log", str(self.call_log)),
                *self._stand_in_options,
            ],
            log_path=self._nova_log,
            ready=self._nova_listens,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
                "AWS_REGION": REGION,
            },
            record_path=self.var / "nova_stand_in" / "server.json",
        )

    def _nova_listens(self) -> bool:
        return bool(self.nova_url)
