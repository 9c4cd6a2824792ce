"""Balancing a catalog: shares, groups, settings that are refused, the plan and its page."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.balance.balance import balance
from components.balance.groups import group_posters
from components.balance.page import balance_page
from marquee.catalog import CatalogWriter, Facts, Poster
from marquee.duplicates import near_duplicates
from marquee.errors import DataGateFailed, UsageError
from marquee.images import Attributes
from marquee.licences import IMDB, TMDB
from marquee.settings import BalanceSettings, load
from marquee.split import SPLITS, SplitPlan

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
                mode="RGB",
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
        for split in SPLITS:
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


def test_rare_genres_weigh_more_and_no_row_is_repeated(tmp_path):
    rare = {"genres": lambda number: ("Western",) if number % 20 == 0 else ("Drama",)}
    plan = balance(catalog(tmp_path, **rare), "all18", BalanceSettings(rare_below=0))
    train = plan.frame[plan.frame["split"] == "train"]
    assert plan.frame["poster_id"].is_unique
    assert train["weight"].mean() == pytest.approx(1, abs=1e-5)
    shares = plan.balance["genres"]["Western"]
    assert 2 * shares["train"] < shares["train_weighted"] < 0.6


def test_too_few_films_are_refused(tmp_path):
    with pytest.raises(DataGateFailed, match="too few"):
        balance(catalog(tmp_path, count=10), "all18", BalanceSettings())


@pytest.mark.parametrize(
    ("year", "when"),
    [(lambda number: 1990, "after 2005"), (lambda number: 2010, "up to 2005")],
    ids=["nothing to test", "nothing to train on"],
)
def test_a_temporal_split_needs_films_on_both_sides(year, when, tmp_path):
    with pytest.raises(DataGateFailed, match=f"posters {when}.*too few.*temporal_year"):
        balance(catalog(tmp_path, year=year), "all18", BalanceSettings(split="temporal"))


def test_a_temporal_split_sets_aside_what_it_cannot_place(tmp_path):
    """Films 0-9 are of one collection that begins early and ends late; 10-14 have no year."""
    uri = catalog(
        tmp_path,
        year=lambda number: None if 10 <= number < 15 else 1996 + number % 20,
        collection_id=lambda number: 7 if number < 10 or number == 19 else None,
        genres=lambda number: ("Drama",),
    )
    plan = balance(uri, "all18", BalanceSettings(split="temporal"))
    splits = dict(zip(plan.frame["poster_id"], plan.frame["split"], strict=True))
    facts = plan.balance
    assert (facts["straddling_groups"], facts["set_aside"], facts["without_year"]) == (1, 10, 5)
    assert facts["posters"] == 385
    assert not any(f"p{number:04d}" in splits for number in range(15))
    assert splits["p0019"] == "test"
    assert facts["test_split"] == "temporal"
    page = balance_page(plan)
    assert "10 early films in 1 group with films on both sides: set aside" in page
    assert "train and validation up to 2005" in page


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("split", "chronological", "use one of: random, temporal"),
        ("strategy", "smote", "use one of: none, class_weights, sampler, oversample"),
        ("disagreement", "drop", "use one of: keep, mask, weigh"),
        ("temporal_year", 20005, "use a value from 1874 to 2100"),
        ("oversample_cap", 0, "use a value from 1 to 255"),
        ("oversample_cap", 256, "use a value from 1 to 255"),
        ("rare_below", -1, "use a value from 0 to"),
        ("subgenre_films", 0, "use a value from 1 to"),
        ("disagreement_weight", 1.5, "use a value from 0 to 1"),
    ],
)
def test_settings_are_refused_by_name(name, value, remedy):
    with pytest.raises(UsageError, match=f"balance.{name} is {value!r}.*{remedy}"):
        load({f"balance.{name}": value})


def test_page_and_plan_survive_writing(tmp_path):
    plan = balance(catalog(tmp_path), "study4", BalanceSettings(strategy="oversample"))
    plan.write(str(tmp_path / "split"))
    read = SplitPlan.read(str(tmp_path / "split"))
    assert read.genres == ("Comedy", "Horror", "Action", "Romance")
    for name in ("poster_id", "split", "weight", "repeats"):
        assert read.frame[name].tolist() == plan.frame[name].tolist()
    assert np.array_equal(np.stack(read.frame["label_weights"]), np.ones((len(read.frame), 4)))
    assert (read.digest, read.training_digest) == (plan.digest, plan.training_digest)
    assert balance_page(read) == balance_page(plan)


def test_the_page_shows_every_picture(tmp_path):
    agreement = {"Comedy": "agree", "Drama": "tmdb_only", "Action": "imdb_only"}
    uri = catalog(
        tmp_path,
        genres=lambda number: ("War",) if number < 6 else GENRES[number % 5],
        agreement=lambda number: agreement,
        licence=lambda number: TMDB,
        label_licences=lambda number: {"imdb": IMDB},
    )
    page = balance_page(balance(uri, "all18", BalanceSettings(disagreement="mask")))
    for words in (
        "Films by year",
        "What the deal did",
        "What each strategy does to each genre",
        "Genres before and after balancing: class weights",
        "Genre by era",
        "golden age",
        "Genres that come together",
        "Too rare to learn",
        "Labels on which TMDB and IMDb disagree",
        "disputed labels do not count in training",
        "endorsed, certified, or otherwise approved by TMDB",
        "courtesy of IMDb",
    ):
        assert words in page, words
    assert page.count("<svg") == 5
    assert len(page) < 200_000


def test_what_the_page_shows_is_in_balance_json(tmp_path):
    plan = balance(catalog(tmp_path), "all18", BalanceSettings(split="temporal"))
    facts = json.loads(json.dumps(plan.balance))
    films = facts["films_by_year"]
    assert {split: sum(row[split] for row in films.values()) for split in SPLITS} == facts["splits"]
    assert set(facts["strategies"]) == set(BalanceSettings.STRATEGIES)
    drama = [list(facts["genres"]).index(genre) for genre in ("Drama", "Thriller", "Horror")]
    pairs = np.array(facts["cooccurrence"])
    assert pairs[drama[0], drama[0]] == facts["genres"]["Drama"]["count"]
    assert pairs[drama[1], drama[2]] == facts["genres"]["Horror"]["count"]  # always together
    by_era = facts["genres_by_era"]["Drama"]
    assert sum(by_era.values()) == facts["genres"]["Drama"]["count"]
    assert facts["settings"]["temporal_year"] == 2005


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


def _identities(count, **columns):
    frame = pd.DataFrame({"film_id": [f"film{n}" for n in range(count)]})
    for name in ("imdb_id", "tmdb_id", "collection_id"):
        frame[name] = None
    frame["perceptual_hash"] = [f"{n * 2654435761 % 2**64:016x}" for n in range(count)]
    return frame.assign(**columns)


def test_groups_join_transitively():
    hashes = [f"{value:016x}" for value in (0, 2**60, 2**61 + 2**20, 1, 2**63 - 1)]
    frame = _identities(
        5,
        film_id=["a", "a", "b", "c", "d"],
        tmdb_id=[None, None, None, 5, None],
        collection_id=[None, 7, 7, None, None],
        perceptual_hash=hashes,
    )
    groups = group_posters(frame, near_duplicate_bits=1)
    # 0-1 by film, 1-2 by collection, 0-3 by picture; 4 stays alone.
    assert groups[0] == groups[1] == groups[2] == groups[3] != groups[4]


@pytest.mark.parametrize("batch", [1, 300, 1_000_000])
def test_groups_do_not_depend_on_how_many_edges_are_held(batch, monkeypatch):
    """A crowd of 600 look-alikes that one film ties to another crowd, and 50 on their own."""
    hashes = [*range(600), *(2**63 + n for n in range(600)), *(7**n << 20 for n in range(50))]
    frame = _identities(1250, perceptual_hash=[f"{value % 2**64:016x}" for value in hashes])
    frame.loc[[0, 700], "film_id"] = "the tie"
    monkeypatch.setattr("components.balance.groups._BATCH", batch)
    groups = group_posters(frame, near_duplicate_bits=1)
    assert set(groups[:1200]) == {0}
    assert 1 < np.unique(groups).size <= 51


@pytest.mark.timeout(20)
def test_a_placeholder_that_half_the_posters_share_is_one_group():
    """All pairs of 20,000 posters would take 3 GB and more."""
    frame = _identities(40_000)
    frame.loc[:19_999, "perceptual_hash"] = "0" * 16
    groups = group_posters(frame, near_duplicate_bits=0)
    assert np.unique(groups[:20_000]).size == 1
    assert np.unique(groups).size == 20_001


def test_labels_that_nobody_can_judge_have_no_picture(tmp_path):
    """A catalog of TMDB's labels alone."""
    uri = catalog(tmp_path, agreement=lambda number: {"Comedy": "unknown", "Drama": "unknown"})
    page = balance_page(balance(uri, "all18", BalanceSettings()))
    assert "Genre by era" in page
    assert "Labels on which" not in page
