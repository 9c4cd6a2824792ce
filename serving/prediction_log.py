"""The prediction log: what was predicted, written in the background, never in a request's way.

Records go from a queue into files of a spool on this machine's disk, and from there to storage, on
a thread each: while storage hangs or is away, files wait in the spool, and a later start delivers
what was left there. A file that is delivered twice has the same name and content.
"""

import contextlib
import hashlib
import logging
import queue
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from marquee import storage
from marquee.bundle import cache_folder
from marquee.records import PredictionRecord, to_table, write_records
from serving.spool import Spool, Waiting, count_rows
from serving.tally import Tally

FILE_ROWS = 5_000
FILE_SECONDS = 60.0

SPOOL_BYTES = 500_000_000
"""What may wait for storage: an outage of two hours at 200 predictions a second."""

_CAPACITY = 2 * FILE_ROWS
"""Rows that may wait for the spool; about 50 MB."""

_TICK_SECONDS = 0.2
"""How often the queue is emptied: waking a thread for each record costs more than writing it."""

_ROWS_AT_ONCE = 100
"""Rows that are turned into columns at a time: it holds Python's lock, and all requests wait."""

_POLL_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 60.0
_UPLOAD_SECONDS = 60.0
_CLOSE_SECONDS = 8.0

logger = logging.getLogger(__name__)


