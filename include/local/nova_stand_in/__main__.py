"""`python -m include.local.nova_stand_in`: the stand-in as a process of its own.

The keys for reading pictures from S3 come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION).
When it is ready it prints one line of JSON, `{"url", "port", "pid"}`. SIGTERM and SIGINT end it with exit code 0.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from include.local.nova_stand_in.server import NovaStandIn
from include.local.nova_stand_in.settings import HOST, Forced, JobRules, StandInSettings


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes. Exit code 0, or argparse's 2 for settings that cannot be."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        settings = StandInSettings(
            host=given.host,
            looks=not given.without_looking,
            port=given.port,
            throttle_rate=given.throttle_rate,
            throttle_seed=given.throttle_seed,
            latency_ms=given.latency_ms,
            forced=tuple(Forced.from_json(rule) for rule in given.force),
            log_path=given.log,
            jobs=JobRules(
                given.job_min_records, status_seconds=given.job_status_seconds, hold_file=given.job_hold_file
            ),
        )
    except ValueError as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with NovaStandIn(settings, s3_client(given.s3_endpoint)) as stand_in:
        port = int(stand_in.url.rpartition(":")[2])
        sys.stdout.write(json.dumps({"url": stand_in.url, "port": port, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        ended.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nova_stand_in", description="A local stand-in for Amazon Nova on Bedrock.")
    parser.add_argument("--host", default=HOST, help="address to listen on; another than loopback only in a container")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--s3-endpoint", required=True, help="URL of the S3 server that holds the pictures")
    parser.add_argument("--log", type=Path, required=True, help="file that gets one JSON line a call")
    parser.add_argument("--throttle-rate", type=float, default=0.0, help="fraction of the calls to throttle, 0..1")
    parser.add_argument("--throttle-seed", type=int, default=0, help="chooses which calls are throttled")
    parser.add_argument("--latency-ms", type=int, default=0, help="what each answer takes at least")
    parser.add_argument("--without-looking", action="store_true", help="fetch and judge no pictures of calls")
    parser.add_argument("--force", action="append", default=[], metavar="JSON", help="a rule; see settings.Forced")
    parser.add_argument("--job-min-records", type=int, default=100, help="fewest records in a batch job")
    parser.add_argument(
        "--job-status-seconds",
        type=float,
        default=0.0,
        help="how long a job is submitted, validating and scheduled each",
    )
    parser.add_argument("--job-hold-file", type=Path, help="jobs stay scheduled as long as there is such a file")
    return parser


def s3_client(endpoint_url: str) -> Any:
    """A boto3 S3 client with the environment's keys that takes as many threads as calls come at once."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=64, retries={"total_max_attempts": 2}),
    )


if __name__ == "__main__":
    sys.exit(main())
