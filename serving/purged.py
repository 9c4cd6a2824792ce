"""Posters that were purged while a server runs: what it shows of others leaves them out."""

import logging
import threading
import time
from collections.abc import Callable

from marquee.errors import UsageError
from marquee.registry import is_kubeflow
from marquee.registry.files import FileRegistry

_SECONDS = 60.0
_PATIENCE_SECONDS = 2.0

logger = logging.getLogger(__name__)


class PurgeMarks:
    """The registry's purged posters, read anew every minute.

    While they cannot be read, those read last count.

    Args:
        registry: The registry; without one, nothing was purged.
        clock: Gives the seconds of now.

    Raises:
        UsageError: It is the address of Kubeflow's registry, which does not hold them itself.
        MarqueeError: They cannot be read at first.
    """

    def __init__(self, registry: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        if registry and is_kubeflow(registry):
            raise UsageError(
                f"{registry} does not hold the ids of purged posters",
                remedy="name the place of its bundles instead ($MARQUEE_MODELS)",
            )
        self._registry = FileRegistry(registry) if registry else None
        self._clock = clock
        self._lock = threading.Lock()
        self._marks = self._read()

    def __call__(self) -> frozenset[str]:
        """Give the ids of the purged posters; this may wait a little for the registry's storage."""
        # Who comes while they are read does not wait, and who reads them not for long: storage may
        # hang, and this thread is one of few that decode posters.
        if self._clock() > self._until and self._lock.acquire(blocking=False):
            reader = threading.Thread(target=self._read_anew, daemon=True)
            reader.start()
            reader.join(_PATIENCE_SECONDS)
        return self._marks

    def _read_anew(self) -> None:
        try:
            self._marks = self._read()
        except Exception as error:  # storage clients raise types of their own
            logger.warning("the purged posters stay as they were: %s", error)
        finally:
            self._lock.release()

    def _read(self) -> frozenset[str]:
        self._until = self._clock() + _SECONDS
        return self._registry.tombstones() if self._registry else frozenset()
