"""Airflow on a laptop: its environment, and its components as plain processes on loopback.

The same code runs under `make run`, `make up` and the end-to-end tests; what differs from a real deployment is
connections and environment only.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from include.local.credentials import write_private
from include.local.processes import ChildServer, free_port

ROOT = Path(__file__).resolve().parents[2]
USER = "admin"
READY_SECONDS = 120
LOCKED_SECONDS = 60  # how long a component waits for SQLite's one writer; the default of 5 is passed on a busy laptop
SQLITE_OPTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"  # to be left out where Airflow's database is another
POOL = "nova"  # the default of the setting that names it
SLOTS = 8
# The server closes a connection that was idle for 5 s. A client that takes it up just then loses its request.
NO_KEEP_ALIVE = httpx.Limits(max_keepalive_connections=0)
_PAUSES = (0.1, 0.2, 0.5, 1, 2, 5)  # seconds

LOCAL_ROLE = "arn:aws:iam::000000000000:role/embedded-cloud"  # the stand-in has no roles, it only wants one named


@dataclass(frozen=True, slots=True)
class AirflowHome:
    """A folder that holds one laptop Airflow: its database, logs and secrets (made on the spot, mode 0600)."""

    path: Path

    def environment(self, connections: Mapping[str, Mapping[str, Any]], bucket: str) -> dict[str, str]:
        """Return the environment of every Airflow process; ``connections`` are Airflow's JSON connections by id."""
        own = {
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}?timeout={LOCKED_SECONDS}",
            SQLITE_OPTION: "include.local.sqlite.CONNECT_ARGS",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            # The API server's first answer to a task takes longer than the default of 5 s on a busy laptop.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
            # A task's end that its supervisor overlooks is seen at the next heartbeat, and so is a cancelled run.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.path / "passwords.json"),
            # A changed file is parsed at once. Those that did not change take 15 % of a core at the default of 30 s.
            # But a queue is watched only from the first parsing after its DAG was unpaused.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "IMAGE_PROXY_BUCKET": bucket,
            "IMAGE_PROXY_BATCH_ROLE_ARN": LOCAL_ROLE,
            **self._secrets(),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
        }
        # A person's own Airflow must not be written to, and a proxy of theirs leads to no server of ours.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return {**inherited, **dict.fromkeys(("NO_PROXY", "no_proxy"), without_proxy()), **own}

    def migrate(self, env: Mapping[str, str]) -> None:
        """Create or upgrade Airflow's own database, with the pool for Nova; quick when it was done before."""
        from airflow import __version__

        marker = self.path / "migrated"
        done = marker.exists() and marker.read_text(encoding="utf-8") == __version__
        if done and self._database.exists():
            return
        run_airflow(["db", "migrate"], env)
        run_airflow(["pools", "set", POOL, str(SLOTS), "Requests to Nova in flight"], env)
        marker.write_text(__version__, encoding="utf-8")

    @property
    def _database(self) -> Path:
        return self.path / "airflow.db"

    @property
    def password(self) -> str:
        """Return the password of the user ``admin``."""
        return _kept(self.path / "passwords.json", lambda: {USER: secrets.token_urlsafe(12)})[USER]

    def _secrets(self) -> dict[str, str]:
        self.path.mkdir(parents=True, exist_ok=True)
        _ = self.password  # the auth manager would make one of its own, and print it
        return _kept(self.path / "secrets.json", _new_secrets)


def without_proxy() -> str:
    """Return the environment's NO_PROXY with this machine's own addresses in it."""
    known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return ",".join(dict.fromkeys([*filter(None, known.split(",")), "127.0.0.1", "localhost"]))


def run_airflow(arguments: Iterable[str], env: Mapping[str, str]) -> str:
    """Run one Airflow command and return what it printed; raises with its last lines when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], env=dict(env), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"airflow {' '.join(arguments)} failed ({done.returncode}):\n{tail}")
    return done.stdout


class AirflowTransport(httpx.HTTPTransport):
    """HTTP to a laptop's Airflow: what its SQLite was too busy for is asked again.

    A writer that began by reading is refused at once while another writes, however long it would wait. Airflow answers
    500 with "Database error" then, and has done nothing.
    """

    def __init__(self) -> None:
        super().__init__(limits=NO_KEEP_ALIVE)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, again after each of some pauses while the database refuses it."""
        for pause in _PAUSES:
            response = super().handle_request(request)
            if not _refused_by_database(response):
                return response
            response.close()
            time.sleep(pause)
        return super().handle_request(request)


def _refused_by_database(response: httpx.Response) -> bool:
    return response.status_code == httpx.codes.INTERNAL_SERVER_ERROR and b"Database error" in response.read()


class AirflowStack:
    """Scheduler, DAG processor and API server on 127.0.0.1, started and stopped together; a context manager.

    ``env`` is what `AirflowHome.environment` returned; `AirflowHome.migrate` must have been called.
    """

    def __init__(self, home: AirflowHome, env: Mapping[str, str], log_dir: Path, port: int | None = None) -> None:
        self.home = home
        self.port = port or free_port()
        self.env = {
            **env,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
        }
        self._log_dir = log_dir
        self._running = ExitStack()
        self.servers: dict[str, ChildServer] = {}

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for name, arguments, ready in (
                ("api-server", ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"], self._answers),
                # Their log servers would listen on every interface; logs are read from the shared folder instead.
                ("scheduler", ["--skip-serve-logs"], lambda: self._healthy("scheduler")),
                ("dag-processor", [], lambda: self._healthy("dag_processor")),
                ("triggerer", ["--skip-serve-logs"], lambda: self._healthy("triggerer")),
            ):
                self.servers[name] = starting.enter_context(self._component(name, arguments, ready))
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def revive(self) -> list[str]:
        """Start again what ended by itself, wait until it is ready, and return its names.

        It is what a deployment's restart policy does. Raises `ServerFailed` when a component does not come up.
        """
        ended = [name for name, server in self.servers.items() if not server.running]
        for name in ended:
            self.servers[name].stop()  # what it started and left behind
            self.servers[name].start()
        return ended

    @property
    def url(self) -> str:
        """Return the address of the UI and of the REST API."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """Return a REST client that is logged in as the administrator."""
        answer = httpx.post(f"{self.url}/auth/token", json={"username": USER, "password": self.home.password})
        answer.raise_for_status()
        token = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(
            base_url=f"{self.url}/api/v2", headers=headers, timeout=2 * LOCKED_SECONDS, transport=AirflowTransport()
        )

    def _component(self, name: str, arguments: list[str], ready: Callable[[], bool]) -> ChildServer:
        return ChildServer(
            f"Airflow's {name}",
            [sys.executable, "-m", "airflow", name, *arguments],
            env=self.env,
            log_path=self._log_dir / f"{name}.log",
            ready=ready,
            record_path=self.home.path / "processes" / f"{name}.json",
            ready_seconds=READY_SECONDS,
        )

    def _answers(self) -> bool:
        return httpx.get(f"{self.url}/api/v2/version", timeout=5).status_code == httpx.codes.OK

    def _healthy(self, component: str) -> bool:
        health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        return bool(health[component]["status"] == "healthy")


def _new_secrets() -> dict[str, str]:
    from cryptography.fernet import Fernet

    return {
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
    }


def _kept(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return the secrets kept at ``path``, made at the first call."""
    if not path.exists():
        write_private(path, json.dumps(make()))
    return dict(json.loads(path.read_text(encoding="utf-8")))
