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
import struct
import tarfile
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.eras import UNKNOWN_ERA, era_of
from marquee.errors import DataError, InvalidImage
from marquee.images import Attributes, decode

SCHEMA_VERSION = 2
CATALOG_FILE = "catalog.json"
QUARANTINE_FILE = "quarantine.jsonl"
PARTS_FOLDER = "parts"
_PART_BYTES = 64 * 2**20
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
        ("label_licences", pa.map_(pa.string(), pa.string())),
        ("agreement", pa.map_(pa.string(), pa.string())),
        ("keywords", pa.list_(pa.string())),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("terms_version", pa.string()),
        ("retrieved_at", pa.timestamp("us", tz="UTC")),
        ("expires_at", pa.timestamp("us", tz="UTC")),
        ("image_ref", pa.string()),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.string()),
        ("mode", pa.string()),
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

_RESTORE = "restore it, or ingest again into a new catalog"

_NOT_CONTENT = ("retrieved_at", "shard_offset")
"""What does not name a part: a writer that was killed writes the same part again, later."""


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
    label_licences: dict[str, str] = field(default_factory=dict)
    """Licences of label sources that were joined from elsewhere, such as `imdb`."""
    agreement: dict[str, str] = field(default_factory=dict)
    """Genre to whether TMDB and IMDb agree on it; see `marquee.agreement`."""
    keywords: tuple[str, ...] = ()
    terms_version: str | None = None
    expires_at: datetime | None = None
    """When the terms end; None if they do not."""
    image_ref: str | None = None
    """The source's own name of the image: the same name means the same bytes."""

    def digest(self, data: bytes) -> str:
        """Name what a source offers, so that a later run sees what is new or changed.

        Args:
            data: The poster's bytes.

        Returns:
            The sha256 over these facts and the bytes.
        """
        return _digest([vars(self), hashlib.sha256(data).hexdigest()])


@dataclass(frozen=True, kw_only=True)
class Poster:
    """A poster ready for the catalog: its facts, its bytes and what was measured on them."""

    facts: Facts
    data: bytes
    perceptual_hash: str
    mode: str
    """The pixel mode that the image is stored in, such as `RGB` or `L`."""
    width: int
    height: int
    attributes: Attributes

    def row(self) -> dict[str, Any]:
        """Build the poster's row, without its place in the shard."""
        row = {
            **vars(self.facts),
            "era": UNKNOWN_ERA if self.facts.year is None else era_of(self.facts.year),
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "perceptual_hash": self.perceptual_hash,
            "mode": self.mode,
            "width": self.width,
            "height": self.height,
            **vars(self.attributes),
            "source_digest": self.facts.digest(self.data),
            "retrieved_at": datetime.now(UTC),
            "size": len(self.data),
        }
        return {**row, "row_digest": _row_digest(row)}


def _row_digest(row: dict[str, Any]) -> str:
    content = {name: row[name] for name in CONTENT}
    # Attributes are stored in 32 bits: a row that was read has the digest it was written with.
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in content.items()}
    return _digest(rounded)


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
    checkpoints: dict[str, str] = field(default_factory=dict)
    """When each source was last read to its end (the time at which that reading began)."""
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
            return dataclasses.replace(
                manifest, parts=tuple(manifest.parts), schema_version=SCHEMA_VERSION
            )
        except TypeError as error:
            raise DataError(f"{where} is no catalog list: {error}", remedy="ingest again") from None


def digest_of(poster_ids: Iterable[str], row_digest: Callable[[str], str]) -> str:
    """Compute a catalog's digest.

    Args:
        poster_ids: The posters.
        row_digest: Gives the sha256 of the content of a poster's row.

    Returns:
        The sha256 (64 hex digits) over the rows sorted by poster_id.
    """
    total = hashlib.sha256()
    for poster_id in sorted(poster_ids):
        total.update(f"{poster_id}\0{row_digest(poster_id)}\n".encode())
    return total.hexdigest()


