"""The catalog: posters and their facts, immutable parts under one published list.

Layout below the catalog's URI (a folder, `gs://` or any other fsspec location)::

    catalog.json                 the only mutable object: the list of parts, counts, digest
    quarantine.jsonl             what was refused: id, row, reason, remedy
    parts/<id>/posters.parquet   facts, one row a poster
    parts/<id>/shard.tar         the posters' bytes; a poster is one range read

A row in a later part supersedes a row with the same poster_id in an earlier one, so refreshing
is appending.
"""

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.eras import UNKNOWN_ERA, era_of
from marquee.errors import DataError
from marquee.images import Attributes

SCHEMA_VERSION = 1
CATALOG_FILE = "catalog.json"
QUARANTINE_FILE = "quarantine.jsonl"
PARTS_FOLDER = "parts"
_PUBLISH_ATTEMPTS = 20
_PART_BYTES = 64 * 2**20
_Rows = dict[str, tuple[str, str]]
"""poster_id to source_digest and row_digest."""

_GENRES = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        ("poster_id", pa.string()),
        ("film_id", pa.string()),
        ("imdb_id", pa.string()),
        ("tmdb_id", pa.int64()),
        ("collection_id", pa.int64()),
        ("title", pa.string()),
        ("year", pa.int16()),
        ("era", pa.string()),
        ("genres", _GENRES),
        ("label_sources", pa.map_(pa.string(), _GENRES)),
        ("agreement", pa.map_(pa.string(), pa.string())),
        ("keywords", pa.list_(pa.string())),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("terms_version", pa.string()),
        ("retrieved_at", pa.timestamp("us", tz="UTC")),
        ("expires_at", pa.timestamp("us", tz="UTC")),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("saturation", pa.float32()),
        ("hue", pa.float32()),
        ("source_digest", pa.string()),
        ("row_digest", pa.string()),
        ("shard_offset", pa.int64()),
        ("size", pa.int32()),
    ]
)
"""Columns of posters.parquet; `shard_offset` and `size` (bytes) locate the poster in shard.tar."""

CONTENT: tuple[str, ...] = (
    "poster_id",
    "film_id",
    "imdb_id",
    "tmdb_id",
    "collection_id",
    "title",
    "year",
    "genres",
    "label_sources",
    "agreement",
    "keywords",
    "licence",
    "sha256",
    "perceptual_hash",
    "width",
    "height",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)
