"""What a deployment needs once before it starts, beside `airflow db migrate` and the pool.

`python -m scripts.prepare_deployment` in the environment of Airflow's components: brings the catalog's tables up to
date, writes the login of the simple auth manager (when ``ADMIN_PASSWORD`` is set), and sees that the bucket is there
(``CREATE_BUCKET=true`` makes it). Safe to run again, and by several at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from include.catalog.migrate import migrate
from include.local.credentials import write_private
from include.pipeline.settings import Settings, load_settings

START_SECONDS = 60


def migrate_catalog(settings: Settings) -> None:
    """Create or upgrade the tables behind the connection `catalog_default`."""
    from airflow.sdk import BaseHook

    hook: Any = BaseHook.get_hook(settings.catalog_conn_id)
    migrate(hook.get_sqlalchemy_engine())


def write_login() -> None:
    """Write the administrator's password where the simple auth manager reads it."""
    password = os.environ.get("ADMIN_PASSWORD")
    if not password:
        return
    path = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps({"admin": password}))


def check_bucket(settings: Settings) -> None:
    """Make the bucket when told to; otherwise ask for it, so that a wrong name or key shows now and not in a run."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    s3 = S3Hook(settings.aws_conn_id).conn
    _wait_for(s3)
    if os.environ.get("CREATE_BUCKET", "").lower() == "true":
        try:
            s3.create_bucket(Bucket=settings.required_bucket)
        except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
            return
    s3.head_bucket(Bucket=settings.required_bucket)


def _wait_for(s3: Any) -> None:
    """Wait while nobody listens: the S3 server of the same compose project may be starting."""
    from botocore.exceptions import EndpointConnectionError

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            s3.list_buckets()
            return
        except EndpointConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        except s3.exceptions.ClientError:
            return  # it answers; whether it lets us in, the bucket itself will tell


def main() -> int:
    """Do all of it; an error ends the command with its traceback and code 1."""
    settings = load_settings()
    migrate_catalog(settings)
    print("catalog: tables are up to date")
    write_login()
    check_bucket(settings)
    print(f"bucket: {settings.required_bucket} answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
