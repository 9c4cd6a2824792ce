"""What the data gate derives from the catalog's facts."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from frames import put, sound_frame

from components.validate.tables import _cramers_v, column_types, derive
from marquee.licences import Obstacle
from marquee.settings import ValidateSettings


def tables(frame, obstacles=(), **settings):
    bounds = ValidateSettings(**settings)
    return derive(frame, list(obstacles), 0, bounds, 4, datetime.now(UTC))


@pytest.mark.parametrize(
    ("counts", "totals", "expected"),
    [
        ([[50], [0]], [50, 50], 1.0),
        ([[20], [20]], [50, 50], 0.0),
        ([[30], [20]], [50, 50], 0.17),
        ([[30]], [50], np.nan),
        ([[0], [0]], [50, 50], np.nan),
        ([[1], [0], [1], [0]], [1, 1, 1, 1], 0.0),
    ],
    ids=["tells all", "tells nothing", "tells little", "one source", "no poster", "tiny sources"],
)
def test_cramers_v(counts, totals, expected):
    (value,) = _cramers_v(np.array(counts), totals)
    assert value == pytest.approx(expected, abs=0.01, nan_ok=True)


def test_agreement_is_the_jaccard_of_both_sources_where_enough_can_be_compared():
    frame = sound_frame(8)
    frame["agreement"] = [
        *({"War": "agree", "Drama": "agree"},) * 3,
        {"War": "tmdb_only"},
        *({"War": "imdb_only"},) * 2,
        {"War": "unknown"},
        None,
    ]
    genres = tables(frame, min_slice=6).genres.set_index("genre")["agreement"]
    assert genres["War"] == 0.5
    assert np.isnan(genres["Drama"])  # three posters are too few


@pytest.mark.parametrize(
    ("films", "hashes", "placeholders", "alike"),
    [
        (("a", "b"), ("00" * 8, "00" * 8), 0, 2),
        (("a", "a"), ("00" * 8, "00" * 8), 0, 0),
        (("a", "b"), ("00" * 8, "00" * 7 + "1f"), 0, 0),
        (("a", "b", "c"), ("00" * 8, "00" * 7 + "0f", "00" * 7 + "ff"), 0, 3),
        (("a", "b", "c"), ("00" * 8,) * 3, 3, 3),
        (("a", "a", "b", "a"), ("00" * 8,) * 4, 0, 4),
    ],
    ids=["two films", "one film", "five bits", "in a chain", "a placeholder", "a film's posters"],
)
def test_pictures_that_several_films_share(films, hashes, placeholders, alike):
    frame = sound_frame(20)
    count = len(films)
    frame.loc[: count - 1, "film_id"] = films
    frame.loc[: count - 1, "perceptual_hash"] = hashes
    posters = tables(frame, placeholder_films=3).posters
    assert (posters["placeholder_share"] > 0).sum() == placeholders
    assert posters["looks_like"].notna().sum() == alike
    film_of = posters.set_index("poster_id")["film_id"]
    pairs = posters.dropna(subset="looks_like")
    assert (pairs["film_id"].to_numpy() != film_of[pairs["looks_like"]].to_numpy()).all()


def test_blank_posters_are_no_placeholders_nor_duplicates_of_each_other():
    frame = put(10, contrast=0.0, perceptual_hash="00" * 8)(sound_frame())
    posters = tables(frame).posters
    assert posters["placeholder_share"].max() == 0
    assert posters["looks_like"].isna().all()


def test_the_same_bytes_are_exact_duplicates_only():
    frame = put(sha256="ab" * 32, perceptual_hash="00" * 8)(sound_frame())
    posters = tables(frame).posters
    assert posters["copies"].tolist()[:3] == [2, 2, 1]
    assert posters["looks_like"].isna().all()


def test_a_row_names_all_reasons_against_it():
    frame = sound_frame(20)
    reasons = [
        Obstacle(reason="terms", poster_ids=("p0", "p1"), remedy=""),
        Obstacle(reason="expired", poster_ids=("p1",), remedy=""),
    ]
    found = tables(frame, reasons).posters["obstacle"]
    assert found.tolist()[:2] == ["terms", "terms\nexpired"]
    assert found[2:].isna().all()


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("year", 70_000, "not in range"),
        ("year", 1999.5, "truncated"),
        ("genres", [7], "got a 'int'"),
        ("sha256", 7, "got a 'int'"),
        ("agreement", {1: "agree"}, "got a 'int'"),
    ],
)
def test_values_of_a_wrong_type_are_found(name, value, found):
    types = column_types(put(1, **{name: value})(sound_frame(20))).set_index("column")
    assert found in types.loc[name, "found"]
    types = types.drop(name)
    assert (types["found"] == types["wanted"]).all()


def test_a_missing_column_is_found():
    types = column_types(sound_frame(20).drop(columns="licence")).set_index("column")
    assert types.loc["licence", "found"] == "missing"


def test_a_narrow_table_stays_narrow():
    """Per row: what the gate holds besides the catalog's own columns."""
    frame = pd.concat([sound_frame(2000)] * 5, ignore_index=True)
    posters = tables(frame).posters
    own = [name for name in posters if name not in frame]
    assert posters[own].memory_usage(index=False).sum() / len(posters) < 200
