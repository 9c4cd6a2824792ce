"""Groups of posters that must stay in one split: a film, its look-alikes, its collection."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IDENTITIES: tuple[str, ...] = ("film_id", "imdb_id", "tmdb_id", "collection_id")
"""Posters that share one of these belong together."""


def group_posters(frame: pd.DataFrame, near_duplicate_bits: int) -> NDArray[np.int64]:
    """Join posters that share a film, a collection or, nearly, a picture.

    Args:
        frame: N rows with `IDENTITIES` and perceptual_hash (16 hex digits).
        near_duplicate_bits: Hashes that differ in so many bits or fewer count as one picture.

    Returns:
        N group numbers.
    """
    hashes = np.array([int(value, 16) for value in frame["perceptual_hash"]], dtype=np.uint64)
    edges = [
        *(_chain(frame[name]) for name in IDENTITIES),
        *near_duplicates(hashes, near_duplicate_bits),
    ]
    left, right = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(frame),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _chain(column: pd.Series) -> NDArray[np.int64]:
    """Link each row to the next one with the same value: edges [2, E]."""
    codes = pd.factorize(column)[0]
    order = np.argsort(codes, kind="stable")
    same = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)
    return np.stack([order[:-1][same], order[1:][same]])


def near_duplicates(hashes: NDArray[np.uint64], bits: int) -> Iterator[NDArray[np.int64]]:
    """Find pairs of hashes that differ in `bits` bits or fewer.

    Cut into bits + 1 bands, two such hashes agree in one band at least (pigeonhole), so only
    hashes that share a band are compared.

    Args:
        hashes: N 64-bit hashes.
        bits: Largest Hamming distance.

    Yields:
        Edges [2, E] between row numbers; a pair may come more than once.
    """
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] + np.uint64(1)))
        for rows in np.split(order, starts[1:]):
            if len(rows) > 1:
                distance = np.bitwise_count(hashes[rows][:, None] ^ hashes[rows][None, :])
                first, second = np.nonzero(np.triu(distance <= bits, k=1))
                yield np.stack([rows[first], rows[second]])
