"""One boot of a real Airflow (scheduler, DAG processor, triggerer, API server), shared by all tests that need one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate
from include.local.airflow import ROOT, SQLITE_OPTION, AirflowStack
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from include.local.seaweedfs import REGION
from include.local.statsd import StatsdReceiver
from scripts.up import make_pool, unpause
from tests.catalog.conftest import PostgresServer
from tests.end_to_end.documents import write_documented_dags
from tests.end_to_end.webhook import Webhook
from tests.programs import require_weed
from tests.quiet_schedule import quiet_minute

DAG_ID = "image_proxy_pipeline"
SLOTS = 6  # not a multiple of the four slots that an analysis task takes: two tasks at once would need eight
RUN_SECONDS = 240
BATCH_DAG_ID = "nova_batch_inference"
HOLD_JOBS = "hold-jobs"  # while there is such a file in the laptop's folder, batch jobs do not begin
QUICK = {
    "AIRFLOW__API__EXPOSE_STACKTRACE": "True",  # a refusal of the database is not "hidden" from who reads a failed test
    "IMAGE_PROXY_BATCH_POLL_SECONDS": "0.5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",  # a killed one's triggers are another's after this
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
}
LATE_SECONDS = 30
MINUTE = quiet_minute()  # of each hour, when the schedule starts a run
DOCUMENTED = ("after_new_images",)  # DAGs of the documentation, unpaused like ours


@dataclass
class UploadQueue:
    """An SQS queue; `client` is a boto3 SQS client of its server."""

    client: Any
    endpoint: str
    url: str

    def join(self, env: dict[str, str]) -> None:
        """Make it the deployment's: the setting, and SQS in the AWS connection."""
        connection = json.loads(env["AIRFLOW_CONN_AWS_DEFAULT"])
        connection["extra"]["service_config"]["sqs"] = {"endpoint_url": self.endpoint}
        env["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)
        env["IMAGE_PROXY_INGEST_QUEUE_URL"] = self.url


@dataclass
class RunningAirflow:
    """A running Airflow with its embedded cloud, and a logged-in client of its REST API."""

    machine: Laptop
    stack: AirflowStack
    client: httpx.Client
    alerts: Webhook
    metrics: StatsdReceiver
    settings_file: Path

    def register(self, folder: Path) -> None:
        register_folders(self.machine.catalog, [folder], datetime.now(UTC))

    def trigger(self, dag_id: str = DAG_ID, **conf: Any) -> str:
        body = {"logical_date": None, "conf": conf}
        answer = self.client.post(f"/dags/{dag_id}/dagRuns", json=body)
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["dag_run_id"])

    def wait(self, dag_run_id: str, dag_id: str = DAG_ID) -> str:
        """Return the state in which the run ended."""
        ended = ("success", "failed")
        until(lambda: self.run(dag_run_id, dag_id)["state"] in ended, lambda: self.state_of(dag_run_id, dag_id))
        return str(self.run(dag_run_id, dag_id)["state"])

    def state_of(self, dag_run_id: str, dag_id: str = DAG_ID) -> str:
        """Say where a run stands, for the message of a wait that was in vain."""
        tasks = {f"{t['task_id']}[{t['map_index']}]": t["state"] for t in self.tasks(dag_run_id, dag_id)}
        return f"{dag_id} {dag_run_id} is {self.run(dag_run_id, dag_id)['state']}: {tasks}"

    def run(self, dag_run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        return dict(self.got(f"/dags/{dag_id}/dagRuns/{dag_run_id}"))

    def got(self, path: str, **params: Any) -> Any:
        """Return what Airflow's REST API answers.

        Airflow 3.3 answers 500 about an asset's events while a run that they started is queued: that passes.
        """
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(self.client.get(path, params=params))
            return answers[-1].status_code < httpx.codes.INTERNAL_SERVER_ERROR

        until(answered, f"an answer to {path}", seconds=30)
        return answers[-1].json()

    def runs(self, dag_id: str = DAG_ID, **wanted: Any) -> list[dict[str, Any]]:
        """Return the DAG's runs, oldest first."""
        return list(self.got(f"/dags/{dag_id}/dagRuns", limit=100, order_by="id", **wanted)["dag_runs"])

    @contextlib.contextmanager
    def settings(self, **values: str | int) -> Iterator[None]:
        """Other deployment settings while the block lasts; every task reads them anew when it starts."""
        lines = (f"{name} = {json.dumps(value)}" for name, value in values.items())
        self.settings_file.write_text("\n".join(lines), encoding="utf-8")
        try:
            yield
        finally:
            self.settings_file.write_text("", encoding="utf-8")

    def tasks(self, dag_run_id: str, dag_id: str = DAG_ID) -> list[dict[str, Any]]:
        found = self.got(f"/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances", limit=200)
        return list(found["task_instances"])


def until(condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = RUN_SECONDS) -> Any:
    """Wait for a condition, and fail by its name or by what is said then; return what it was in the end."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.5)
    return found


@pytest.fixture(scope="session")
def upload_queue() -> Iterator[UploadQueue]:
    """The queue that catalog_ingest_events listens to: SQS by moto, for the embedded cloud has none."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each look into the queue hides what failed
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    client = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION, **keys)
    yield UploadQueue(client, endpoint, client.create_queue(QueueName="uploads")["QueueUrl"])
    server.stop()


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, upload_queue: UploadQueue) -> Iterator[RunningAirflow]:
    """SQLite for Airflow and for the catalog, LocalExecutor."""
    require_weed()
    var = tmp_path_factory.mktemp("var with spaces")
    with laptop(var, stand_in_options=("--latency-ms", "150", "--job-hold-file", str(var / HOLD_JOBS))) as machine:
        upload_queue.join(machine.env)
        with boot(machine) as running:
            yield running


