"""Whether label sources agree: statuses, kappa, Jaccard."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import REAL_POSTERS
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.agreement import (
    GenreAgreement,
    LabelAgreement,
    LabelStatus,
    PairAgreement,
    label_agreement,
    label_status,
)
from marquee.catalog import SCHEMA
from marquee.eras import ERAS, era_of
from marquee.errors import DataError
from marquee.genres import VISUAL_GENRES

AGREE, TMDB_ONLY, IMDB_ONLY, UNKNOWN = LabelStatus

STATUSES = {
    "both": ({"tmdb": ["War"], "imdb": ["War"]}, None, {"War": AGREE}),
    "one each": (
        {"tmdb": ["War", "Drama"], "imdb": ["Drama", "Action"]},
        None,
        {"Action": IMDB_ONLY, "Drama": AGREE, "War": TMDB_ONLY},
    ),
    "no imdb": ({"tmdb": ["War", "Drama"]}, None, {"Drama": UNKNOWN, "War": UNKNOWN}),
    "no tmdb": ({"imdb": ["War"], "movielens": ["War"]}, None, {"War": UNKNOWN}),
    "an empty list is no opinion": ({"tmdb": ["War"], "imdb": []}, None, {"War": UNKNOWN}),
    "nothing": ({}, None, {}),
    "other sources do not matter": ({"movielens": ["War"]}, None, {}),
    "imdb's list is full": (
        {"tmdb": ["War", "Drama"], "imdb": ["Action", "Comedy", "Drama"]},
        None,
        {"Action": IMDB_ONLY, "Comedy": IMDB_ONLY, "Drama": AGREE, "War": UNKNOWN},
    ),
    "full before names were dropped": (
        {"tmdb": ["War"], "imdb": ["Drama"]},
        True,
        {"Drama": IMDB_ONLY, "War": UNKNOWN},
    ),
    "not full, it is said": (
        {"tmdb": ["War"], "imdb": ["Action", "Comedy", "Drama"]},
        False,
        {"Action": IMDB_ONLY, "Comedy": IMDB_ONLY, "Drama": IMDB_ONLY, "War": TMDB_ONLY},
    ),
    "a longer list was never cut": (
        {"tmdb": ["War"], "imdb": ["Action", "Comedy", "Drama", "Family"]},
        None,
        {
            **dict.fromkeys(("Action", "Comedy", "Drama", "Family"), IMDB_ONLY),
            "War": TMDB_ONLY,
        },
    ),
    "imdb has no TV Movie": (
        {"tmdb": ["TV Movie", "Drama"], "imdb": ["Drama"]},
        None,
        {"Drama": AGREE, "TV Movie": UNKNOWN},
    ),
    "TV Movie alone is no opinion": (
        {"tmdb": ["TV Movie"], "imdb": ["Drama"]},
        None,
        {"Drama": UNKNOWN, "TV Movie": UNKNOWN},
    ),
}


@pytest.mark.parametrize("name", STATUSES)
def test_label_status(name):
    sources, full, expected = STATUSES[name]
    assert label_status(sources, full) == expected


def test_a_status_fits_into_the_catalog():
    statuses = label_status({"tmdb": ["War"], "imdb": ["War"]})
    column = pa.array([statuses], SCHEMA.field("agreement").type)
    assert column.to_pylist(maps_as_pydicts="strict") == [{"War": "agree"}]


def frame(*films: dict[str, list[str]], **columns: list) -> pd.DataFrame:
    base = {"label_sources": list(films), "era": ["digital"] * len(films)}
    return pd.DataFrame({**base, **columns})


def only_pair(agreement: LabelAgreement) -> PairAgreement:
    (pair,) = agreement.pairs
    return pair


def test_statistics_by_hand():
    films = frame(
        {"tmdb": ["War"], "imdb": ["War", "Drama"]},
        {"tmdb": ["War"], "imdb": ["Drama"]},
        {"tmdb": ["Drama"], "imdb": ["Drama", "War"]},
        {"tmdb": ["Drama"], "imdb": ["Drama"]},
        {"tmdb": ["War"]},
        {"imdb": ["Western"]},
        {"tmdb": ["TV Movie"], "imdb": ["War"]},
        era=["silent", "silent", "digital", "digital", "digital", "digital", "digital"],
    )
    found = label_agreement(films)
    assert (found.films, found.sources) == (7, {"tmdb": 5, "imdb": 6})
    pair = only_pair(found)
    assert (pair.first, pair.second, pair.films) == ("tmdb", "imdb", 4)
    assert pair.genres["War"] == GenreAgreement(films=4, both=1, first_only=1, second_only=1)
    # Both agree on 2 of 4 films, as chance would: each says War of half of them.
    assert pair.genres["War"].kappa == 0
    assert pair.genres["War"].jaccard == pytest.approx(1 / 3)
    # IMDb calls every film a drama: chance explains what they agree on.
    assert (pair.genres["Drama"].kappa, pair.genres["Drama"].jaccard) == (0, 0.5)
    assert (pair.genres["Western"].kappa, pair.genres["Western"].jaccard) == (None, None)
    assert list(pair.eras) == ["silent", "digital"]
    assert pair.eras["silent"]["War"] == GenreAgreement(
        films=2, both=1, first_only=1, second_only=0
    )
    assert pair.macro_jaccard == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert pair.macro_kappa == 0


UNDEFINED = {
    "neither ever": (GenreAgreement(films=9, both=0, first_only=0, second_only=0), None, None),
    "both always": (GenreAgreement(films=9, both=9, first_only=0, second_only=0), None, 1),
    "one always, one never": (GenreAgreement(films=9, both=0, first_only=9, second_only=0), 0, 0),
    "opposites": (GenreAgreement(films=8, both=0, first_only=4, second_only=4), -1, 0),
    "equals": (GenreAgreement(films=8, both=4, first_only=0, second_only=0), 1, 1),
    "no film": (GenreAgreement(films=0, both=0, first_only=0, second_only=0), None, None),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_the_ends_of_kappa_and_jaccard(name):
    counts, kappa, jaccard = UNDEFINED[name]
    assert (counts.kappa, counts.jaccard) == (kappa, jaccard)


def test_a_source_that_does_not_know_a_genre_is_not_held_against_the_pair():
    films = [{"tmdb": ["War", "History"], "movielens": ["War"]}, {"tmdb": ["Drama"]}]
    films.append({"tmdb": ["Drama"], "movielens": ["Drama"]})
    pair = only_pair(label_agreement(frame(*films)))
    assert pair.one_sided == {"History": "movielens"}
    assert (pair.macro_jaccard, pair.macro_kappa) == (1, 1)


def test_posters_of_one_film_count_once():
    films = [{"tmdb": ["War"], "imdb": ["War"]}, {"tmdb": ["War"]}, {"tmdb": ["War"]}]
    found = label_agreement(
        frame(*films, {"tmdb": ["War"], "imdb": ["War"]}, film_id=["a", "a", "b", "a"])
    )
    assert (found.films, found.sources) == (2, {"tmdb": 2, "imdb": 1})
    assert only_pair(found).films == 1


def test_pairs_of_sources_come_in_order():
    everyone = {name: ["War"] for name in ("movielens", "imdb", "letterboxd", "tmdb")}
    assert [(pair.first, pair.second) for pair in label_agreement(frame(everyone)).pairs] == [
        ("tmdb", "imdb"),
        ("tmdb", "letterboxd"),
        ("tmdb", "movielens"),
        ("imdb", "letterboxd"),
        ("imdb", "movielens"),
        ("letterboxd", "movielens"),
    ]


@pytest.mark.parametrize("films", [[], [{}], [{"tmdb": ["War"]}, {"imdb": ["War"]}]])
def test_nothing_to_compare_is_no_error(films):
    assert label_agreement(frame(*films)).pairs == ()


def test_statuses_add_up():
    films = [
        {"tmdb": ["War", "TV Movie"], "imdb": ["War"]},
        {"tmdb": ["War"], "imdb": ["Drama"]},
        {"tmdb": ["War"]},
    ]
    statuses = [label_status(film) for film in films]
    found = label_agreement(frame(*films, agreement=[*statuses[:2], None])).statuses
    assert found == {
        "Drama": {"agree": 0, "tmdb_only": 0, "imdb_only": 1, "unknown": 0},
        "TV Movie": {"agree": 0, "tmdb_only": 0, "imdb_only": 0, "unknown": 1},
        "War": {"agree": 1, "tmdb_only": 1, "imdb_only": 0, "unknown": 0},
    }
    assert label_agreement(frame(*films)).statuses == {}


def test_json_reads_back_and_damage_is_refused():
    found = label_agreement(frame({"tmdb": ["War"], "imdb": ["War", "Drama"]}))
    assert LabelAgreement.from_json(found.to_json(), "x") == found
    document = json.loads(found.to_json())
    assert document["pairs"][0]["genres"]["War"]["jaccard"] == 1
    for name, change in {
        "newer": {"schema_version": 9},
        "cut": {"pairs": [{"first": "tmdb"}]},
        "odd": {"pairs": 3},
    }.items():
        with pytest.raises(DataError, match=name + ".json"):
            LabelAgreement.from_json(json.dumps(document | change), f"{name}.json")


def random_films(count: int, seed: int) -> pd.DataFrame:
    """Two sources that agree half of the time, in all eras."""
    rng = np.random.default_rng(seed)

    def draw() -> list[str]:
        return rng.choice(VISUAL_GENRES, rng.integers(1, 4), replace=False).tolist()

    films = []
    for _ in range(count):
        first = draw()
        films.append({"tmdb": first, "imdb": first if rng.random() < 0.5 else draw()})
    return frame(*films, era=rng.choice(ERAS, count).tolist())


def test_kappa_and_jaccard_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    films = random_films(400, 0)
    pair = only_pair(label_agreement(films))
    for era in (None, *ERAS):
        rows = films if era is None else films[films["era"] == era]
        for genre, counts in (pair.genres if era is None else pair.eras[era]).items():
            first = [genre in row["tmdb"] for row in rows["label_sources"]]
            second = [genre in row["imdb"] for row in rows["label_sources"]]
            assert counts.films == len(rows)
            if counts.kappa is not None:
                kappa = metrics.cohen_kappa_score(first, second)
                assert counts.kappa == pytest.approx(kappa, abs=1e-12)
            if counts.jaccard is not None:
                assert counts.jaccard == pytest.approx(metrics.jaccard_score(first, second))


labels = st.lists(st.sampled_from(VISUAL_GENRES), max_size=4)
films = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(("tmdb", "imdb", "other")), labels),
        st.sampled_from((*ERAS, "unknown")),
    ),
    max_size=25,
)


def of(rows: list[tuple[dict[str, list[str]], str]]) -> LabelAgreement:
    return label_agreement(frame(*(row for row, _ in rows), era=[era for _, era in rows]))


def renamed(rows: list, sources: dict[str, str], genres: dict[str, str]) -> list:
    return [
        (
            {
                sources.get(name, name): [genres.get(g, g) for g in row]
                for name, row in film.items()
            },
            era,
        )
        for film, era in rows
    ]


@settings(max_examples=60, deadline=None)
@given(films)
def test_measures_keep_their_bounds_and_eras_add_up(rows):
    for pair in of(rows).pairs:
        for genre, counts in pair.genres.items():
            assert 0 <= counts.either <= counts.films == pair.films
            assert counts.jaccard is None or 0 <= counts.jaccard <= 1
            assert counts.kappa is None or -1 <= counts.kappa <= 1
            parts = [era[genre] for era in pair.eras.values()]
            for name in vars(counts):
                assert sum(getattr(part, name) for part in parts) == getattr(counts, name)


@settings(max_examples=60, deadline=None)
@given(films)
def test_agreement_is_symmetric(rows):
    swapped = {
        pair.second: pair for pair in of(renamed(rows, {"tmdb": "imdb", "imdb": "tmdb"}, {})).pairs
    }
    for pair in of(rows).pairs:
        if (pair.first, pair.second) == ("tmdb", "imdb"):
            for genre, counts in pair.genres.items():
                mirror = replace(
                    counts, first_only=counts.second_only, second_only=counts.first_only
                )
                assert swapped["imdb"].genres[genre] == mirror
                assert (mirror.kappa, mirror.jaccard) == (counts.kappa, counts.jaccard)


@settings(max_examples=60, deadline=None)
@given(films, st.permutations(VISUAL_GENRES))
def test_other_names_of_genres_give_the_same_counts(rows, order):
    names = dict(zip(VISUAL_GENRES, order, strict=True))
    for before, after in zip(of(rows).pairs, of(renamed(rows, {}, names)).pairs, strict=True):
        assert {names[genre]: counts for genre, counts in before.genres.items()} == after.genres


@settings(max_examples=60, deadline=None)
@given(labels, labels, st.sampled_from((None, True, False)))
def test_every_genre_given_has_a_status_and_no_other(tmdb, imdb, full):
    found = label_status({"tmdb": tmdb, "imdb": imdb}, full)
    assert set(found) == set(tmdb) | set(imdb)
    mirrored = label_status({"tmdb": imdb, "imdb": tmdb}, full)
    agreed = {genre for genre, status in found.items() if status == AGREE}
    assert agreed == {genre for genre, status in mirrored.items() if status == AGREE}


LISTED = {
    "Animation": 0.97,
    "Documentary": 0.93,
    "Horror": 0.84,
    "Comedy": 0.83,
    "Drama": 0.74,
    "Science Fiction": 0.69,
    "Action": 0.65,
    "Thriller": 0.62,
    "Romance": 0.55,
    "Crime": 0.54,
    "Fantasy": 0.52,
    "Mystery": 0.42,
    "Music": 0.37,
}
"""Jaccard of two label sources on the same films, as our reference on the domain lists it."""


def real_films() -> pd.DataFrame:
    table = pd.read_csv(REAL_POSTERS / "posters.csv", dtype=str, keep_default_na=False)
    sources = ("tmdb", "imdb", "movielens")
    rows = [
        {name: row[f"genres_{name}"].split("|") for name in sources if row[f"genres_{name}"]}
        for row in table.to_dict("records")
    ]
    eras = [era_of(int(year)) if year else "unknown" for year in table["year"]]
    return frame(*rows, era=eras, film_id=table["id"].tolist())


@pytest.mark.real_data
def test_real_label_sources_agree_as_they_are_known_to():
    pairs = {(pair.first, pair.second): pair for pair in label_agreement(real_films()).pairs}
    assert len(pairs) == 3
    # The listed values are closest to TMDB against MovieLens; IMDb's differ by genre.
    for names, tolerance in {("tmdb", "movielens"): 0.06, ("tmdb", "imdb"): 0.21}.items():
        for genre, listed in LISTED.items():
            found = pairs[names].genres[genre].jaccard
            assert found == pytest.approx(listed, abs=tolerance), genre
    for names, pair in pairs.items():
        ranked = sorted(LISTED, key=lambda genre: -pair.genres[genre].jaccard)
        assert set(ranked[:2]) == {"Animation", "Documentary"}
        assert {"Horror", "Comedy"} == set(ranked[2:4])
        assert pair.films > 3000
        assert 0.6 < pair.macro_jaccard < pair.macro_kappa < 0.8
        assert pair.one_sided == ({"History": "movielens"} if "movielens" in names else {})