"""The columns that the digest covers: what a poster is, not when or from where it came."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a source says of a poster, before its bytes were looked at."""

    poster_id: str
    film_id: str
    title: str
    year: int | None
    genres: tuple[str, ...]
    source: str
    licence: str
    imdb_id: str | None = None
    tmdb_id: int | None = None
    collection_id: int | None = None
    label_sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Genres by label source, such as `tmdb` or `imdb`; a source without an opinion is absent."""
    agreement: dict[str, str] = field(default_factory=dict)
    """Genre to whether the label sources agree on it."""
    keywords: tuple[str, ...] = ()
    terms_version: str | None = None
    expires_at: datetime | None = None

    def digest(self, data: bytes) -> str:
        """Name what a source offers, so that a later run sees what is new or changed.

        Args:
            data: The poster's bytes.

        Returns:
            The sha256 over these facts and the bytes.
        """
        return _digest([dataclasses.asdict(self), hashlib.sha256(data).hexdigest()])


@dataclass(frozen=True, kw_only=True)
class Poster:
    """A poster ready for the catalog: its facts, its bytes and what was measured on them."""

    facts: Facts
    data: bytes
    perceptual_hash: str
    width: int
    height: int
    attributes: Attributes

    def row(self) -> dict[str, Any]:
        """Build the poster's row, without its place in the shard."""
        row = {
            **dataclasses.asdict(self.facts),
            "era": UNKNOWN_ERA if self.facts.year is None else era_of(self.facts.year),
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "perceptual_hash": self.perceptual_hash,
            "width": self.width,
            "height": self.height,
            **dataclasses.asdict(self.attributes),
            "source_digest": self.facts.digest(self.data),
            "retrieved_at": datetime.now(UTC),
            "size": len(self.data),
        }
        return {**row, "row_digest": _digest({name: row[name] for name in CONTENT})}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A line of `quarantine.jsonl`: what could not be used, why, and what to do."""

    id: str
    row: int | None
    """Where the source says it, counted as an editor counts lines; None if it has no rows."""
    source: str
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `catalog.json`."""

    parts: tuple[str, ...] = ()
    rows: int = 0
    quarantined: int = 0
    digest: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """Write the manifest as JSON."""
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Read a manifest.

        Args:
            data: The content of `catalog.json`.
            where: Its URI, for error messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document = parse_json(data, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        names = {item.name for item in dataclasses.fields(cls)}
        try:
            manifest = cls(**{key: value for key, value in document.items() if key in names})
            return dataclasses.replace(manifest, parts=tuple(manifest.parts))
        except TypeError as error:
            raise DataError(f"{where} is no catalog list: {error}", remedy="ingest again") from None


def digest_of(row_digests: dict[str, str]) -> str:
    """Compute a catalog's digest.

    Args:
        row_digests: poster_id to the sha256 of the row's content.

    Returns:
        The sha256 (64 hex digits) over the rows sorted by poster_id.
    """
    total = hashlib.sha256()
    for poster_id in sorted(row_digests):
        total.update(f"{poster_id}\0{row_digests[poster_id]}\n".encode())
    return total.hexdigest()


class Catalog:
    """Read access to a catalog, by row and by image.

    Args:
        uri: Where the catalog is.

    Raises:
        DataError: There is no catalog, or it is newer than this code.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        data, _ = storage.read_versioned(storage.join(uri, CATALOG_FILE))
        if data is None:
            raise DataError(
                f"no catalog at {uri}", remedy="make one with `marquee ingest --out CATALOG`"
            )
        self.manifest = Manifest.from_json(data, storage.join(uri, CATALOG_FILE))

    def __len__(self) -> int:
        return self.manifest.rows

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the rows, sorted by poster_id, superseded ones left out.

        Args:
            columns: The columns to read (all by default; poster_id is always among them).

        Returns:
            One row a poster, with the part it lies in as the column `part`.
        """
        names = list(SCHEMA.names if columns is None else dict.fromkeys(["poster_id", *columns]))
        frames = [self._part_frame(part, names) for part in self.manifest.parts]
        if not frames:
            return pd.DataFrame(columns=[*names, "part"])
        frame = pd.concat(frames, ignore_index=True)
        frame = frame.drop_duplicates("poster_id", keep="last")
        return frame.sort_values("poster_id", ignore_index=True)

    def _part_frame(self, part: str, columns: list[str]) -> pd.DataFrame:
        uri = self.part_uri(part)
        try:
            with storage.open_binary(uri) as stream:
                table = pq.read_table(stream, columns=columns)
        except FileNotFoundError:
            raise DataError(
                f"{uri} is listed in the catalog but missing",
                remedy="restore it, or ingest again into a new catalog",
            ) from None
        frame = table.to_pandas(maps_as_pydicts="strict")
        return frame.assign(part=part)

    def part_uri(self, part: str) -> str:
        """Give the place of a part's facts."""
        return storage.join(self.uri, PARTS_FOLDER, part, "posters.parquet")

    def read_image(self, part: str, shard_offset: int, size: int) -> bytes:
        """Read one poster's bytes by a range read.

        Args:
            part: The part it lies in.
            shard_offset: Where it starts in the shard (bytes).
            size: Its length (bytes).
        """
        return storage.read_bytes(self._shard(part), shard_offset, shard_offset + size)

    def stream_images(self, frame: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Read posters shard by shard, front to back, holding one at a time.

        Args:
            frame: Rows of `frame()` with `part`, `shard_offset` and `size`.

        Yields:
            poster_id and bytes, in the order of the shards.
        """
        for part, rows in frame.groupby("part", sort=False):
            ordered = rows.sort_values("shard_offset")
            with storage.open_binary(self._shard(str(part))) as stream:
                for poster_id, offset, size in ordered[
                    ["poster_id", "shard_offset", "size"]
                ].itertuples(index=False):
                    stream.seek(offset)
                    yield poster_id, stream.read(size)

    def _shard(self, part: str) -> str:
        return storage.join(self.uri, PARTS_FOLDER, part, "shard.tar")

    def quarantine(self) -> list[Refusal]:
        """Read what was refused."""
        return _read_quarantine(self.uri)


def _read_quarantine(uri: str) -> list[Refusal]:
    try:
        lines = storage.read_text(storage.join(uri, QUARANTINE_FILE)).splitlines()
    except FileNotFoundError:
        return []
    return [Refusal(**json.loads(line)) for line in lines]


class CatalogWriter:
    """Adds one source's posters to a catalog, a part at a time; what is published stays.

    Whoever is killed loses the unfinished part at most: a second run asks `is_known` what is
    already there.

    Args:
        uri: Where the catalog is or is to be.
        source: The source that is about to be read from its start; its earlier refusals are
            dropped, those of other sources stay.
        part_rows: Posters a part; a part also ends at 64 MB.
    """

    def __init__(self, uri: str, source: str, part_rows: int = 500) -> None:
        self.uri = uri
        self._source = source
        self._part_rows = part_rows
        self._pending: list[Poster] = []
        self._pending_bytes = 0
        self._refusals: list[Refusal] = []
        self._manifest = Manifest()
        self._rows: _Rows = {}
        if storage.exists(storage.join(uri, CATALOG_FILE)):
            self._load()

    def _load(self) -> None:
        catalog = Catalog(self.uri)
        frame = catalog.frame(["source_digest", "row_digest"])
        digests = zip(frame["source_digest"], frame["row_digest"], strict=True)
        self._rows = dict(zip(frame["poster_id"], digests, strict=True))
        self._manifest = catalog.manifest

    def is_known(self, facts: Facts, data: bytes) -> bool:
        """Tell whether the catalog holds this very poster with these very facts."""
        return self._rows.get(facts.poster_id, ("",))[0] == facts.digest(data)

    def add(self, poster: Poster) -> None:
        """Add a poster, or supersede the one with its id; publish when a part is full."""
        self._pending.append(poster)
        self._pending_bytes += len(poster.data)
        if len(self._pending) >= self._part_rows or self._pending_bytes >= _PART_BYTES:
            self.publish()

    def refuse(self, refusal: Refusal) -> None:
        """Put something that cannot be used into quarantine."""
        self._refusals.append(refusal)

    def publish(self) -> Manifest:
        """Publish what was added and refused so far.

        Returns:
            The list as published.

        Raises:
            Conflict: Other writers keep publishing into this catalog.
        """
        items = [(poster.row(), poster.data) for poster in self._pending]
        added = {row["poster_id"]: (row["source_digest"], row["row_digest"]) for row, _ in items}
        parts = [_write_part(self.uri, items)] if items else []

        def append(listed: tuple[str, ...]) -> list[str]:
            # A part that is listed already moves to the end: its rows supersede what came since.
            return [*(part for part in listed if part not in parts), *parts]

        self._publish_list(append, lambda rows: rows | added)
        self._pending, self._pending_bytes = [], 0
        return self._manifest

    def keep_only(self, poster_ids: Container[str]) -> int:
        """Remove all other posters, their bytes included, by rewriting the parts they lie in.

        Args:
            poster_ids: What stays.

        Returns:
            How many posters went.
        """
        self.publish()
        gone = {poster_id for poster_id in self._rows if poster_id not in poster_ids}
        if not gone:
            return 0
        catalog = Catalog(self.uri)
        rewritten = {
            part: _rewrite_part(catalog, part, poster_ids) for part in self._manifest.parts
        }

        def replace(listed: tuple[str, ...]) -> list[str]:
            parts = [rewritten.get(part, part) for part in listed]
            return [part for part in parts if part is not None]

        def drop(rows: _Rows) -> _Rows:
            return {name: digests for name, digests in rows.items() if name not in gone}

        self._publish_list(replace, drop)
        for part in set(rewritten) - set(self._manifest.parts):
            storage.remove(storage.join(self.uri, PARTS_FOLDER, part))
        return len(gone)

    def _publish_list(
        self,
        change_parts: Callable[[tuple[str, ...]], list[str]],
        change_rows: Callable[[_Rows], _Rows],
    ) -> None:
        """Apply a change to the newest list; begin again when another writer was faster."""
        uri = storage.join(self.uri, CATALOG_FILE)
        for _ in range(_PUBLISH_ATTEMPTS):
            data, token = storage.read_versioned(uri)
            if data is not None and Manifest.from_json(data, uri).parts != self._manifest.parts:
                self._load()
            others = [item for item in _read_quarantine(self.uri) if item.source != self._source]
            refusals = [*others, *self._refusals]
            rows = change_rows(self._rows)
            manifest = Manifest(
                parts=tuple(dict.fromkeys(change_parts(self._manifest.parts))),
                rows=len(rows),
                quarantined=len(refusals),
                digest=digest_of({poster_id: row for poster_id, (_, row) in rows.items()}),
            )
            try:
                storage.replace_versioned(uri, manifest.to_json(), token)
            except storage.Conflict:
                continue
            _write_quarantine(self.uri, refusals)
            self._rows, self._manifest = rows, manifest
            return
        raise storage.Conflict(
            f"{self.uri} is being written by several processes", remedy="run them in turn"
        )


def _rewrite_part(catalog: Catalog, part: str, poster_ids: Container[str]) -> str | None:
    """Write a part anew without the posters that go; None if none is left."""
    table = pq.read_table(pa.BufferReader(storage.read_bytes(catalog.part_uri(part))))
    rows = table.to_pylist(maps_as_pydicts="strict")
    kept = [row for row in rows if row["poster_id"] in poster_ids]
    if len(kept) == len(rows):
        return part
    items = [(row, catalog.read_image(part, row["shard_offset"], row["size"])) for row in kept]
    return _write_part(catalog.uri, items) if items else None


def _write_quarantine(uri: str, refusals: Iterable[Refusal]) -> None:
    ordered = sorted(refusals, key=lambda refusal: (refusal.source, refusal.row or 0, refusal.id))
    lines = [json.dumps(dataclasses.asdict(refusal), ensure_ascii=False) for refusal in ordered]
    storage.write_text(storage.join(uri, QUARANTINE_FILE), "".join(f"{line}\n" for line in lines))


def _write_part(uri: str, items: Sequence[tuple[dict[str, Any], bytes]]) -> str:
    """Write a part whose name follows from its content, so that writing it twice does no harm."""
    part = _digest([row["source_digest"] for row, _ in items])[:16]
    parts_uri = storage.join(uri, PARTS_FOLDER)
    with storage.scratch_folder(parts_uri) as scratch:
        folder = scratch / part
        folder.mkdir()
        offsets = _write_shard(folder / "shard.tar", items)
        rows = [
            row | {"shard_offset": offset} for (row, _), offset in zip(items, offsets, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "posters.parquet")
        storage.publish_folder(folder, storage.join(parts_uri, part))
    return part


def _write_shard(path: Path, items: Sequence[tuple[dict[str, Any], bytes]]) -> list[int]:
    """Write the posters into a plain tar; give each one's offset in bytes."""
    offsets = []
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for row, data in items:
            member = tarfile.TarInfo(row["poster_id"])
            member.size = len(data)
            offsets.append(tar.offset + len(member.tobuf(tarfile.PAX_FORMAT)))
            tar.addfile(member, io.BytesIO(data))
    return offsets
