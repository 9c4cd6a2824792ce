from itertools import combinations

import numpy as np
import pytest

from marquee.duplicates import near_duplicates


@pytest.mark.parametrize("bits", [0, 3, 8])
def test_no_pair_is_missed_where_hashes_crowd(bits):
    """Hashes that share their upper bits crowd into few bands."""
    random = np.random.default_rng(bits)
    hashes = random.integers(0, 2**12, 90, dtype=np.uint64) | np.uint64(0xABCD << 48)
    found = {
        tuple(sorted(pair)) for edges in near_duplicates(hashes, bits) for pair in edges.T.tolist()
    }
    expected = {
        pair
        for pair in combinations(range(len(hashes)), 2)
        if int(hashes[pair[0]] ^ hashes[pair[1]]).bit_count() <= bits
    }
    assert found == expected


@pytest.mark.parametrize("hashes", [[], [7]], ids=["none", "one"])
def test_no_hash_or_one_has_no_pair(hashes):
    assert list(near_duplicates(np.array(hashes, dtype=np.uint64), 4)) == []
