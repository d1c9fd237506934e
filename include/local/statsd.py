"""A receiver of StatsD lines on loopback, for tests and benchmarks: what Airflow was told to send, summed by name."""

from __future__ import annotations

import socket
import threading
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

PREFIX = "airflow"
_LONGEST_DATAGRAM = 65_536
_LOOK_SECONDS = 0.2


class StatsdReceiver:
    """Listens while the block lasts. `sums` holds milliseconds of timers, totals of counters, last values of gauges;
    `counts` how often each came. Names are without Airflow's own prefix."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_LOOK_SECONDS)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="statsd", daemon=True)
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """Airflow's settings that send our metrics here, and no others."""
        host, port = self._socket.getsockname()
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": str(host),
            "AIRFLOW__METRICS__STATSD_PORT": str(port),
            "AIRFLOW__METRICS__STATSD_PREFIX": PREFIX,
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "image_proxy",
        }

    def _listen(self) -> None:
        while not self._done.is_set():
            try:
                datagram = self._socket.recv(_LONGEST_DATAGRAM)
            except TimeoutError:
                continue
            for line in datagram.decode("utf-8", "replace").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        name, _, rest = line.partition(":")
        value, _, kind = rest.partition("|")
        name = name.removeprefix(f"{PREFIX}.")
        self.counts[name] += 1
        if kind.startswith("g"):
            self.sums[name] = float(value)
        else:
            self.sums[name] += float(value)
