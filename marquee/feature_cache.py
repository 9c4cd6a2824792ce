"""The feature cache: what frozen backbones made of posters, kept on this machine.

Below `$MARQUEE_CACHE/features` each key (weights, preprocessing, precision) has a folder of files
in NumPy's `.npz` format. A file holds `sha256` [N], the hashes of N posters, and `features` [N, C],
a row a poster; a file is written once, and rewritten only to forget posters.
"""

import io
import uuid
import zipfile
from collections.abc import Collection, Container, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marquee import storage
from marquee.bundle import cache_folder

_UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile)


def _root() -> Path:
    return cache_folder() / "features"


def read(key: str, wanted: Container[str]) -> dict[str, NDArray[np.float32]]:
    """Read the features of posters.

    Args:
        key: Which features.
        wanted: The posters' sha256.

    Returns:
        sha256 to features [C], of those that are known.
    """
    found = {}
    for file in sorted((_root() / key).glob("*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            for name, row in zip(stored["sha256"], stored["features"], strict=True):
                if str(name) in wanted:
                    found[str(name)] = row.astype(np.float32)
    return found


def save(key: str, features: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep features of posters, in a file of their own.

    Args:
        key: Which features.
        features: The posters' sha256 to features [C].
    """
    _write(_root() / key / f"{uuid.uuid4().hex}.npz", features)


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
        with np.load(file, allow_pickle=False) as stored:
            rows = dict(zip(map(str, stored["sha256"]), stored["features"], strict=True))
    except _UNREADABLE:
        rows = {}
    kept = {name: row for name, row in rows.items() if name not in hashes}
    if not kept:
        file.unlink(missing_ok=True)
    elif len(kept) < len(rows):
        _write(file, kept)
    return len(rows) - len(kept)


def holding(hashes: Collection[str]) -> list[str]:
    """Name the files that hold features of posters, and those of which nobody can tell.

    Args:
        hashes: The posters' sha256.
    """
    return [str(file) for file in _files() if hashes and _holds(file, hashes)]


def _holds(file: Path, hashes: Collection[str]) -> bool:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return any(str(name) in hashes for name in stored["sha256"])
    except _UNREADABLE:
        return True


def _files() -> list[Path]:
    return sorted(file for file in _root().glob("*/*") if file.is_file())


def _write(file: Path, features: Mapping[str, NDArray[np.float32]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, sha256=np.array(list(features)), features=np.stack(list(features.values())))
    storage.write_bytes(str(file), buffer.getvalue())
