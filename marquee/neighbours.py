"""Similar posters: an index in the bundle of the posters that trained it.

`neighbours.parquet` has a row for every poster of the training split: what it is of, where it comes
from, until when its terms allow keeping it, and its embedding as the bundle computes it by default,
in half precision and of length 1. There are no images in it. Bundles of Marquee 0.1 have no index.
"""

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from marquee.bundle import EMBEDDING_SIZE, read_file
from marquee.contract import check_schema_version

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
NEIGHBOURS_FILE = "neighbours.parquet"
FACTS = pa.schema(
    [
        ("poster_id", pa.string()),
        ("film_id", pa.string()),
        ("title", pa.string()),
        ("year", pa.int16()),
        ("genres", pa.list_(pa.string())),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("expires_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of neighbours.parquet beside `embedding`; `genres` are those of the bundle's label set
that the poster has."""

SAME_POSTER = 0.999
"""From this similarity on, a poster is taken for the one that is asked about.

The same bytes have .9998 or more with themselves; the nearest other film's of 300 real posters had
.989. A copy that was scaled or saved anew may have less: only its film's id tells that.
"""
SHOWN = 5
"""How many posters are found unless told otherwise."""

_DTYPE = np.float16
_ATTRIBUTIONS = b"attributions"


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A training poster that is similar to the one that is asked about."""

    poster_id: str
    film_id: str
    title: str
    year: int | None
    genres: list[str]
    licence: str
    score: float
    """Cosine similarity of the embeddings, -1..1."""


def write_neighbours(
    folder: Path,
    facts: "pd.DataFrame",
    embeddings: NDArray[Any],
    attributions: Sequence[str] = (),
) -> None:
    """Write the index into a bundle that is about to be sealed.

    Args:
        folder: The bundle's folder.
        facts: N rows with the columns of `FACTS`, one for each training poster.
        embeddings: What the bundle's model gives for them [N, 64].
        attributions: The sentences that must stand where these facts are shown.
    """
    vectors = pa.array(_normalised(embeddings).astype(_DTYPE).ravel())
    table = pa.Table.from_pandas(facts, schema=FACTS, preserve_index=False).append_column(
        "embedding", pa.FixedSizeListArray.from_arrays(vectors, EMBEDDING_SIZE)
    )
    about = {"schema_version": str(SCHEMA_VERSION), _ATTRIBUTIONS: "\n".join(attributions)}
    pq.write_table(
        table.replace_schema_metadata(about), folder / NEIGHBOURS_FILE, compression="zstd"
    )


def _normalised(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    vectors = embeddings.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


class Neighbours:
    """Searches a bundle's index.

    Args:
        data: The content of neighbours.parquet.
        where: Its URI, for error messages.

    Raises:
        DataError: It is newer than this code.
    """

    def __init__(self, data: bytes, where: str = NEIGHBOURS_FILE) -> None:
        table = pq.read_table(pa.BufferReader(data))
        about = table.schema.metadata
        check_schema_version(
            {"schema_version": int(about[b"schema_version"])}, SCHEMA_VERSION, where
        )
        self.attributions = about[_ATTRIBUTIONS].decode().splitlines()
        """The sentences that must stand where what is found is shown."""
        vectors = table["embedding"].combine_chunks().flatten().to_numpy()
        self._vectors = vectors.reshape(-1, EMBEDDING_SIZE).astype(np.float32)
        self._facts = table.drop_columns(["embedding"])

    @classmethod
    def read(cls, bundle_uri: str) -> Self | None:
        """Read the index of a sealed bundle.

        Args:
            bundle_uri: The bundle.

        Returns:
            The index, or None if the bundle was sealed without one.

        Raises:
            DataError: The index is missing, was changed, or is newer than this code.
        """
        data = read_file(bundle_uri, NEIGHBOURS_FILE)
        return None if data is None else cls(data, f"{bundle_uri}/{NEIGHBOURS_FILE}")

    def __len__(self) -> int:
        return len(self._vectors)

    def nearest(
        self,
        embedding: NDArray[Any],
        count: int = SHOWN,
        *,
        film_id: str | None = None,
        hidden: Collection[str] = frozenset(),
        now: datetime | None = None,
    ) -> list[Neighbour]:
        """Find the training posters that are most similar to a poster, one of each film.

        The poster itself is left out, and so are posters whose terms are over.

        Args:
            embedding: What the bundle's model gives for the poster [64].
            count: How many to find.
            film_id: The poster's film, if it is known: its other posters are left out.
            hidden: Ids of posters that must not be shown, such as a registry's tombstones.
            now: The time to judge terms by; the present without it.

        Returns:
            At most `count` posters, the most similar first.
        """
        scores = self._vectors @ _normalised(embedding)
        others = np.flatnonzero(scores < SAME_POSTER)
        ranked = others[np.argsort(-scores[others])]
        found = self._films(ranked, {film_id}, hidden, now or datetime.now(UTC))
        return [_neighbour(row, scores[place]) for place, row in islice(found, count)]

    def _films(
        self, places: NDArray[Any], seen: set[str | None], hidden: Container[str], now: datetime
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give place and facts of those that may be shown, the first of each film not yet seen."""
        for place in places.tolist():
            row = self._facts.slice(place, 1).to_pylist()[0]
            over = row["expires_at"] is not None and row["expires_at"] <= now
            if row["film_id"] in seen or row["poster_id"] in hidden or over:
                continue
            seen.add(row["film_id"])
            yield place, row


def _neighbour(row: dict[str, Any], score: float) -> Neighbour:
    shown = ("poster_id", "film_id", "title", "year", "genres", "licence")
    return Neighbour(**{name: row[name] for name in shown}, score=round(float(score), 4))
