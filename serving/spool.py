"""Files that wait on this machine's disk until storage takes them."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_SUFFIX = ".parquet"

_ABANDONED_SECONDS = 60.0
"""A half-written file of this age has lost its writer: writing one takes milliseconds."""


@dataclass(frozen=True, order=True)
class Waiting:
    """A file that waits."""

    time: int
    """When it was written (ns)."""
    path: Path
    size: int
    """In bytes."""


class Spool:
    """A folder of records, laid out as in storage, that several processes may share.

    A file appears whole, by a rename, and stays until it is delivered. Beyond the limit the oldest
    ones go: after an outage, drift is judged by what is predicted now.

    Args:
        folder: Made when the first file is written.
        limit: How many bytes may wait.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self.size = 0
        """Bytes that waited when the files were last looked at."""
        self._remove_abandoned()

    def files(self) -> list[Waiting]:
        """List what waits, the oldest first."""
        waiting = []
        for path in self._walk():
            # Names of half-written files end otherwise.
            if path.suffix == _SUFFIX:
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    waiting.append(Waiting(status.st_mtime_ns, path, status.st_size))
        self.size = sum(file.size for file in waiting)
        return sorted(waiting)

    def name(self, file: Waiting) -> str:
        """Say where below the folder of all records a file belongs."""
        return file.path.relative_to(self.folder).as_posix()

    def remove(self, file: Waiting) -> bool:
        """Remove a file, and its folders with the last one in them.

        Returns:
            False if somebody else was faster.
        """
        try:
            file.path.unlink()
        except FileNotFoundError:
            return False
        self.size -= file.size
        with contextlib.suppress(OSError):
            file.path.parent.rmdir()
            file.path.parent.parent.rmdir()
        return True

    def trim(self) -> int:
        """Remove the oldest files until the limit is kept.

        Returns:
            How many records they held.
        """
        lost = 0
        for file in self.files():
            if self.size <= self._limit:
                break
            with contextlib.suppress(FileNotFoundError):
                rows = count_rows(file.path.read_bytes()) or 0
                lost += rows if self.remove(file) else 0
        return lost

    @contextmanager
    def claim(self, wait: bool) -> Iterator[bool]:
        """Be the only process that delivers; the kernel takes the claim from one that was killed.

        Args:
            wait: Whether to wait for another process that delivers.

        Yields:
            Whether we are.
        """
        if not self.folder.is_dir():
            yield False
            return
        with (self.folder / ".lock").open("w") as stream:
            is_ours = True
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                is_ours = False
            except OSError:
                pass  # a disk without locks: two that deliver the same file do no harm
            yield is_ours

    def _remove_abandoned(self) -> None:
        for path in self._walk():
            with contextlib.suppress(FileNotFoundError):
                is_partial = f"{_SUFFIX}." in path.name
                if is_partial and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _walk(self) -> Iterator[Path]:
        # Unlike `Path.rglob` it puts up with folders that another process removes meanwhile.
        for folder, _, names in os.walk(self.folder):
            for name in names:
                yield Path(folder, name)


def count_rows(data: bytes) -> int | None:
    """Count a file's records.

    Args:
        data: The file.

    Returns:
        Their number; None if the file is damaged.
    """
    try:
        return int(pq.read_metadata(pa.BufferReader(data)).num_rows)
    except (OSError, ValueError):
        return None
