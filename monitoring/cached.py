"""Metrics that are read from storage when Prometheus asks, once a minute at most."""

import threading
import time
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

_SECONDS = 60.0
"""How long an answer is kept: storage and registries take seconds, and Prometheus asks often."""


class CachedCollector(Collector):
    """Keeps what it has read for a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._found: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        """Give what was read last, or read it."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self.read()
                self._until = time.monotonic() + _SECONDS
            found = self._found
        yield from found

    def read(self) -> list[Metric]:
        """Read the metrics."""
        raise NotImplementedError
