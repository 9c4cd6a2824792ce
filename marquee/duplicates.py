"""Pictures that are nearly the same, told by their perceptual hashes."""

from collections.abc import Iterator
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray


def near_duplicates(hashes: NDArray[np.uint64], bits: int) -> Iterator[NDArray[np.int64]]:
    """Find pairs of hashes that differ in `bits` bits or fewer.

    Cut into bits + 1 bands, two such hashes agree in one band at least (pigeonhole), so only
    hashes that share a band are compared. Memory grows with the hashes, not with their pairs.

    Args:
        hashes: N 64-bit hashes.
        bits: Largest Hamming distance.

    Yields:
        Edges [2, E] between row numbers; a pair may come more than once.
    """
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in pairwise(edges):
        bands = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(bands, kind="stable")
        ordered, bands = hashes[order], bands[order]
        # Those of one band lie together: each is compared with the next, the next but one...
        first = np.arange(len(order))
        for step in count(1):
            first = first[first + step < len(order)]
            first = first[bands[first] == bands[first + step]]
            if not len(first):
                break
            near = first[np.bitwise_count(ordered[first] ^ ordered[first + step]) <= bits]
            if len(near):
                yield np.stack([order[near], order[near + step]])
