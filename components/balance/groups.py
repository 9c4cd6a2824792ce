"""Groups of posters that must stay in one split: a film, its look-alikes, its collection."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from marquee.duplicates import near_duplicates

IDENTITIES: tuple[str, ...] = ("film_id", "imdb_id", "tmdb_id", "collection_id")
"""Posters that share one of these belong together."""
_BATCH = 1_000_000


def group_posters(frame: pd.DataFrame, near_duplicate_bits: int) -> NDArray[np.int64]:
    """Join posters that share a film, a collection or, nearly, a picture.

    Args:
        frame: N rows with `IDENTITIES` and perceptual_hash (16 hex digits).
        near_duplicate_bits: Hashes that differ in so many bits or fewer count as one picture.

    Returns:
        N group numbers.
    """
    if frame.empty:
        return np.zeros(0, dtype=np.int64)
    # Thousands of posters may share one hash, such as a placeholder's. They are chained like those
    # that share a film, and one of each stands for them among the look-alikes.
    _, ones = np.unique(frame["perceptual_hash"].to_numpy(), return_index=True)
    hashes = np.array([int(value, 16) for value in frame["perceptual_hash"].iloc[ones]], np.uint64)
    same = (_chain(frame[name]) for name in (*IDENTITIES, "perceptual_hash"))
    alike = (ones[pairs] for pairs in near_duplicates(hashes, near_duplicate_bits))
    groups = np.arange(len(frame))
    for left, right in _batches(chain(same, alike)):
        edges = (groups[left], groups[right])
        graph = coo_array((np.ones(len(left), np.int32), edges), shape=(len(frame),) * 2)
        groups = connected_components(graph, directed=False)[1][groups]
    return groups.astype(np.int64)


def _batches(edges: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Give edges a million or so at a time: a crowd of look-alikes has as many as its square."""
    held: list[NDArray[np.int64]] = []
    count = 0
    for pairs in edges:
        held.append(pairs)
        count += pairs.shape[1]
        if count >= _BATCH:
            yield np.concatenate(held, axis=1)
            held, count = [], 0
    if held:
        yield np.concatenate(held, axis=1)


def _chain(column: pd.Series) -> NDArray[np.int64]:
    """Link each row to the next one with the same value: edges [2, E]."""
    codes = pd.factorize(column)[0]
    order = np.argsort(codes, kind="stable")
    same = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)
    return np.stack([order[:-1][same], order[1:][same]])
