"""Traces: what is still there of posters that go, file by file."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from marquee import storage
from marquee.catalog import (
    CATALOG_FILE,
    PARTS_FOLDER,
    QUARANTINE_FILE,
    Catalog,
    parse_quarantine,
    read_rows,
)
from marquee.purge.choice import COLUMNS, NOTE, Gone

_ROWS, _SHARD = "posters.parquet", "shard.tar"
_UNREADABLE = (OSError, ValueError, TypeError, pa.ArrowException, tarfile.TarError)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a file still holds of the posters that go."""

    file: str
    """Its path below the catalog."""
    found: tuple[str, ...] = ()
    """What of them was found, in words."""
    hashed: int = 0
    """Images whose hash was compared."""
    fault: str = ""
    """Why nobody can tell, if so."""

    def __str__(self) -> str:
        some = ", ".join(self.found[:3]) + (", ..." if len(self.found) > 3 else "")
        return f"{self.file}: {some or self.fault}"


def trace(catalog: Catalog, file: str, gone: Gone) -> Trace:
    """Look for what goes in one file: for its rows, its ids and its bytes.

    Args:
        catalog: The catalog.
        file: A path below it.
        gone: What goes.
    """
    try:
        found = list(_look(file)(storage.join(catalog.uri, file), gone))
    except _UNREADABLE as error:
        return Trace(file=file, fault=f"cannot be read ({type(error).__name__}: {error})")
    hashed = len(found) if file.endswith(".tar") else 0
    return Trace(file=file, found=tuple(filter(None, found)), hashed=hashed)


def _look(file: str) -> Callable[[str, Gone], Iterator[str]]:
    if QUARANTINE_FILE in file:
        return _in_quarantine
    return {"parquet": _in_rows, "tar": _in_shard}.get(file.rpartition(".")[2], _in_bytes)


def _in_rows(uri: str, gone: Gone) -> Iterator[str]:
    frame = read_rows(uri, COLUMNS)
    for poster_id in frame.loc[gone.has(frame), "poster_id"]:
        yield f"the row {poster_id}"


def _in_shard(uri: str, gone: Gone) -> Iterator[str]:
    """Give for each image its trace, or nothing."""
    with storage.open_binary(uri) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            image = tar.extractfile(member)
            known = member.name in gone.poster_ids or (
                image is not None and _sha256(image) in gone.hashes
            )
            yield f"the image {member.name}" if known else ""


def _in_quarantine(uri: str, gone: Gone) -> Iterator[str]:
    for refusal in parse_quarantine(storage.read_bytes(uri)):
        if gone.covers(refusal):
            yield f"the refusal of {refusal.id}"


def _in_bytes(uri: str, gone: Gone) -> Iterator[str]:
    with storage.open_binary(uri) as stream:
        yield "a copy of an image" if _sha256(stream) in gone.hashes else ""


def _sha256(stream: Any) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def files(catalog: Catalog) -> list[str]:
    """Name all files below a catalog that can hold something of a poster."""
    names = storage.list_files(catalog.uri)
    return [name for name in names if name != CATALOG_FILE and not name.startswith(NOTE)]


def unlisted(catalog: Catalog) -> list[str]:
    """Name the files below a catalog that its list does not account for."""
    listed = {
        f"{PARTS_FOLDER}/{part}/{name}"
        for part in catalog.manifest.parts
        for name in (_ROWS, _SHARD)
    }
    return [name for name in files(catalog) if name not in listed and name != QUARANTINE_FILE]


def unlisted_rows(catalog: Catalog) -> pd.DataFrame:
    """Read the rows of parts that the list does not name, such as a killed writer leaves."""
    frames = [pd.DataFrame(columns=[*COLUMNS, "part"])]
    for name in unlisted(catalog):
        if name.endswith(".parquet"):
            try:
                frames.append(read_rows(storage.join(catalog.uri, name), COLUMNS).assign(part=name))
            except _UNREADABLE:
                continue
    return pd.concat(frames[1:] or frames, ignore_index=True)


def remove_unlisted(catalog: Catalog, gone: Gone) -> int:
    """Remove what goes from where the catalog's list does not lead.

    A part that is not listed goes whole if it holds something of it, and also if nobody can tell:
    if it cannot be read, or has images without rows. Nothing but its writer ever misses it, and
    that one writes it again.

    Args:
        catalog: The catalog.
        gone: What goes.

    Returns:
        How many files and parts went.
    """
    names = unlisted(catalog)
    doomed = {_doomed(catalog, name, names, gone) for name in names} - {""}
    for place in doomed:
        storage.remove(storage.join(catalog.uri, place))
    return len(doomed)


def _doomed(catalog: Catalog, name: str, names: list[str], gone: Gone) -> str:
    """Name what has to go because of an unlisted file, if anything: the file or its part."""
    trail = trace(catalog, name, gone)
    folder, _, file = name.rpartition("/")
    top, part, *deeper = [*name.split("/"), ""]
    if top == PARTS_FOLDER and any(deeper) and part not in catalog.manifest.parts:
        without_rows = file == _SHARD and f"{folder}/{_ROWS}" not in names
        untold = trail.fault or without_rows
        return f"{PARTS_FOLDER}/{part}" if trail.found or untold else ""
    # A document that a killed writer did not finish has a name that begins with a dot.
    return name if trail.found or (trail.fault and file.startswith(".")) else ""
