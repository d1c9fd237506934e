"""Each health check of docker-compose.yaml: it passes on what is in service, and fails on what is not.

Compose waits for the first before it starts what depends on it. One that always fails keeps everything from starting,
and one that always passes tells nobody that a component is gone. The check of `s3` is in test_s3_server.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import yaml

from tests.distributed.compose import ROOT
from tests.distributed.health import check
from tests.distributed.topology import Topology
from tests.programs import require_curl

COMPONENTS = (
    "postgres",
    "redis",
    "nova-stand-in",
    "api-server",
    "scheduler",
    "dag-processor",
    "triggerer",
    "worker-1",
    "worker-2",
)
# One of each way to ask: HTTP, Airflow's table of jobs, and Celery. That table believes a heartbeat for half a minute.
GONE = ("scheduler", "triggerer", "worker-2")

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    require_curl()


def test_none_is_left_out() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    checked = {name for name, service in services.items() if "test" in service["healthcheck"]}
    assert checked == {name.removesuffix("-1").removesuffix("-2") for name in COMPONENTS} | {"s3"}


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_is_in_service_passes(topology: Topology, name: str) -> None:
    done = check(topology, name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_gone_fails(topology: Topology, tell: Callable[[str], None]) -> None:
    with contextlib.ExitStack() as gone:
        for name in GONE:
            gone.enter_context(topology.without(name))
        for name in GONE:
            topology.until(lambda name=name: check(topology, name).returncode != 0, what=f"a failed check of {name}")
        tell(f"exit codes of checks on what is gone: { {name: check(topology, name).returncode for name in GONE} }")
        assert check(topology, "worker-1").returncode == 0
    topology.until_ready()
    assert [name for name in GONE if check(topology, name).returncode != 0] == []
