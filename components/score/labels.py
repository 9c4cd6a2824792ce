"""The file of labels: a Parquet file that grows part by part, out of sight until it is whole.

Until then its parts lie in the folder `<file>.parts`, with `job.json`, which says what they are
labels of. A column holds one genre's probabilities, so that DuckDB and pandas read only the genres
that a query names; `p_science_fiction` needs no quotes in SQL, and its field's metadata has the
genre's name as it is.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, UsageError

SCHEMA_VERSION = 1
JOB_FILE = "job.json"
_PARTS_A_GROUP = 64
"""Parts a row group of the finished file: readers are slow with many small groups."""

_METADATA = b"marquee"
_TEXT, _TIME = pa.string(), pa.timestamp("us", tz="UTC")
FACTS: dict[str, pa.DataType] = {
    "poster_id": _TEXT,
    "film_id": _TEXT,
    "title": _TEXT,
    "year": pa.int16(),
    "source": _TEXT,
    "licence": _TEXT,
    "expires_at": _TIME,
}
"""The columns that come from the catalog; what is under terms that end has to go when they do."""

_FOUND: dict[str, pa.DataType] = {
    "genres": pa.list_(pa.string()),
    "unsure": pa.bool_(),
    "era": _TEXT,
    "era_source": _TEXT,
    "model_version": _TEXT,
    "error": _TEXT,
}


def column_of(genre: str) -> str:
    """Name the column of a genre's probabilities, such as `p_science_fiction`."""
    return "p_" + re.sub(r"[^a-z0-9]+", "_", genre.lower())


@dataclass(frozen=True, kw_only=True)
class Job:
    """What labels are labels of."""

    model_version: str
    catalog_digest: str
    genres: tuple[str, ...] = field(compare=False)
    """The model's label set."""
    attributions: tuple[str, ...] = field(compare=False)
    """Sentences that must stand where the facts are shown."""
    schema_version: int = field(default=SCHEMA_VERSION, compare=False)

    def to_json(self) -> str:
        """Write the job as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Read a job.

        Args:
            data: The JSON document.
            where: Its place, for error messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document = parse_json(data, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        try:
            lists = {name: tuple(document[name]) for name in ("genres", "attributions")}
            return cls(**document | lists)
        except (KeyError, TypeError) as error:
            raise DataError(f"{where} misstates {error}", remedy="remove it") from None

    def schema(self) -> pa.Schema:
        """Give the columns of the labels."""
        genres = [
            pa.field(column_of(genre), pa.float32(), metadata={"genre": genre})
            for genre in self.genres
        ]
        plain = [pa.field(name, kind) for name, kind in (FACTS | _FOUND).items()]
        return pa.schema([*plain, *genres], metadata={_METADATA: self.to_json()})

    def __str__(self) -> str:
        return f"model {self.model_version[:12]} and catalog {self.catalog_digest[:12]}"


class LabelFile:
    """Labels on their way into a file; whoever is killed loses the unfinished part at most.

    Args:
        uri: The Parquet file.
        job: What is to be labelled by what.

    Raises:
        UsageError: The file, or what was begun of it, holds other labels.
    """

    def __init__(self, uri: str, job: Job) -> None:
        self.uri = uri
        self._job = job
        self._work = f"{uri}.parts"
        self.finished = storage.exists(uri)
        """Whether the file is there, whole."""
        if self.finished:
            self._check(_published_job(uri), f"{uri} holds", "give --out another place")
            storage.remove(self._work)
        else:
            self._claim()

    def _claim(self) -> None:
        place = storage.join(self._work, JOB_FILE)

        def claim(data: bytes | None) -> bytes:
            if data is None:
                return self._job.to_json().encode()
            begun = Job.from_json(data, place)
            self._check(begun, f"{self._work} has a beginning of", "go on with these")
            return data

        storage.update(place, claim)  # of two that begin at once, one finds the other's

    def _check(self, other: Job, what: str, remedy: str) -> None:
        if other != self._job:
            raise UsageError(
                f"{what} labels of {other}; now it is {self._job}",
                remedy=f"{remedy}, or remove it",
            )

    def parts(self) -> set[str]:
        """Name the parts that are there."""
        names = storage.list_files(self._work)
        return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}

    def add(self, part: str, facts: pd.DataFrame, found: list[dict[str, Any]]) -> None:
        """Write a part.

        Args:
            part: Its name.
            facts: N rows with the columns of `FACTS`.
            found: The other columns of these rows; what a row lacks is empty.
        """
        schema = self._job.schema()
        known = pa.schema(list(FACTS.items()))
        left = pa.Table.from_pandas(facts[list(FACTS)], known, preserve_index=False)
        right = pa.Table.from_pylist(found, pa.schema(list(schema)[len(FACTS) :]))
        table = pa.Table.from_arrays([*left.columns, *right.columns], schema=schema)
        storage.write_bytes(self._place(part), _parquet(schema, [table]))

    def _place(self, part: str) -> str:
        return storage.join(self._work, f"{part}.parquet")

    def publish(self, parts: Sequence[str]) -> None:
        """Make the file of its parts.

        Args:
            parts: Their names, in the order of the rows.
        """
        groups = (parts[n : n + _PARTS_A_GROUP] for n in range(0, len(parts), _PARTS_A_GROUP))
        tables = (pa.concat_tables(map(self._read_part, group)) for group in groups)
        storage.write_bytes(self.uri, _parquet(self._job.schema(), tables))
        storage.remove(self._work)
        self.finished = True

    def _read_part(self, part: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(storage.read_bytes(self._place(part))))

    def read(self, columns: list[str]) -> pa.Table:
        """Read columns of the finished file."""
        with storage.open_binary(self.uri) as stream:
            return pq.ParquetFile(stream).read(columns)


def _published_job(uri: str) -> Job:
    try:
        with storage.open_binary(uri) as stream:
            document = (pq.read_schema(stream).metadata or {}).get(_METADATA)
    except (pa.ArrowInvalid, FileNotFoundError, IsADirectoryError):
        document = None
    if document is None:
        raise UsageError(
            f"{uri} is there already, and holds no labels", remedy="give --out another place"
        )
    return Job.from_json(document, uri)


def _parquet(schema: pa.Schema, tables: Iterable[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue())