class PredictionLog:
    """Collects prediction records and writes them as files, from threads of its own.

    A request only puts its records into a queue; answering comes before recording. What fits
    neither the queue nor the spool is dropped and counted.

    Args:
        uri: The folder of all records.
        rows: A file is closed when it has so many rows ...
        seconds: ... or when its first row is so old.
        capacity: How many rows may wait for the spool.
        spool_folder: Where files wait for storage, in a folder for each `uri`; below Marquee's
            cache without it. Processes may share it.
        spool_limit: How many bytes may wait there; beyond it the oldest file is dropped.
    """

    def __init__(
        self,
        uri: str,
        rows: int = FILE_ROWS,
        seconds: float = FILE_SECONDS,
        capacity: int = _CAPACITY,
        spool_folder: Path | None = None,
        spool_limit: int = SPOOL_BYTES,
    ) -> None:
        # The spool's name must not depend on the folder that the server was started in.
        local = storage.is_local(uri)
        self._uri = str(storage.local_path(uri).absolute()) if local else uri.rstrip("/")
        self._rows = rows
        self._seconds = seconds
        # A pod's restarted container keeps its name: the suffix keeps it from overwriting files.
        self._writer = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._files = 0
        self._written = 0
        self._drops = Tally("%d predictions not recorded so far (%s)")
        self._lock = threading.Lock()
        self._is_away = False
        digest = hashlib.sha256(self._uri.encode()).hexdigest()[:16]
        self._spool = Spool((spool_folder or cache_folder() / "spool") / digest, spool_limit)
        self._queue: queue.Queue[PredictionRecord] = queue.Queue(capacity)
        self._closing, self._collected = threading.Event(), threading.Event()
        self._collector = threading.Thread(target=self._collect, name="records", daemon=True)
        self._deliverer = threading.Thread(target=self._deliver, name="delivery", daemon=True)
        self._collector.start()
        self._deliverer.start()

    @property
    def written(self) -> int:
        """How many records this process has delivered, those left by others included."""
        return self._written

    @property
    def dropped(self) -> int:
        """How many records were given up so far."""
        return self._drops.count

    @property
    def spooled_bytes(self) -> int:
        """How many bytes wait for storage."""
        return self._spool.size

    def put(self, records: Iterable[PredictionRecord]) -> None:
        """Take records without waiting; those that do not fit are dropped."""
        for record in records:
            try:
                self._queue.put_nowait(record)
            except queue.Full:
                self._drops.add(1, "the queue is full")

    def close(self) -> None:
        """Write what waits to storage or, if that hangs or is away, to the spool; takes seconds."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        self._closing.set()
        self._collector.join(_CLOSE_SECONDS)
        self._collected.set()
        self._deliverer.join(max(0.0, deadline - time.monotonic()))
        if self._queue.qsize():
            # They came too late, or the disk hangs.
            self._drops.add(self._queue.qsize(), "the log is closed")
        if self._spool.files():
            logger.warning(
                "%d bytes of predictions wait in %s: the next start with the same records URI "
                "delivers them",
                self._spool.size,
                self._spool.folder,
            )
        if self.dropped:
            logger.warning("%d predictions were not recorded in all", self.dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _collect(self) -> None:
        """Make files of the queue's records, until the log is closed."""
        parts: list[pa.Table] = []
        rows, due = 0, 0.0
        is_last = False
        while not is_last:
            is_last = self._closing.wait(_TICK_SECONDS)
            while records := self._take(min(_ROWS_AT_ONCE, self._rows - rows)):
                if not parts:
                    due = time.monotonic() + self._seconds
                with self._or_dropped(len(records)):
                    parts.append(to_table(records))
                    rows += len(records)
                if rows == self._rows:
                    self._keep(parts)
                    parts, rows = [], 0
            if parts and (is_last or time.monotonic() >= due):
                self._keep(parts)
                parts, rows = [], 0

    def _take(self, most: int) -> list[PredictionRecord]:
        records: list[PredictionRecord] = []
        with contextlib.suppress(queue.Empty):
            while len(records) < most:
                records.append(self._queue.get_nowait())
        return records

    def _keep(self, parts: list[pa.Table]) -> None:
        number = self._files
        self._files += 1
        with self._or_dropped(sum(map(len, parts))):
            self._write(number, pa.concat_tables(parts))

    @contextlib.contextmanager
    def _or_dropped(self, rows: int) -> Iterator[None]:
        """Whatever the disk or storage raises, the log goes on: they may be back next time."""
        try:
            yield
        except Exception as error:
            self._drops.add(rows, f"{type(error).__name__}: {error}")

    def _write(self, number: int, rows: pa.Table) -> None:
        try:
            lost = self._spool.trim()
            if lost:
                self._drops.add(lost, "the spool is full")
            write_records(str(self._spool.folder), self._writer, number, rows)
        except OSError as error:
            logger.warning("nothing can wait in %s (%s)", self._spool.folder, error)
            write_records(self._uri, self._writer, number, rows, timeout=_UPLOAD_SECONDS)
            self._count(len(rows))

    def _deliver(self) -> None:
        """Move files from the spool to storage, until the log is closed and its files written."""
        pause = _POLL_SECONDS
        is_last = False
        while not is_last:
            is_last = self._collected.wait(pause)
            try:
                self._deliver_all(wait=is_last)
                pause = _POLL_SECONDS
            except Exception as error:
                # Whatever storage raises: the files wait.
                self._tell_away(error)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _deliver_all(self, wait: bool) -> None:
        with self._spool.claim(wait) as is_ours:
            for file in self._spool.files() if is_ours else ():
                self._deliver_one(file)

    def _deliver_one(self, file: Waiting) -> None:
        try:
            data = file.path.read_bytes()
        except FileNotFoundError:
            return  # it had to make room
        rows = count_rows(data)
        if rows is None:
            logger.warning("%s is damaged and cannot be delivered: removed", file.path)
        else:
            target = storage.join(self._uri, self._spool.name(file))
            storage.write_bytes(target, data, timeout=_UPLOAD_SECONDS)
            self._tell_back()
        if self._spool.remove(file):
            self._count(rows or 0)

    def _tell_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning(
                "storage is away (%s: %s): predictions wait in %s",
                type(error).__name__,
                error,
                self._spool.folder,
            )

    def _tell_back(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("storage is back: delivering what waits")

    def _count(self, rows: int) -> None:
        with self._lock:
            self._written += rows
