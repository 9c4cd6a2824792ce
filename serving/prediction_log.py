"""The prediction log: what was predicted, written in the background, never in a request's way."""

import contextlib
import logging
import queue
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from marquee.records import PredictionRecord, write_records

FILE_ROWS = 5_000
FILE_SECONDS = 60.0

_CAPACITY = 2 * FILE_ROWS
"""Rows that may wait while a file is written; about 50 MB."""

_CLOSE_SECONDS = 5.0
_WARNING_SECONDS = 60.0

logger = logging.getLogger(__name__)


class PredictionLog:
    """Collects prediction records and writes them as files, from a thread of its own.

    A request only puts its records into a queue. What does not fit, because storage is slow or
    away, is dropped and counted: answering comes before recording.

    Args:
        uri: The folder of all records.
        rows: A file is closed when it has so many rows ...
        seconds: ... or when its first row is so old.
        capacity: How many rows may wait.
    """

    def __init__(
        self,
        uri: str,
        rows: int = FILE_ROWS,
        seconds: float = FILE_SECONDS,
        capacity: int = _CAPACITY,
    ) -> None:
        self._uri = uri
        self._rows = rows
        self._seconds = seconds
        # A pod's restarted container keeps its name: the suffix keeps it from overwriting files.
        self._writer = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._files = 0
        self._dropped = 0
        self._warned = -_WARNING_SECONDS
        self._lock = threading.Lock()
        self._queue: queue.Queue[PredictionRecord | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records were not written so far."""
        return self._dropped

    def put(self, records: Iterable[PredictionRecord]) -> None:
        """Take records without waiting; those that do not fit are dropped."""
        for record in records:
            try:
                self._queue.put_nowait(record)
            except queue.Full:
                self._drop(1, "the queue is full")

    def close(self) -> None:
        """Write what waits, and stop; gives up after some seconds if storage hangs."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("storage hangs: the last predictions may not be recorded")
        if self._dropped:
            logger.warning("%d predictions were not recorded in all", self._dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        is_open = True
        while is_open:
            records, is_open = self._collect()
            if records:
                self._write(records)

    def _collect(self) -> tuple[list[PredictionRecord], bool]:
        """Wait for the rows of one file; tell whether the log is still open."""
        records: list[PredictionRecord] = []
        deadline = 0.0
        while len(records) < self._rows:
            try:
                wait = max(0.0, deadline - time.monotonic()) if records else None
                record = self._queue.get(timeout=wait)
            except queue.Empty:
                break
            if record is None:
                return records, False
            if not records:
                deadline = time.monotonic() + self._seconds
            records.append(record)
        return records, True

    def _write(self, records: list[PredictionRecord]) -> None:
        try:
            write_records(self._uri, self._writer, self._files, records)
            self._files += 1
        except Exception as error:
            # Whatever storage raises, the log goes on: it may be back for the next file.
            self._drop(len(records), f"{type(error).__name__}: {error}")

    def _drop(self, count: int, reason: str) -> None:
        with self._lock:
            self._dropped += count
            now = time.monotonic()
            if now - self._warned < _WARNING_SECONDS:
                return
            self._warned = now
        logger.warning("%d predictions not recorded so far (%s)", self._dropped, reason)
