"""Real servers, shared by all tests that need one."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.local.nova_stand_in import NovaStandIn, StandInSettings
from include.local.seaweedfs import SeaweedFS
from tests.programs import require_weed

# Airflow reads these when it is first imported, so they stand here, before any test module is.
_AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
atexit.register(shutil.rmtree, _AIRFLOW_HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "IMAGE_PROXY_"))]:
    del os.environ[_name]  # a person's own Airflow and settings are not the tests'
os.environ |= {
    "AIRFLOW_HOME": str(_AIRFLOW_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).parents[1] / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

from tests.airflow_boot import airflow, airflow_on_postgres, upload_queue  # noqa: E402, F401 - one boot for all


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: end-to-end tests count all images of the Airflow that they share."""
    items.sort(key=lambda item: "browser" in item.path.parts)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server for the whole session."""
    require_weed()
    folder = tmp_path_factory.mktemp("seaweedfs")
    with SeaweedFS(folder / "data", folder / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def s3(seaweedfs: SeaweedFS) -> Any:
    """A boto3 client of `seaweedfs`."""
    return seaweedfs.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this machine's own proxies and certificate authorities: with them, all uploads are boto3's."""
    for name in os.environ:
        if name.lower().endswith(("_proxy", "_ca_bundle")):
            monkeypatch.delenv(name)


@pytest.fixture
def stand_in(s3: Any) -> Iterator[NovaStandIn]:
    """A Nova stand-in of the test's own, reading from `seaweedfs`."""
    with NovaStandIn(StandInSettings(), s3) as server:
        yield server


@pytest.fixture(scope="session")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployment of docker-compose.yaml as plain processes: one boot for tests/distributed and tests/chaos."""
    from tests.distributed.topology import Topology

    require_weed()
    booted = Topology(tmp_path_factory.mktemp("topology"))
    with booted.running():
        yield booted
    assert booted.processes() == [], "processes were left behind"


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line of figures that stays to be read when the test passes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  {text}")  # noqa: T201

    return say


@pytest.fixture(scope="session")
def books(topology: Any, tell: Callable[[str], None]) -> Any:
    """The catalog, the bucket and the stand-in's log of `topology`."""
    from tests.distributed.ledger import Books

    return Books(topology, tell)
