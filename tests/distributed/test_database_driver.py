"""The driver through which Airflow reaches its own database: one whose errors it understands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from scripts.make_env import filled
from tests.catalog.conftest import PostgresServer
from tests.distributed.compose import ROOT, read_env_file, read_services

CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    running = PostgresServer()
    yield running
    running.stop()


def test_airflow_knows_a_lock_that_another_holds_when_it_meets_one(server: PostgresServer) -> None:
    """Its scheduler locks the pools without waiting, and goes on where they are locked; it ends on any other error."""
    from airflow.utils.sqlalchemy import is_lock_not_available_error

    variables = read_env_file(filled((ROOT / ".env.example").read_text()))
    services = read_services((ROOT / "docker-compose.yaml").read_text(), variables)
    driver = make_url(services["scheduler"].environment[CONNECTION]).drivername
    engine = create_engine(server.url.set(drivername=driver))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE slot_pool AS SELECT 1 AS slots")
    with engine.begin() as holder, engine.begin() as other:
        holder.exec_driver_sql("SELECT * FROM slot_pool FOR NO KEY UPDATE")
        with pytest.raises(OperationalError) as met:
            other.exec_driver_sql("SELECT * FROM slot_pool FOR NO KEY UPDATE NOWAIT")
    engine.dispose()
    assert is_lock_not_available_error(met.value)
