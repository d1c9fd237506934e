"""docker-compose.yaml without Docker: the same services, with the same environment and commands, as plain processes.

What differs is what a container hides: a service's name and port become a free port of 127.0.0.1, paths of the image
and of volumes become folders of the test, and what the Dockerfile copies is copied there. PostgreSQL and Redis come
from wheels, SeaweedFS too (behind `S3Proxy`, so that it keeps its address when it is started anew, and can be told to
fail). Nothing reads this repository or this process's environment once it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy.exc import SQLAlchemyError

from include.local.airflow import NO_KEEP_ALIVE
from include.local.credentials import Credentials
from include.local.processes import free_ports
from include.local.seaweedfs import SeaweedFS
from tests.distributed.components import Component, family, stopped
from tests.distributed.compose import ROOT, ComposeService, image_content, read_env_file, read_services
from tests.distributed.s3_proxy import S3Proxy
from tests.distributed.wheels import as_postgres_user, postgres_folder, redis_folder
from tests.quiet_schedule import quiet_minute

DAG_ID = "image_proxy_pipeline"
WORKERS = 2
READY_SECONDS = 400  # a busy machine; an idle one needs a tenth
# What a person would turn in .env for a machine of two cores, and for trouble to be noticed while a test waits.
ENV_OVERRIDES = {
    "WORKER_CONCURRENCY": "2",
    "PARALLELISM": str(WORKERS * 2),
    "DECODE_WORKERS": "1",
    "NOVA_CONCURRENCY": "4",
    "NOVA_POOL_SLOTS": "8",
    "API_WORKERS": "1",
    "STAND_IN_LATENCY_MS": "150",
    "TASK_HEARTBEAT_SECONDS": "2",
    "TASK_HEARTBEAT_TIMEOUT": "20",
    "TASK_QUEUED_TIMEOUT": "45",
    "TASK_QUEUED_CHECK_INTERVAL": "5",
    "LEASE_SECONDS": "10",
    "RETRY_SECONDS": "3",
}
# What a person would write into settings.env: the second is docker-compose.yaml's own, and must have no effect.
SETTINGS = {"IMAGE_PROXY_OBJECT_TAGS": '{"department": "archive"}', "IMAGE_PROXY_BUCKET": "nobodys-bucket"}
PORTS = {"postgres": 5432, "redis": 6379, "nova-stand-in": 8766, "api-server": 8080, "scheduler": 8974}
AIRFLOW_SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer", "worker")
MARKER = "TOPOLOGY_ID"
MOST_STARTS = 20


class Topology:
    """The running deployment, and what a test needs to look at it and to break it."""

    def __init__(
        self, folder: Path, overrides: Mapping[str, str] = ENV_OVERRIDES, *, through_proxy: bool = True
    ) -> None:
        """``through_proxy``: whether S3 is behind `S3Proxy`. A benchmark does without: that takes CPU of its own."""
        self.folder = folder
        self._through_proxy = through_proxy
        self._overrides = overrides
        # Not below the test's folder: each start of pytest closes that to every user but its own.
        self._database = Path(tempfile.mkdtemp(prefix="pg"))
        self.id = uuid.uuid4().hex
        self.minute = quiet_minute()  # of each hour, when the schedule starts a run
        self.variables = self._env_file()
        self.services = read_services((ROOT / "docker-compose.yaml").read_text(), self.variables)
        self.proxy = S3Proxy()
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.s3 = SeaweedFS(folder / "objects", folder / "logs" / "s3.log", self._s3_keys())
        self.components: dict[str, Component] = {}
        self.restarts: list[str] = []

    def _env_file(self) -> dict[str, str]:
        path = self.folder / ".env"
        subprocess.run([sys.executable, "-m", "scripts.make_env", str(path)], check=True, cwd=ROOT, capture_output=True)
        with path.open("a") as opened:
            opened.writelines(f"{name}={value}\n" for name, value in self._overrides.items())
        settings = {**SETTINGS, "IMAGE_PROXY_SCHEDULE": f"{self.minute} * * * *"}
        (self.folder / "settings.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return read_env_file(path.read_text())

    def _s3_keys(self) -> Credentials:
        return Credentials(self.variables["S3_ACCESS_KEY"], self.variables["S3_SECRET_KEY"])

    # -- from a container's world to this machine's ------------------------------------------------------------------

    def native(self, text: str, service: str) -> str:
        """Return a value of the compose file as it is true here."""
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        text = text.replace("s3:8333", f"127.0.0.1:{self._s3_port}").replace("/opt/airflow", str(self._image))
        if text == "0.0.0.0":  # noqa: S104
            return "127.0.0.1"
        return str(self.ports[service]) if service in PORTS and text == str(PORTS[service]) else text

    @property
    def _s3_port(self) -> int:
        return self.proxy.port if self._through_proxy else int(self.s3.endpoint_url.rpartition(":")[2])

    def environment(self, service: ComposeService) -> dict[str, str]:
        """Return the whole environment of one service's process: the compose file's, the image's, and PATH."""
        _, image = image_content((ROOT / "Dockerfile").read_text())
        written = {**image, **self._env_files(service), **service.environment}
        given = {name: self.native(value, service.name) for name, value in written.items()}
        binaries = [Path(sys.executable).parent, redis_folder(), postgres_folder(), "/usr/bin", "/bin"]
        own = {
            "PATH": os.pathsep.join(map(str, binaries)),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            MARKER: self.id,
        }
        return {"AIRFLOW_HOME": str(self._image), "NO_PROXY": "*", **given, **own}

    def _env_files(self, service: ComposeService) -> dict[str, str]:
        """Return what the service's env_files hold; a file that is not there is left out."""
        paths = [self.folder / file for file in service.env_files]
        read = [read_env_file(path.read_text()) for path in paths if path.exists()]
        return {name: value for file in read for name, value in file.items()}

    def command(self, service: ComposeService) -> list[str]:
        """Return the argv of one service, as the image's entrypoint would run it."""
        words = [self.native(word, service.name) for word in service.command]
        return words if words[0] in ("bash", "python") else ["airflow", *words]

    @property
    def _image(self) -> Path:
        return self.folder / "opt" / "airflow"

    def _build_image(self) -> None:
        copies, _ = image_content((ROOT / "Dockerfile").read_text())
        assert {"dags", "plugins", "include", "scripts"} <= {source for source, _ in copies}
        for source, target in copies:
            wanted = self.folder / target.lstrip("/")
            shutil.copytree(ROOT / source, wanted, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("logs", "auth", "stand-in"):
            (self._image / name).mkdir()

    # -- starting and stopping ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator[Topology]:
        """Everything started, migrated and ready during the block; no process of it is left after."""
        with contextlib.ExitStack() as ending:
            ending.callback(self._end_all)
            self._build_image()
            ending.enter_context(self.proxy)
            self.start_s3()
            ending.callback(self.s3.stop)
            self._add("postgres", *self._postgres())
            self._add("redis", *self._redis())
            self._create_databases()
            self._airflow("nova-stand-in", ready=lambda: _answers(f"http://127.0.0.1:{self.ports['nova-stand-in']}/"))
            self._run_init()
            self._start_airflow()
            yield self

    def start_s3(self) -> None:
        """Start the S3 server, on the same data, behind the same address."""
        self.s3.start()
        self.proxy.upstream = ("127.0.0.1", int(self.s3.endpoint_url.rpartition(":")[2]))

    def _postgres(self) -> tuple[list[str], dict[str, str]]:
        service, data = self.services["postgres"], self._database / "data"
        environment = self.environment(service)
        owner = as_postgres_user(data)
        password = self._database / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        shutil.chown(password, pwd.getpwuid(data.stat().st_uid).pw_name)
        password.chmod(0o400)
        made = [*owner, "initdb", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C",
                "--username", environment["POSTGRES_USER"], "--pgdata", str(data)]  # fmt: skip
        subprocess.run(made, check=True, capture_output=True, env=environment, cwd="/")
        password.unlink()
        options = {"listen_addresses": "127.0.0.1", "port": self.ports["postgres"], "unix_socket_directories": ""}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [*owner, "postgres", "-D", str(data), *flags], environment

    def _create_databases(self) -> None:
        """What the image's entrypoint does: the database of POSTGRES_DB, then the scripts of its init folder."""
        service = self.services["postgres"]
        environment = self.environment(service)
        environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports["postgres"])}
        environment |= {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
        create = ["psql", "--username", environment["POSTGRES_USER"], "--dbname", "postgres", "--command"]
        ask = [*create, "SELECT 1"]
        self.until(lambda: subprocess.run(ask, env=environment, capture_output=True, check=False).returncode == 0, 30)
        _must([*create, f"CREATE DATABASE {environment['POSTGRES_DB']}"], environment)
        for script in sorted((ROOT / "deploy" / "postgres").glob("*.sh")):
            _must(["/bin/sh", str(script)], environment)

    def _redis(self) -> tuple[list[str], dict[str, str]]:
        """The compose file's own command, with an address of this machine added to the configuration it writes."""
        service, data = self.services["redis"], self.folder / "queue"
        data.mkdir()
        here = f"bind 127.0.0.1\nport {self.ports['redis']}\ndir {data}"
        assert "dir /data" in service.command[0]
        return ["/bin/sh", "-c", service.command[0].replace("dir /data", here)], self.environment(service)

    def _run_init(self) -> None:
        service = self.services["init"]
        _must(self.command(service), self.environment(service))

    def _start_airflow(self) -> None:
        """Start all at once, as compose does, and wait until each says that it is ready."""
        self._airflow("api-server", ready=lambda: _answers(f"{self.url}/api/v2/version"))
        health = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
        for name, key in health.items():
            self._airflow(name, ready=lambda key=key: self.health()[key]["status"] == "healthy")  # type: ignore[misc]
        for number in range(1, WORKERS + 1):
            name = f"worker-{number}"
            self._airflow(
                "worker",
                name=name,
                more=["--celery-hostname", f"{name}@%h", "--pid", str(self.folder / f"{name}.pid")],
                ready=lambda name=name: "ready." in self.log(name),  # type: ignore[misc]
            )
        self.until_ready()
        self.client = self._client()
        self.until(lambda: self.client.get(f"/dags/{DAG_ID}").status_code == httpx.codes.OK, READY_SECONDS)
        answer = self.client.patch(f"/dags/{DAG_ID}", json={"is_paused": False})
        assert answer.status_code == httpx.codes.OK, answer.text
        # Unpausing starts the run of the last interval. It would share in the first test's images.
        self.until(lambda: self._scheduled() == {"success"}, READY_SECONDS, "the scheduled run")

    def _scheduled(self) -> set[str]:
        answer = self.client.get(f"/dags/{DAG_ID}/dagRuns", params={"run_type": "scheduled"}).raise_for_status()
        return {run["state"] for run in answer.json()["dag_runs"]}

    def _airflow(
        self, service: str, *, ready: Callable[[], bool], name: str | None = None, more: Sequence[str] = ()
    ) -> None:
        found = self.services[service]
        self._add(name or service, [*self.command(found), *more], self.environment(found), ready)

    def _add(
        self, name: str, argv: list[str], environment: dict[str, str], ready: Callable[[], bool] = lambda: True
    ) -> None:
        program = shutil.which(argv[0], path=environment["PATH"])
        assert program is not None, f"there is no program {argv[0]}"
        self.components[name] = Component(name, [program, *argv[1:]], environment, self.folder / "logs", ready)
        self.components[name].start()

    def _end_all(self) -> None:
        started = [component for component in reversed(self.components.values()) if component.running]
        for component in started:  # all at once, then each is waited for
            os.killpg(component.pid, signal.SIGTERM)
        for component in started:
            assert component.server is not None
            component.server.stop()
        for process in self.processes():  # a task in a group of its own, when its worker was killed
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self._database, ignore_errors=True)

    # -- breaking and waiting ----------------------------------------------------------------------------------------

    def kill(self, name: str, *, hold: bool = False) -> None:
        """SIGKILL one component with all that it started, as when its machine is lost.

        It is started again at the next look, as compose's `restart` does, unless it is held.
        """
        component = self.components[name]
        component.held = hold
        processes = family(component.pid)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """One component stopped with all that it started, as on a machine that hangs; at the end of the block it goes
        on as if no time had passed."""
        with stopped(family(self.components[name].pid)):
            yield

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """One component killed, and started again at the end of the block."""
        self.kill(name, hold=True)
        try:
            yield
        finally:
            self.components[name].held = False
            self.components[name].start()

    @contextlib.contextmanager
    def without_s3(self) -> Iterator[None]:
        """The S3 server killed, and started again at the end of the block."""
        os.killpg(self.s3.pid, signal.SIGKILL)
        self.s3.stop()
        try:
            yield
        finally:
            self.start_s3()

    def keep_alive(self) -> None:
        """Start again what has ended, as compose's `restart: unless-stopped` does."""
        for component in self.components.values():
            if not component.running and not component.held:
                self.restarts.append(component.name)
                assert len(component.sessions) < MOST_STARTS, f"{component.name} does not stay up"
                component.start()

    def until(self, condition: Callable[[], object], seconds: float = READY_SECONDS, what: str = "it") -> None:
        """Wait until the condition holds, keeping everything alive meanwhile. What it raises counts as not yet."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.HTTPError, SQLAlchemyError, psutil.Error, KeyError, ValueError):
                if condition():
                    return
            self.keep_alive()
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come about in {seconds:g} s; see {self.folder / 'logs'}")
            time.sleep(0.1)

    def until_ready(self) -> None:
        """Wait until every component is in service."""
        for component in self.components.values():
            self.until(component.ready, READY_SECONDS, f"{component.name} in service")

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api-server']}"

    def health(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json())

    def log(self, name: str) -> str:
        component = self.components[name]
        return component.log_path(len(component.sessions)).read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Every living process of this topology: its session is a component's, or its environment says so."""
        sessions = {session for component in self.components.values() for session in component.sessions}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = os.getsid(process.pid) in sessions or process.environ().get(MARKER) == self.id
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def calls(self) -> list[dict[str, Any]]:
        """The Nova stand-in's log: every request that it answered or refused."""
        path = self._image / "stand-in" / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def catalog_url(self) -> str:
        """Where the catalog is, from the connection that the components have."""
        service = self.services["worker"]
        return self.environment(service)["AIRFLOW_CONN_CATALOG_DEFAULT"]

    def _client(self) -> httpx.Client:
        login = {"username": "admin", "password": self.variables["ADMIN_PASSWORD"]}
        answer = httpx.post(f"{self.url}/auth/token", json=login)
        answer.raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx.Client(base_url=f"{self.url}/api/v2", headers=headers, timeout=60, limits=NO_KEEP_ALIVE)


def _must(argv: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{argv[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}"


def _answers(url: str) -> bool:
    return httpx.get(url, timeout=5).status_code == httpx.codes.OK
