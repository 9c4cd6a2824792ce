"""Keeps a share of the posters that users send, for some hours, where the operator asks for it."""

import contextlib
import logging
import queue
import random
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from marquee.samples import forget_samples, keep_sample

_WAITING = 16
"""Posters that may wait to be written; others are left out, as they are but a sample."""
_TICK_SECONDS = 1.0
_FORGET_SECONDS = 600.0

logger = logging.getLogger(__name__)


class SampleStore:
    """Writes posters from a thread of its own, and removes those whose time is over.

    Args:
        uri: The folder of all samples.
        share: Of the posters, which is kept (0..1).
        hours: How long one is kept, at most.
    """

    def __init__(self, uri: str, share: float, hours: int) -> None:
        self._uri = uri
        self._share = share
        self._hours = hours
        self._queue: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def offer(self, image: bytes) -> None:
        """Take a poster, or not, without waiting."""
        if random.random() < self._share:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(image)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join(2 * _TICK_SECONDS)

    def _run(self) -> None:
        forgotten = -_FORGET_SECONDS
        while not self._closing.wait(_TICK_SECONDS):
            try:
                if time.monotonic() - forgotten > _FORGET_SECONDS:
                    forgotten = time.monotonic()
                    forget_samples(self._uri, datetime.now(UTC))
                while not self._queue.empty():
                    keep_sample(self._uri, self._queue.get(), datetime.now(UTC), self._hours)
            except Exception as error:  # whatever storage raises: it is but a sample
                logger.warning("no sample kept (%s: %s)", type(error).__name__, error)
