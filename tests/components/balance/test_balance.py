import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.balance.balance import balance
from components.balance.groups import group_posters, near_duplicates
from components.balance.page import balance_page
from marquee.catalog import CatalogWriter, Facts, Poster
from marquee.errors import DataGateFailed
from marquee.images import Attributes
from marquee.settings import BalanceSettings
from marquee.split import SplitPlan

GENRES = (("Comedy",), ("Horror", "Thriller"), ("Action",), ("Romance", "Comedy"), ("Drama",))


def catalog(tmp_path, count=400, seed=0, **overrides):
    """A catalog of facts; balance looks at no pixels."""
    random = np.random.default_rng(seed)
    writer = CatalogWriter(str(tmp_path / "catalog"), "test", part_rows=1000)
    for number in range(count):
        facts = {
            "poster_id": f"p{number:04d}",
            "film_id": f"film{number:04d}",
            "title": "x",
            "year": int(random.integers(1920, 2024)),
            "genres": GENRES[int(random.integers(0, len(GENRES)))],
            "source": "test",
            "licence": "CC0-1.0",
        }
        facts |= {name: value(number) for name, value in overrides.items()}
        writer.add(
            Poster(
                facts=Facts(**facts),
                data=str(number).encode(),
                perceptual_hash=f"{random.integers(0, 2**63):016x}",
                width=20,
                height=30,
                attributes=Attributes(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
            )
        )
    writer.publish()
    return str(tmp_path / "catalog")


def test_shares_and_left_out_posters(tmp_path):
    plan = balance(catalog(tmp_path), "study4", BalanceSettings())
    used = plan.balance["posters"]
    assert used + plan.balance["left_out"] == 400
    assert plan.balance["left_out"] > 0
    assert plan.balance["splits"]["train"] / used == pytest.approx(0.7, abs=0.02)
    assert plan.balance["splits"]["validation"] / used == pytest.approx(0.15, abs=0.02)
    assert set(plan.ids("train")).isdisjoint(plan.ids("test"))


def test_genres_are_spread_evenly(tmp_path):
    plan = balance(catalog(tmp_path), "all18", BalanceSettings())
    for genre, shares in plan.balance["genres"].items():
        for split in ("train", "validation", "test"):
            assert shares[split] == pytest.approx(shares["before"], abs=0.03), genre


def test_films_and_collections_never_straddle_splits(tmp_path):
    uri = catalog(
        tmp_path,
        film_id=lambda number: f"film{number // 3}",
        collection_id=lambda number: number // 30 if number < 90 else None,
    )
    plan = balance(uri, "all18", BalanceSettings())
    numbers = plan.frame["poster_id"].str[1:].astype(int)
    assert (plan.frame.groupby(numbers // 3)["split"].nunique() == 1).all()
    trilogy = numbers < 90
    collections = plan.frame[trilogy].groupby(numbers[trilogy] // 30)
    assert (collections["split"].nunique() == 1).all()
    assert (collections["group_id"].nunique() == 1).all()


def test_the_deal_is_repeatable_and_follows_the_seed(tmp_path):
    uri = catalog(tmp_path)
    first, again, other = (
        balance(uri, "study4", BalanceSettings(seed=seed)).frame for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first["split"] != other["split"]).any()


def test_rare_genres_weigh_more_and_nothing_is_repeated(tmp_path):
    rare = {"genres": lambda number: ("Western",) if number % 20 == 0 else ("Drama",)}
    plan = balance(catalog(tmp_path, **rare), "all18", BalanceSettings())
    train = plan.frame[plan.frame["split"] == "train"]
    assert plan.frame["poster_id"].is_unique
    assert train["weight"].mean() == pytest.approx(1, abs=1e-5)
    shares = plan.balance["genres"]["Western"]
    assert shares["train"] < shares["train_weighted"] < 0.5


def test_too_few_films_are_refused(tmp_path):
    with pytest.raises(DataGateFailed, match="too few"):
        balance(catalog(tmp_path, count=10), "all18", BalanceSettings())


def test_a_plan_survives_writing(tmp_path):
    plan = balance(catalog(tmp_path), "study4", BalanceSettings())
    plan.write(str(tmp_path / "split"))
    read = SplitPlan.read(str(tmp_path / "split"))
    assert read.genres == ("Comedy", "Horror", "Action", "Romance")
    assert read.frame["split"].tolist() == plan.frame["split"].tolist()
    assert read.frame["label_mask"].map(list).tolist() == plan.frame["label_mask"].tolist()
    assert read.balance["genres"] == plan.balance["genres"]


def test_the_page_shows_both_distributions(tmp_path):
    page = balance_page(balance(catalog(tmp_path), "study4", BalanceSettings()))
    for words in ("Genres, before and after", "Horror", "golden age", "1990"):
        assert words in page


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40),
    st.integers(0, 8),
    st.integers(0, 2**32),
)
def test_near_duplicates_are_all_pairs_within_the_distance(values, bits, seed):
    random = np.random.default_rng(seed)
    # Half of the hashes are others with a few bits flipped, or no pair would ever be near.
    flipped = [
        value ^ sum(1 << int(bit) for bit in random.choice(64, random.integers(0, 10), False))
        for value in values
    ]
    hashes = np.array([*values, *flipped], dtype=np.uint64)
    found = {
        (min(pair), max(pair))
        for edges in near_duplicates(hashes, bits)
        for pair in zip(*edges.tolist(), strict=True)
    }
    expected = {
        (first, second)
        for first in range(len(hashes))
        for second in range(first + 1, len(hashes))
        if int(hashes[first] ^ hashes[second]).bit_count() <= bits
    }
    assert found == expected


def test_groups_join_transitively():
    frame = pd.DataFrame(
        {
            "film_id": ["a", "a", "b", "c", "d"],
            "imdb_id": None,
            "tmdb_id": [None, None, None, 5, None],
            "collection_id": [None, 7, 7, None, None],
            "perceptual_hash": [
                f"{value:016x}" for value in (0, 2**60, 2**61 + 2**20, 1, 2**63 - 1)
            ],
        }
    )
    groups = group_posters(frame, near_duplicate_bits=1)
    # 0-1 by film, 1-2 by collection, 0-3 by picture; 4 stays alone.
    assert groups[0] == groups[1] == groups[2] == groups[3] != groups[4]
