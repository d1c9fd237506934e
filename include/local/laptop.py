"""A laptop's deployment in one folder: lock, embedded cloud, catalog, Airflow home; for `make run` and `make up`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from include.local.airflow import AirflowHome, without_proxy
from include.local.cloud import BUCKET, ROOT, EmbeddedCloud
from include.local.processes import reap
from include.local.samples import make_samples

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from include.catalog.catalog import Catalog

VAR: Final = Path(os.environ.get("VAR_DIR") or ROOT / "var")  # everything that a laptop's runs make
MADE: Final = (  # patterns of all that stands in it, for `make clean`
    *("airflow", "logs", "nova_stand_in", "reports", "samples", "seaweedfs"),
    *("catalog.db", "catalog.db-*", "credentials.json", "laptop.lock"),
)


class LaptopBusy(RuntimeError):
    """Another `make run` or `make up` is using the folder."""

    code = "laptop_busy"


class LaptopUnusable(RuntimeError):
    """The folder cannot hold what runs make."""

    code = "laptop_unusable"

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path} cannot be used: {why}; mend it, or name another folder with VAR_DIR")


@dataclass(frozen=True, slots=True)
class Laptop:
    """Everything that a run on one machine needs, started and ready."""

    var: Path
    cloud: EmbeddedCloud
    home: AirflowHome
    engine: Engine
    catalog: Catalog
    env: dict[str, str]

    @property
    def connections(self) -> dict[str, dict[str, object]]:
        """Return the Airflow connections by id."""
        return {"aws_default": self.cloud.aws_connection(), "catalog_default": catalog_connection(self.var)}


@contextmanager
def laptop(var: Path, stand_in_options: tuple[str, ...] = ()) -> Iterator[Laptop]:
    """Start the embedded cloud on ``var``, with a migrated catalog, and stop it at the end of the block.

    Nobody else works on this folder meanwhile (`LaptopBusy`), so claims that a killed run left are released at once
    rather than when their lease ends. Raises `LaptopUnusable` where the folder or its catalog cannot be written.
    """
    from sqlalchemy.exc import DBAPIError

    from include.catalog.catalog import Catalog
    from include.catalog.engine import create_catalog_engine
    from include.catalog.errors import NotMigrated
    from include.catalog.migrate import migrate

    var = var.absolute()
    try:
        var.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaptopUnusable(var, error.strerror) from error
    os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), without_proxy())
    with _locked(var / "laptop.lock"):
        _reap(var)
        engine = create_catalog_engine(f"sqlite:///{var / 'catalog.db'}")
        catalog = Catalog(engine)
        try:
            migrate(engine)
            catalog.release_all()
        except (DBAPIError, NotMigrated) as error:
            raise LaptopUnusable(var / "catalog.db", getattr(error, "orig", error)) from error
        home = AirflowHome(var / "airflow")
        with EmbeddedCloud(var, stand_in_options) as cloud:
            connections = {"aws_default": cloud.aws_connection(), "catalog_default": catalog_connection(var)}
            yield Laptop(var, cloud, home, engine, catalog, home.environment(connections, BUCKET))
        engine.dispose()


def stop_leftovers(var: Path) -> None:
    """Stop servers and Airflow processes that a killed run left. Raises `LaptopBusy` while a run is going on."""
    if var.is_dir():
        with _locked(var / "laptop.lock"):
            _reap(var)


def _reap(var: Path) -> None:
    for record in sorted([*var.glob("airflow/processes/*.json"), *var.glob("*/server.json")]):
        reap(record)


def picture_folders(var: Path) -> list[Path]:
    """Return the folders to register: the person's own (``IMAGES``), or the samples, made on the first call."""
    wanted = os.environ.get("IMAGES")
    return [Path(wanted).expanduser()] if wanted else [make_samples(var / "samples")]


def catalog_connection(var: Path) -> dict[str, object]:
    """Return the Airflow connection of the SQLite catalog (as JSON: a URI would need its spaces escaped)."""
    return {"conn_type": "sqlite", "host": str(var / "catalog.db")}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LaptopUnusable(path.parent, error.strerror) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LaptopBusy(
                f"process {lock.read().strip()} is running on {path.parent}: wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)
