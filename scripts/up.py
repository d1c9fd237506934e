"""`make up`: Airflow's UI on the embedded cloud, until Ctrl-C.

The same deployment as `make run`, with a scheduler: pool and connections are made over Airflow's REST API, the DAGs
are unpaused, and the sample pictures stand in the catalog. The schedule takes them within the hour, a triggered run
at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime

import httpx
from rich.console import Console

from include.local.airflow import SLOTS, USER, AirflowStack
from include.local.laptop import VAR, Laptop, LaptopBusy, LaptopUnusable, laptop, picture_folders
from include.local.processes import ServerFailed, free_port, is_free
from include.local.registration import register_folders
from include.pipeline.settings import Settings, SettingsError, load_settings
from include.storage.errors import StorageError
from scripts.interrupts import Interrupted, raise_on_signals
from scripts.words import complain

PREFERRED_PORT = 8080  # Airflow's own
DAGS = (
    "image_proxy_pipeline",
    "nova_batch_inference",
    "proxy_quality_evaluation",
    "export_analyses",
    "catalog_ingest",
    "catalog_maintenance",
    "deployment_check",
)
PARSE_SECONDS = 90
POLL_SECONDS = 0.5
MOST_RESTARTS = 3  # of one component


class DagsMissing(RuntimeError):
    """The DAG processor did not bring the DAGs in time; its import errors are in the message."""

    code = "dags_missing"


def main() -> int:
    """Serve until a signal; return 0 if stopped by one, 2 if it could not begin, 1 if a component keeps ending."""
    console = Console()
    raise_on_signals()
    try:
        settings = load_settings()
        with laptop(VAR) as machine, ExitStack() as running:
            register_folders(machine.catalog, picture_folders(machine.var), datetime.now(UTC))
            with console.status("Starting Airflow (about half a minute; longer the first time)"):
                machine.home.migrate(machine.env)
                stack = AirflowStack(machine.home, machine.env, machine.var / "logs", port=_port())
                running.enter_context(stack)
                _prepare(machine, stack, settings)
            return _serve(machine, stack, console)
    except (SettingsError, LaptopBusy, LaptopUnusable, ServerFailed, StorageError, DagsMissing) as error:
        complain(console, error)
        return 2
    except Interrupted:
        console.print("Stopped: Airflow, S3 and the Nova stand-in. What they keep is in var/.")
        return 0


def _prepare(machine: Laptop, stack: AirflowStack, settings: Settings) -> None:
    with stack.client() as client:
        make_pool(client, settings.nova_pool, max(SLOTS, settings.nova_concurrency))
        for name, connection in machine.connections.items():
            make_connection(client, name, connection)
        unpause(client, DAGS)


def _serve(machine: Laptop, stack: AirflowStack, console: Console) -> int:
    console.print(f"\n  Airflow    [bold]{stack.url}[/bold]", highlight=False)
    console.print(f"  login      [bold]{USER}[/bold] / [bold]{machine.home.password}[/bold]", highlight=False)
    console.print(f"  S3         {machine.cloud.s3.endpoint_url}", highlight=False)
    console.print(f"  Nova       {machine.cloud.nova_url} (a stand-in, not Amazon Nova)", highlight=False)
    console.print("\nTrigger image_proxy_pipeline there. Ctrl-C stops everything.\n")
    ends: Counter[str] = Counter()
    while True:
        for name in stack.revive():
            complain(console, f"Airflow's {name} ended and was started again; see {machine.var / 'logs' / name}.log")
            ends[name] += 1
            if ends[name] > MOST_RESTARTS:
                complain(console, f"Airflow's {name} does not stay up")
                return 1
        time.sleep(POLL_SECONDS)


def make_pool(client: httpx.Client, name: str, slots: int) -> None:
    """Create the pool that bounds requests to Nova, or give an existing one these slots."""
    body = {"name": name, "slots": slots, "description": "Requests to Nova in flight", "include_deferred": False}
    _create_or_replace(client, "/pools", name, body)


def make_connection(client: httpx.Client, name: str, connection: dict[str, object]) -> None:
    """Create or replace a connection, so that it can be seen in the UI too."""
    body = {"connection_id": name, **connection}
    if "extra" in body:
        body["extra"] = json.dumps(body["extra"])
    _create_or_replace(client, "/connections", name, body)


def unpause(client: httpx.Client, dags: tuple[str, ...]) -> None:
    """Unpause the DAGs as soon as the DAG processor has brought them.

    What Airflow cannot do at the moment (its SQLite is locked by another component) is asked for again. Raises
    `DagsMissing` when a DAG does not come or cannot be unpaused in time, `httpx.HTTPStatusError` when it is refused.
    """
    deadline = time.monotonic() + PARSE_SECONDS
    for dag_id in dags:
        while (answer := client.patch(f"/dags/{dag_id}", json={"is_paused": False})).is_error:
            if answer.status_code != httpx.codes.NOT_FOUND and not answer.is_server_error:
                answer.raise_for_status()
            if time.monotonic() > deadline:
                raise DagsMissing(f"{dag_id} could not be unpaused ({answer.status_code}); {_import_errors(client)}")
            time.sleep(POLL_SECONDS)


def _import_errors(client: httpx.Client) -> str:
    errors = client.get("/importErrors").json().get("import_errors", [])
    return f"import errors: {[error['stack_trace'] for error in errors]}"


def _create_or_replace(client: httpx.Client, path: str, name: str, body: dict[str, object]) -> None:
    answer = client.post(path, json=body)
    if answer.status_code == httpx.codes.CONFLICT:
        answer = client.patch(f"{path}/{name}", json=body)
    answer.raise_for_status()


def _port() -> int:
    return PREFERRED_PORT if is_free(PREFERRED_PORT) else free_port()


if __name__ == "__main__":
    sys.exit(main())
