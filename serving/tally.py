"""Counting what goes wrong without filling the log with it."""

import logging
import threading
import time

_WARNING_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Tally:
    """Counts, and says so at most once a minute.

    Args:
        message: The warning; holds `%d` for the count and `%s` for the latest reason.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._warned = -_WARNING_SECONDS
        self._lock = threading.Lock()
        self.count = 0

    def add(self, count: int, reason: str) -> None:
        """Count some more, from any thread."""
        with self._lock:
            self.count += count
            now = time.monotonic()
            if now - self._warned < _WARNING_SECONDS:
                return
            self._warned = now
        logger.warning(self._message, self.count, reason)
