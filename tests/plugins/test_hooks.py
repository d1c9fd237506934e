"""What an Airflow connection says reaches the clients that the operators use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk.exceptions import AirflowFailException
from image_proxy.hooks.catalog import CatalogHook
from image_proxy.hooks.nova import NovaHook, nova_hook
from sqlalchemy import text

from include.catalog.engine import create_catalog_engine
from include.pipeline.settings import load_settings
from tests.aws_server import aws_server, make_bucket
from tests.catalog.conftest import Databases, databases

__all__ = ["databases"]

ROLE = "arn:aws:iam::111122223333:role/image-proxies"


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    with aws_server() as url:
        yield url


@pytest.fixture(scope="module")
def frankfurt(aws_url: str) -> str:
    return make_bucket(aws_url, "eu-central-1")


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: Any) -> None:
    services = {name: {"endpoint_url": url} for name in ("s3", "sts")}
    connection = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",
        "extra": {"region_name": "us-east-1", "service_config": services, **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("hook", [S3Hook, NovaHook])
def test_the_role_of_the_connection_is_assumed(aws_url: str, monkeypatch: pytest.MonkeyPatch, hook: Any) -> None:
    more = {"assume_role_kwargs": {"ExternalId": "photos", "RoleSessionName": "image-proxies"}}
    connect(monkeypatch, aws_url, role_arn=ROLE, **more)
    credentials = hook(aws_conn_id="aws_default").conn._request_signer._credentials
    assert credentials.method == "sts-assume-role"
    keys = credentials.get_frozen_credentials()
    assert keys.access_key != "testing" and keys.token
    who = S3Hook("aws_default").get_session().client("sts", endpoint_url=aws_url).get_caller_identity()
    assert who["Arn"].startswith("arn:aws:sts::111122223333:assumed-role/image-proxies/")


def test_without_a_role_the_connections_own_keys_sign(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, aws_url)
    client: Any = NovaHook(aws_conn_id="aws_default").conn
    assert client._request_signer._credentials.access_key == "testing"


def test_nova_is_called_in_the_buckets_region(aws_url: str, frankfurt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, aws_url)
    hook = nova_hook(load_settings(bucket=frankfurt), "eu.amazon.nova-2-lite-v1:0")
    client: Any = hook.conn
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert client.meta.config.retries["total_max_attempts"] == 1  # still never a blind second request


def test_a_profile_that_cannot_be_called_there_fails_the_task_for_good(
    aws_url: str, frankfurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, aws_url)
    with pytest.raises(AirflowFailException, match=r"region_mismatch: us\.amazon\.nova-2-lite.*eu-central-1"):
        nova_hook(load_settings(bucket=frankfurt), "us.amazon.nova-2-lite-v1:0")


def test_the_catalog_outlives_a_failover_of_its_database(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that comes back knows no connection of before. The API server keeps its catalog for weeks, and a task
    would have to begin anew."""
    url = databases.new("postgresql", migrated=True)
    extra = {"sqlalchemy_query": dict(url.query)}
    connection = {"conn_type": "postgres", "login": url.username, "schema": url.database, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CATALOG_DEFAULT", json.dumps(connection))
    catalog = CatalogHook().get_conn()
    assert catalog.release_all() == 0
    admin = create_catalog_engine(url)
    with admin.begin() as session:
        ended = session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert [row[0] for row in ended] == [True]
    admin.dispose()
    assert catalog.release_all() == 0
    databases.drop(url)
