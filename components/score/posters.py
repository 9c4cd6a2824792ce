"""Posters on their way into the engine: read by range, decoded on threads, a few ahead."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.catalog import Catalog, PartMissing
from marquee.errors import DataError
from marquee.images import Preprocessing, resize

_BATCH = 8
"""Posters a range read, and a run of the model: more would gain little."""
_PLACE = ("shard_offset", "size", "sha256")


@dataclass(frozen=True, eq=False)
class Part:
    """Posters that are labelled together: those of a part of the catalog that count."""

    catalog: Catalog
    part: str
    poster_ids: pd.Series

    def __len__(self) -> int:
        return len(self.poster_ids)

    @property
    def name(self) -> str:
        """Name these posters: the same part has fewer that count once some are superseded."""
        return hashlib.sha256("\0".join([self.part, *self.poster_ids]).encode()).hexdigest()[:16]

    def read(self, columns: Iterable[str]) -> pd.DataFrame:
        """Read the posters' facts, and where their bytes are, in the order of these.

        Args:
            columns: The facts.
        """
        facts = (
            self.catalog.alone(self.part)
            .frame([*columns, *_PLACE])
            .merge(self.poster_ids, on="poster_id")
        )
        return facts.sort_values("shard_offset", ignore_index=True)


def parts_of(catalog: Catalog) -> list[Part]:
    """List a catalog's posters, part by part."""
    newest = catalog.frame([])
    ids = {str(part): rows["poster_id"] for part, rows in newest.groupby("part", sort=False)}
    return [Part(catalog, part, ids[part]) for part in catalog.manifest.parts if part in ids]


@dataclass(frozen=True)
class Batch:
    """Some posters of a part, in its order."""

    part: Part
    facts: pd.DataFrame
    """Of all posters of the part."""
    start: int
    """Where these posters begin among them."""
    posters: list[NDArray[np.uint8] | str]
    """What the network gets of each [H, W, 3], or why there is nothing."""

    @property
    def years(self) -> list[int | None]:
        """The films' release years."""
        years = self.facts["year"].iloc[self.start : self.start + len(self.posters)]
        return [None if pd.isna(year) else int(year) for year in years]


def batches(
    parts: Iterable[Part], columns: Iterable[str], preprocessing: Preprocessing, threads: int
) -> Iterator[Batch]:
    """Read and decode posters on threads, ahead of whoever takes them.

    Args:
        parts: Which posters.
        columns: The facts to read of them.
        preprocessing: The network's input.
        threads: How many batches are decoded at a time; one more than that waits to be taken.

    Yields:
        All posters, in their order.

    Raises:
        PartMissing: A shard is missing.
    """
    coming: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(threads, "decode")
    try:
        for part in parts:
            facts = part.read(columns)
            for start in range(0, len(facts), _BATCH):
                coming.append(pool.submit(_load, part, facts, start, preprocessing))
                if len(coming) > threads + 1:
                    yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load(part: Part, facts: pd.DataFrame, start: int, preprocessing: Preprocessing) -> Batch:
    rows = facts.iloc[start : start + _BATCH]
    first, end = int(rows["shard_offset"].min()), int((rows["shard_offset"] + rows["size"]).max())
    try:
        data = part.catalog.read_image(part.part, first, end - first)
    except FileNotFoundError:
        raise PartMissing(
            f"{part.catalog.shard_uri(part.part)} is listed in the catalog but missing",
            remedy="restore it, and run the same command again",
        ) from None
    places = rows[["poster_id", "sha256", "shard_offset", "size"]].itertuples(index=False)
    posters = []
    for poster_id, sha256, offset, size in places:
        bytes_ = data[offset - first : offset - first + size]
        posters.append(_pixels(part, poster_id, sha256, bytes_, preprocessing))
    return Batch(part, facts, start, posters)


def _pixels(
    part: Part, poster_id: str, sha256: str, data: bytes, preprocessing: Preprocessing
) -> NDArray[np.uint8] | str:
    try:
        return resize(part.catalog.pixels(poster_id, part.part, sha256, data), preprocessing)
    except DataError as error:
        return error.message
