"""The health checks of docker-compose.yaml, run on the topology as Docker would run them in a service's container."""

from __future__ import annotations

import re
import subprocess

from tests.distributed.topology import PORTS, Topology

CHECK_SECONDS = 120  # a busy machine; an idle one needs five


def check(topology: Topology, component: str) -> subprocess.CompletedProcess[str]:
    """Run the check of a component's service once, with the component's own environment."""
    service = topology.services[re.sub(r"-\d+$", "", component)]  # worker-1 runs the service worker
    kind, *words = service.healthcheck
    here = [topology.native(_at_home(topology, word, component), service.name) for word in words]
    environment = dict(topology.components[component].environment)
    if service.name == "postgres":
        environment["PGPORT"] = str(topology.ports["postgres"])
    return subprocess.run(
        here if kind == "CMD" else ["/bin/sh", "-c", *here],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_SECONDS,
    )


def _at_home(topology: Topology, text: str, component: str) -> str:
    """Return a word of a check with what each container has to itself: ports of loopback, and Celery's host name."""
    if component == "redis":
        text = text.replace("redis-cli ", f"redis-cli -p {topology.ports['redis']} ")
    if component in PORTS:
        text = text.replace(f"127.0.0.1:{PORTS[component]}", f"127.0.0.1:{topology.ports[component]}")
    return text.replace("celery@", f"{component}@")
