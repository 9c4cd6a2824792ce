"""The feature cache: what frozen parts of networks made of posters, kept on this machine.

Below `$MARQUEE_CACHE/features` each key (weights, preprocessing, precision) has a folder of files
in NumPy's `.npy` format. A file holds N records: `sha256`, the hash of a poster, and `features`, an
array in half precision. It is written once, and rewritten only to forget posters; whoever reads
features maps the files into memory, so that they may be larger than it.
"""

import io
import uuid
import zipfile
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee import storage
from marquee.bundle import cache_folder
from marquee.errors import InfrastructureError

_UNREADABLE = (ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile)
_LARGEST = float(np.finfo(np.float16).max)


def _root() -> Path:
    return cache_folder() / "features"


@dataclass(frozen=True)
class Stored:
    """Features of posters, on disk."""

    files: list[NDArray[Any]]
    places: dict[str, tuple[int, int]]
    """sha256 to the number of a file, and of a record in it."""

    def take(self, places: Iterable[tuple[int, int]]) -> NDArray[np.float32]:
        """Read the features [n, ...] at some places."""
        return np.stack([self.files[file]["features"][row] for file, row in places], dtype="f4")


def read(key: str, wanted: Container[str]) -> Stored:
    """Find the features of posters.

    Args:
        key: Which features.
        wanted: The posters' sha256.

    Returns:
        The features that are known.
    """
    files: list[NDArray[Any]] = []
    places: dict[str, tuple[int, int]] = {}
    for file in sorted((_root() / key).glob("*.npy")):
        stored = _open(file)
        names = (str(name, "ascii") for name in stored["sha256"])
        places |= {name: (len(files), row) for row, name in enumerate(names) if name in wanted}
        files.append(stored)
    return Stored(files, places)


def save(key: str, features: Mapping[str, NDArray[Any]]) -> None:
    """Keep features of posters, in a file of their own.

    Args:
        key: Which features.
        features: The posters' sha256 to features, all of one shape.
    """
    shape = next(iter(features.values())).shape
    records = np.empty(len(features), [("sha256", "S64"), ("features", "f2", shape)])
    records["sha256"] = list(features)
    for row, values in enumerate(features.values()):
        records["features"][row] = np.clip(values, -_LARGEST, _LARGEST)
    _write(_root() / key / f"{uuid.uuid4().hex}.npy", records)


def forget(hashes: Collection[str]) -> int:
    """Drop all features of posters, under every key.

    Files that cannot be read, such as a killed writer leaves, go whole.

    Args:
        hashes: The posters' sha256.

    Returns:
        How many features went.
    """
    return sum(_forget(file, hashes) for file in _files()) if hashes else 0


def _forget(file: Path, hashes: Collection[str]) -> int:
    try:
        records = _open(file)
        kept = np.array([str(name, "ascii") not in hashes for name in records["sha256"]], bool)
    except _UNREADABLE:
        file.unlink(missing_ok=True)
        return 0
    if not kept.any():
        file.unlink(missing_ok=True)
    elif not kept.all():
        _write(file, records[kept])
    return int((~kept).sum())


def holding(hashes: Collection[str]) -> list[str]:
    """Name the files that hold features of posters, and those of which nobody can tell.

    Args:
        hashes: The posters' sha256.
    """
    return [str(file) for file in _files() if hashes and _holds(file, hashes)]


def _holds(file: Path, hashes: Collection[str]) -> bool:
    try:
        records = _open(file)
        return any(str(name, "ascii") in hashes for name in records["sha256"])
    except _UNREADABLE:
        return True


def _open(file: Path) -> NDArray[Any]:
    records = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(records, np.ndarray):
        raise ValueError(f"{file} is of an older format")
    return records


def _files() -> list[Path]:
    return sorted(file for file in _root().glob("*/*") if file.is_file())


def _write(file: Path, records: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, records)
    try:
        storage.write_bytes(str(file), buffer.getvalue())
    except OSError as error:
        raise InfrastructureError(
            f"could not keep features of {len(records)} posters "
            f"({records.nbytes / 2**20:,.0f} MB) in {file} ({error})",
            remedy="make room, or set MARQUEE_CACHE to a folder on a larger disk; what is there is "
            "not computed again",
        ) from error