@pytest.fixture(scope="session")
def airflow_on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    """The same with Airflow's own database and the catalog on PostgreSQL."""
    require_weed()
    server = PostgresServer()
    var = tmp_path_factory.mktemp("var")
    with laptop(var, stand_in_options=("--latency-ms", "150")) as machine:
        administration = create_catalog_engine(server.url)
        with administration.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
            for name in ("airflow", "catalog"):
                admin.exec_driver_sql(f"CREATE DATABASE {name}")
        administration.dispose()
        url = server.url.set(database="catalog")
        engine = create_catalog_engine(url)
        migrate(engine)
        own = server.url.set(database="airflow", drivername="postgresql+psycopg2")
        connection = {
            "conn_type": "postgres",
            "host": url.query["host"],
            "login": url.username,
            "schema": url.database,
        }
        env = machine.env | {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": own.render_as_string(hide_password=False),
            "AIRFLOW_CONN_CATALOG_DEFAULT": json.dumps(connection),
        }
        del env[SQLITE_OPTION]
        there = dataclasses.replace(machine, engine=engine, catalog=Catalog(engine), env=env)
        with boot(there) as running:
            yield running
        engine.dispose()
    server.stop()


@contextlib.contextmanager
def boot(machine: Laptop) -> Iterator[RunningAirflow]:
    """Airflow with the DAGs of the documentation beside ours, a notifier, and settings that a test may change."""
    documented = write_documented_dags(machine.var / "documented dags")
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder)},
        }
        for name, folder in (("dags-folder", ROOT / "dags"), ("documented", documented))
    ]
    settings_file = machine.var / "settings.toml"
    settings_file.touch()
    with Webhook() as alerts, StatsdReceiver() as metrics:
        env = machine.env | alerts.environment() | QUICK | metrics.environment
        env |= {
            "IMAGE_PROXY_SETTINGS_FILE": str(settings_file),
            "IMAGE_PROXY_LATE_AFTER_SECONDS": str(LATE_SECONDS),
            "IMAGE_PROXY_SCHEDULE": f"{MINUTE} * * * *",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        }
        machine.home.migrate(env)
        with AirflowStack(machine.home, env, machine.var / "logs") as stack, stack.client() as client:
            make_pool(client, "nova", SLOTS)
            unpause(client, (DAG_ID, BATCH_DAG_ID, *DOCUMENTED))
            running = RunningAirflow(machine, stack, client, alerts, metrics, settings_file)
            until(lambda: running.runs(run_type="scheduled"), "unpausing the DAG made the last hour's run")
            running.wait(running.runs(run_type="scheduled")[0]["dag_run_id"])  # or it takes the first test's pictures
            yield running