class PartMissing(DataError):
    """A part that the catalog lists is not there."""


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

    @classmethod
    def of(cls, uri: str, manifest: Manifest) -> Self:
        """Give the catalog at a URI as a given list has it."""
        catalog = cls.__new__(cls)
        catalog.uri, catalog.manifest = uri, manifest
        return catalog

    def alone(self, part: str) -> "Catalog":
        """Give the catalog as if it had one part only."""
        return Catalog.of(self.uri, dataclasses.replace(self.manifest, parts=(part,)))

    def __len__(self) -> int:
        return self.manifest.rows

    @cached_property
    def _ranges(self) -> storage.Ranges:
        return storage.Ranges()

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the rows, sorted by poster_id, superseded ones left out.

        Args:
            columns: The columns to read (all by default; poster_id is always among them).

        Returns:
            One row a poster, with the part it lies in as the column `part`.
        """
        frame = self.rows(columns)
        newest = frame["poster_id"].drop_duplicates(keep="last").sort_values().index
        frame = frame.take(newest.to_numpy())
        frame.index = pd.RangeIndex(len(frame))
        return frame

    def by_part(self, columns: Sequence[str], chosen: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Read some rows, one part after the other.

        At once, texts and lists as Python objects would take more than all that is kept of them.

        Args:
            columns: The columns to read.
            chosen: Which rows, by poster_id; its other columns are joined to them.

        Yields:
            The chosen rows of a part that are not superseded, as `frame` gives them.
        """
        newest = self.frame(()).merge(chosen, on="poster_id", validate="one_to_one")
        for part, rows in newest.groupby("part", sort=False):
            yield (
                self.alone(str(part))
                .frame(columns)
                .merge(rows.drop(columns="part"), on="poster_id")
            )

    def rows(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read all rows, superseded ones too: of rows with one poster_id, the last one counts.

        Args:
            columns: The columns to read (all by default; poster_id is always among them).

        Returns:
            The rows in the order in which they were added, with their part as the column `part`.
        """
        names = list(SCHEMA.names if columns is None else dict.fromkeys(["poster_id", *columns]))
        frames = [self._part_frame(part, names) for part in self.manifest.parts]
        if not frames:
            return pd.DataFrame(columns=[*names, "part"])
        return pd.concat(frames, ignore_index=True)

    def _part_frame(self, part: str, columns: list[str]) -> pd.DataFrame:
        uri = self.part_uri(part)
        try:
            return read_rows(uri, columns).assign(part=part)
        except FileNotFoundError:
            raise PartMissing(
                f"{uri} is listed in the catalog but missing", remedy=_RESTORE
            ) from None

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
        return self._ranges.read(self.shard_uri(part), shard_offset, shard_offset + size)

    def read_poster(
        self, poster_id: str, part: str, shard_offset: int, size: int, sha256: str
    ) -> NDArray[np.uint8]:
        """Read one poster by a range read, check it, and decode it.

        Args:
            poster_id: The poster.
            part: The part it lies in.
            shard_offset: Where it starts in the shard (bytes).
            size: Its length (bytes).
            sha256: Of its bytes, as they were stored.

        Returns:
            As `pixels`.

        Raises:
            DataError: As `pixels`; or the shard is missing.
        """
        try:
            data = self.read_image(part, shard_offset, size)
        except FileNotFoundError:
            raise self._without_shard(poster_id, part) from None
        return self.pixels(poster_id, part, sha256, data)

    def pixels(self, poster_id: str, part: str, sha256: str, data: bytes) -> NDArray[np.uint8]:
        """Decode a poster's bytes if they are those that were stored.

        Args:
            poster_id: The poster.
            part: The part it lies in.
            sha256: Of its bytes, as they were stored.
            data: Its bytes, as they were read.

        Returns:
            Bytes of shape [H, W, 3].

        Raises:
            DataError: The bytes were changed, or are no image.
        """
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(
                f"{self.shard_uri(part)} is damaged: the bytes of the poster {poster_id} are not "
                "those that were stored",
                remedy=_RESTORE,
            )
        try:
            return decode(data)
        except InvalidImage as error:
            raise DataError(
                f"the poster {poster_id} in {self.shard_uri(part)} cannot be decoded: "
                f"{error.message}",
                remedy="ingest again into a new catalog; its quarantine takes such posters",
            ) from error

    def _without_shard(self, poster_id: str, part: str) -> PartMissing:
        return PartMissing(
            f"{self.shard_uri(part)}, which holds the poster {poster_id}, is missing",
            remedy=_RESTORE,
        )

    def stream_images(self, frame: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Read posters shard by shard, front to back, holding one at a time.

        Args:
            frame: Rows of `frame()` with `part`, `shard_offset` and `size`.

        Yields:
            poster_id and bytes, in the order of the shards.

        Raises:
            DataError: A shard is missing.
        """
        for part, rows in frame.groupby("part", sort=False):
            ordered = rows.sort_values("shard_offset")[["poster_id", "shard_offset", "size"]]
            try:
                with storage.open_binary(self.shard_uri(str(part))) as stream:
                    for poster_id, offset, size in ordered.itertuples(index=False):
                        stream.seek(offset)
                        yield poster_id, stream.read(size)
            except FileNotFoundError:
                raise self._without_shard(ordered["poster_id"].iloc[0], str(part)) from None

    def shard_uri(self, part: str) -> str:
        """Give the place of a part's posters."""
        return storage.join(self.uri, PARTS_FOLDER, part, "shard.tar")

    def quarantine(self) -> list[Refusal]:
        """Read what was refused."""
        return _read_quarantine(self.uri)


def read_rows(uri: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read rows of one part.

    Args:
        uri: A `posters.parquet`.
        columns: The columns to read; what a part of an older schema lacks is empty.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with storage.open_binary(uri) as stream:
        file = pq.ParquetFile(stream)
        table = file.read([name for name in columns if name in file.schema_arrow.names])
    for name in (name for name in columns if name not in table.column_names):
        table = table.append_column(
            SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type)
        )
    return table.select(list(columns)).to_pandas(maps_as_pydicts="strict")


def _read_quarantine(uri: str) -> list[Refusal]:
    data, _ = storage.read_versioned(storage.join(uri, QUARANTINE_FILE))
    return parse_quarantine(data or b"")


def parse_quarantine(data: bytes) -> list[Refusal]:
    """Read the content of `quarantine.jsonl`."""
    return [Refusal(**json.loads(line)) for line in data.decode().splitlines()]


class _Row(NamedTuple):
    """What a writer remembers of a poster in the catalog."""

    source_digest: bytes
    row_digest: bytes
    retrieved_on: int
    """The day, as `date.toordinal` counts."""
    expires_on: int
    """The same; 0 if it does not expire."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Take what matters of a row of the catalog."""
        expires = row["expires_at"]
        return cls(
            bytes.fromhex(row["source_digest"]),
            bytes.fromhex(row["row_digest"]),
            row["retrieved_at"].toordinal(),
            0 if pd.isna(expires) else expires.toordinal(),
        )

    def pack(self) -> bytes:
        """Make one small object of it: a large catalog has room for no more a row."""
        return _ROW.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what `pack` made."""
        return cls(*_ROW.unpack(packed))


_ROW = struct.Struct(">32s32sii")
_Rows = dict[str, bytes]
"""poster_id to a packed `_Row`."""


class CatalogWriter:
    """Adds one source's posters to a catalog, a part at a time; what is published stays.

    Whoever is killed loses the unfinished part at most: a second run asks what is already there.
    Several writers may add to one catalog at a time: each begins its change again on top of what
    another one published meanwhile.

    Args:
        uri: Where the catalog is or is to be.
        source: The source that is about to be read from its start; its earlier refusals are
            dropped, those of other sources stay.
        part_rows: Posters a part; a part also ends at 64 MB.
    """

    def __init__(self, uri: str, source: str, part_rows: int = 500) -> None:
        self.uri = uri
        self._part_rows = part_rows
        self._pending: list[Poster] = []
        self._pending_bytes = 0
        self._manifest = Manifest()
        self._rows: _Rows = {}
        self.begin(source)

    def begin(self, source: str) -> None:
        """Turn to another source, when all of the one before is published.

        Args:
            source: The source that is about to be read from its start.
        """
        self._source = source
        self.refusals: list[Refusal] = []
        """What this writer put into quarantine of this source."""
        if storage.exists(storage.join(self.uri, CATALOG_FILE)):
            self._load(Catalog(self.uri))

    def _load(self, catalog: Catalog, written: Mapping[str, _Rows] | None = None) -> None:
        """Learn what is in a catalog; of a longer list of parts, read the new ones only.

        Args:
            catalog: The catalog.
            written: Rows of parts that this writer has just written, and need not read.
        """
        known, parts = self._manifest.parts, catalog.manifest.parts
        if parts[: len(known)] != known:
            known, self._rows = (), {}
        for part in parts[len(known) :]:
            # In place: of the rows of a large catalog there is room for one copy.
            self._rows |= (written or {}).get(part) or self._rows_of(part)
        self._manifest = catalog.manifest

    def _rows_of(self, part: str) -> _Rows:
        names = ["source_digest", "row_digest", "retrieved_at", "expires_at"]
        frame = Catalog.of(self.uri, Manifest(parts=(part,))).frame(names)
        rows: list[Any] = frame[names].to_dict("records")
        return {
            poster_id: _Row.of(row).pack()
            for poster_id, row in zip(frame["poster_id"], rows, strict=True)
        }

    def held(self, poster_id: str) -> str:
        """Give the `Facts.digest` of what the catalog holds under an id, or nothing."""
        packed = self._rows.get(poster_id)
        return _Row.unpack(packed).source_digest.hex() if packed else ""

    @property
    def known(self) -> "Known":
        """What the catalog holds, for a source that need not offer it again."""
        refused = frozenset(refusal.id for refusal in _read_quarantine(self.uri))
        return Known(self.uri, self._rows, self._manifest.checkpoints, refused)

    def add(self, poster: Poster) -> None:
        """Add a poster, or supersede the one with its id; publish when a part is full."""
        self._pending.append(poster)
        self._pending_bytes += len(poster.data)
        if len(self._pending) >= self._part_rows or self._pending_bytes >= _PART_BYTES:
            self.publish()

    def refuse(self, refusal: Refusal) -> None:
        """Put something that cannot be used into quarantine."""
        self.refusals.append(refusal)

    def drop_refusals(self, goes: Callable[[Refusal], bool]) -> int:
        """Take refusals of any source out of quarantine.

        Args:
            goes: Tells which.

        Returns:
            How many went.
        """
        dropped = sum(map(goes, _read_quarantine(self.uri)))
        if dropped:
            _replace_refusals(self.uri, goes, ())
            self.publish()
        return dropped

    def publish(self, checkpoint: datetime | None = None) -> Manifest:
        """Publish what was added and refused so far.

        Args:
            checkpoint: When the reading of the source began that now reached its end.

        Returns:
            The list as published.

        Raises:
            Conflict: Other writers keep publishing into this catalog.
        """
        items = [(poster.row(), poster.data) for poster in self._pending]
        written = {}
        if items:
            rows = {row["poster_id"]: _Row.of(row).pack() for row, _ in items}
            written = {_write_part(self.uri, items): rows}

        def append(catalog: Catalog) -> list[str]:
            # A part that is listed already moves to the end: its rows supersede what came since.
            return [*(part for part in catalog.manifest.parts if part not in written), *written]

        self._publish_list(append, written, checkpoint)
        self._pending, self._pending_bytes = [], 0
        return self._manifest

    def keep_only(self, poster_ids: Container[str]) -> int:
        """Remove all other posters, their bytes included.

        Args:
            poster_ids: What stays.

        Returns:
            How many posters went.
        """
        self.publish()
        return self.remove({name for name in self._rows if name not in poster_ids})

    def remove(
        self,
        poster_ids: Collection[str],
        superseded: Mapping[str, Collection[int]] | None = None,
    ) -> int:
        """Remove posters, their superseded rows and their bytes, by rewriting their parts.

        Args:
            poster_ids: What goes.
            superseded: Superseded rows that go although their posters stay: part to the rows'
                `shard_offset`.

        Returns:
            How many posters went.
        """
        gone, places = set(poster_ids), superseded or {}
        if not gone and not places:
            return 0
        before = set(self._rows)
        self._rewrite(
            lambda catalog, part: _rewrite_part(catalog, part, gone, places.get(part, ()))
        )
        return len(before - set(self._rows))

    def compact(self) -> None:
        """Remove superseded rows, and their bytes, where they are a quarter of a part or more."""
        seen = Catalog(self.uri)
        frame = seen.frame([])
        newest = dict(zip(frame["poster_id"], frame["part"], strict=True))

        def rewrite(catalog: Catalog, part: str) -> str | None:
            if part not in seen.manifest.parts:
                return part
            rows = pq.read_table(
                pa.BufferReader(storage.read_bytes(catalog.part_uri(part))),
                columns=["poster_id", "shard_offset"],
            ).to_pylist()
            old = {row["shard_offset"] for row in rows if newest[row["poster_id"]] != part}
            return _rewrite_part(catalog, part, (), old) if 4 * len(old) >= len(rows) else part

        self._rewrite(rewrite)

    def relabel(self, change: Callable[[Facts], Facts]) -> int:
        """Change facts of posters that are in the catalog, without asking their sources again.

        Args:
            change: Gives a poster's new facts, or the same.

        Returns:
            How many posters have new facts.
        """
        changed: set[str] = set()
        self._rewrite(lambda catalog, part: _relabel_part(catalog, part, change, changed))
        return len(changed)

    def _rewrite(self, rewrite: Callable[[Catalog, str], str | None]) -> None:
        """Put rewritten parts in place of those there are, also of those that others add meanwhile.

        Args:
            rewrite: Writes a part anew and gives its name: the old one if nothing changes, None
                if nothing is left.
        """
        rewritten: dict[str, str | None] = {}

        def replace(catalog: Catalog) -> list[str]:
            for part in catalog.manifest.parts:
                if part not in rewritten:
                    rewritten[part] = rewrite(catalog, part)
            parts = [rewritten[part] for part in catalog.manifest.parts]
            return [part for part in parts if part is not None]

        self._publish_list(replace)
        made = {part for part in rewritten.values() if part is not None}
        for part in (made | set(rewritten)) - set(self._manifest.parts):
            storage.remove(storage.join(self.uri, PARTS_FOLDER, part))

    def _publish_list(
        self,
        change_parts: Callable[[Catalog], list[str]],
        written: Mapping[str, _Rows] | None = None,
        checkpoint: datetime | None = None,
    ) -> None:
        """Apply a change to the newest list; begin again when another writer was faster."""
        uri = storage.join(self.uri, CATALOG_FILE)
        _replace_refusals(self.uri, lambda refusal: refusal.source == self._source, self.refusals)
        reached = {} if checkpoint is None else {self._source: checkpoint.isoformat()}

        def merge(data: bytes | None) -> bytes:
            try:
                return build(data)
            except (FileNotFoundError, PartMissing):
                if storage.read_versioned(uri)[0] == data:
                    raise
                # Another writer put rewritten parts in place of those that were listed.
                raise storage.Conflict(f"{uri} changed", remedy="run again") from None

        def build(data: bytes | None) -> bytes:
            newest = Manifest() if data is None else Manifest.from_json(data, uri)
            # Two parts may have become one: it stands where its rows superseded others.
            parts = change_parts(Catalog.of(self.uri, newest))[::-1]
            listed = dataclasses.replace(newest, parts=tuple(dict.fromkeys(parts))[::-1])
            self._load(Catalog.of(self.uri, listed), written)
            self._manifest = dataclasses.replace(
                listed,
                rows=len(self._rows),
                quarantined=len(_read_quarantine(self.uri)),
                digest=digest_of(self._rows, self._row_digest),
                checkpoints=newest.checkpoints | reached,
            )
            return self._manifest.to_json()

        storage.update(uri, merge)

    def _row_digest(self, poster_id: str) -> str:
        return _Row.unpack(self._rows[poster_id]).row_digest.hex()


class Known:
    """What the catalog of a writer holds: what need not be fetched again.

    Args:
        uri: The catalog.
        rows: Its rows, by poster_id.
        checkpoints: When each source was last read to its end.
        refused: The ids in its quarantine.
    """

    def __init__(
        self,
        uri: str,
        rows: Mapping[str, bytes],
        checkpoints: Mapping[str, str],
        refused: Container[str] = (),
    ) -> None:
        self.checkpoints = {name: datetime.fromisoformat(at) for name, at in checkpoints.items()}
        self.refused = refused
        self._uri = uri
        self._rows = rows

    def __contains__(self, poster_id: str) -> bool:
        return poster_id in self._rows

    def expires_on(self, poster_id: str) -> date | None:
        """Say on which day (UTC) a poster of the catalog expires; None if it does not."""
        day = _Row.unpack(self._rows[poster_id]).expires_on
        return date.fromordinal(day) if day else None

    def retrieved_on(self, poster_id: str) -> date:
        """Say on which day (UTC) a poster of the catalog was retrieved."""
        return date.fromordinal(_Row.unpack(self._rows[poster_id]).retrieved_on)

    def image(self, poster_id: str, image_ref: str) -> bytes | None:
        """Read a poster's bytes from the catalog.

        Args:
            poster_id: The poster.
            image_ref: The source's name of the image that is wanted.

        Returns:
            The bytes, or None if the catalog holds another image of this poster, or none.
        """
        if poster_id not in self._rows:
            return None
        catalog, places = self._images
        ref, part, offset, size = places.get(poster_id, ("", "", 0, 0))
        return catalog.read_image(part, offset, size) if ref == image_ref else None

    @cached_property
    def _images(self) -> tuple[Catalog, dict[str, tuple[str, str, int, int]]]:
        """Where the images lie; only a refresh asks."""
        catalog = Catalog(self._uri)
        frame = catalog.frame(["image_ref", "shard_offset", "size"])
        columns = (frame[name] for name in ("image_ref", "part", "shard_offset", "size"))
        return catalog, dict(zip(frame["poster_id"], zip(*columns, strict=True), strict=True))


def _rewrite_part(
    catalog: Catalog, part: str, gone: Container[str], places: Container[int]
) -> str | None:
    """Write a part anew without the rows of the posters and at the places that go.

    Returns:
        The new part's name; the old one if nothing goes, None if nothing is left.
    """
    table = pq.read_table(pa.BufferReader(storage.read_bytes(catalog.part_uri(part))))
    names = zip(*(table[name].to_pylist() for name in ("poster_id", "shard_offset")), strict=True)
    kept = [n for n, (name, place) in enumerate(names) if name not in gone and place not in places]
    if not kept or len(kept) == len(table):
        return part if kept else None
    rows = table.take(kept).to_pylist(maps_as_pydicts="strict")
    return _write_part(catalog.uri, _with_images(catalog, part, rows))


def _with_images(
    catalog: Catalog, part: str, rows: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], bytes]]:
    # One read: a bucket answers five hundred small ones far slower.
    shard = memoryview(storage.read_bytes(catalog.shard_uri(part)))
    starts = [(row, row["shard_offset"]) for row in rows]
    return [(row, bytes(shard[start : start + row["size"]])) for row, start in starts]


def _relabel_part(
    catalog: Catalog, part: str, change: Callable[[Facts], Facts], changed: set[str]
) -> str:
    """Write a part anew with the changed facts; add the ids to `changed`."""
    table = pq.read_table(pa.BufferReader(storage.read_bytes(catalog.part_uri(part))))
    old = table.to_pylist(maps_as_pydicts="strict")
    new = [_relabel(row, change) for row in old]
    names = {row["poster_id"] for row, other in zip(new, old, strict=True) if row is not other}
    changed |= names
    return _write_part(catalog.uri, _with_images(catalog, part, new)) if names else part


def _relabel(row: dict[str, Any], change: Callable[[Facts], Facts]) -> dict[str, Any]:
    names = [item.name for item in dataclasses.fields(Facts)]
    # Rows of an older schema lack some, and lists come back for tuples.
    held = {name: _as_facts_have_it(row[name]) for name in names if row.get(name) is not None}
    facts = Facts(**{"year": None, **held})
    new = change(facts)
    if new == facts:
        return row
    labelled = row | vars(new)
    return labelled | {"row_digest": _row_digest(labelled)}


def _as_facts_have_it(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return {name: _as_facts_have_it(item) for name, item in value.items()}
    return value


def _replace_refusals(
    uri: str, goes: Callable[[Refusal], bool], refusals: Sequence[Refusal]
) -> None:
    """Put refusals in place of those that go."""

    def replace(data: bytes | None) -> bytes:
        others = [item for item in parse_quarantine(data or b"") if not goes(item)]
        found = [*others, *refusals]
        ordered = sorted(found, key=lambda refusal: (refusal.source, refusal.row or 0, refusal.id))
        lines = [json.dumps(vars(refusal), ensure_ascii=False) for refusal in ordered]
        return "".join(f"{line}\n" for line in lines).encode()

    storage.update(storage.join(uri, QUARANTINE_FILE), replace)


def _write_part(uri: str, items: Sequence[tuple[dict[str, Any], bytes]]) -> str:
    """Write a part whose name follows from its content, so that writing it twice does no harm."""
    rows = [{k: v for k, v in row.items() if k not in _NOT_CONTENT} for row, _ in items]
    part = _digest(rows)[:16]
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
