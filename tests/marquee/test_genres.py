"""Genre names, the table of subgenres, and what labels a film has."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.errors import DataError
from marquee.genres import (
    GENRES,
    LABEL_SETS,
    SUBGENRES,
    VISUAL_GENRES,
    label_columns,
    label_matrix,
    label_set,
    split_genres,
    suggest,
)


def films(*rows):
    return pd.DataFrame(rows, columns=["genres", "keywords"])


def test_label_sets():
    assert len(VISUAL_GENRES) == 18
    assert "TV Movie" not in VISUAL_GENRES
    assert label_set("study4") == ("Comedy", "Horror", "Action", "Romance")
    assert set(label_set("study4")) < set(label_set("all18")) == set(VISUAL_GENRES)
    assert label_set("subgenres") == tuple(SUBGENRES)


def test_an_unknown_label_set_is_told_of_all_three():
    with pytest.raises(DataError, match=r"'all19'.*use one of: all18, study4, subgenres"):
        label_set("all19")


def test_genre_cells():
    assert split_genres(" Comedy | science fiction|Comedy|") == (["Comedy", "Science Fiction"], [])
    assert split_genres("Sci-Fi|War") == (["War"], ["Sci-Fi"])
    assert split_genres("") == ([], [])
    assert "Romance" in suggest("Romence")
    assert "Western" in suggest("???")


@pytest.mark.parametrize("name", SUBGENRES)
def test_a_subgenre_can_be_told_from_genres_or_keywords(name):
    subgenre = SUBGENRES[name]
    assert len(subgenre.genres) in (0, 2)
    assert set(subgenre.genres) <= set(VISUAL_GENRES)
    assert subgenre.genres or subgenre.keywords
    assert all(word == word.strip().casefold() for word in subgenre.keywords)


def test_subgenres_are_no_genres_and_differ():
    assert set(SUBGENRES).isdisjoint(GENRES)
    pairs = [frozenset(subgenre.genres) for subgenre in SUBGENRES.values() if subgenre.genres]
    assert len(set(pairs)) == len(pairs)


FILMS = {
    "both genres": (["Romance", "Comedy"], [], {"Romantic Comedy"}),
    "one genre of two": (["Romance"], [], set()),
    "three genres make three pairs": (
        ["Crime", "Drama", "Thriller"],
        [],
        {"Crime Drama", "Crime Thriller"},
    ),
    "a genre that is no target changes nothing": (
        ["TV Movie", "Horror", "Science Fiction"],
        ["alien"],
        {"Science Fiction Horror"},
    ),
    "a keyword without the genres": (["Drama"], ["romcom"], {"Romantic Comedy"}),
    "a keyword that says what the genres say": (
        ["Comedy", "Romance"],
        ["romcom", "wedding"],
        {"Romantic Comedy"},
    ),
    "a keyword alone": (["Horror"], ["final girl", "slasher"], {"Slasher"}),
    "case does not matter": (["Action"], ["Superhero"], {"Superhero"}),
    "part of a keyword is not enough": (["Action"], ["superhero spoof", "spying"], set()),
    "several keywords": (["Music"], ["musical", "christmas"], {"Musical", "Christmas"}),
    "no keywords are known": (["Family", "Animation"], None, {"Family Animation"}),
    "nothing": ([], [], set()),
}


@pytest.mark.parametrize("name", FILMS)
def test_subgenres_of_a_film(name):
    genres, keywords, expected = FILMS[name]
    (row,) = label_matrix(films((genres, keywords)), label_set("subgenres"))
    assert set(np.array(label_set("subgenres"))[row == 1]) == expected
    assert set(row) <= {0, 1}


def test_labels_follow_the_order_they_are_asked_in():
    rows = films((["Romance", "Drama"], ["spy"]), ([], []))
    labels = ("Drama", "Spy", "Comedy", "Romantic Drama")
    assert label_matrix(rows, labels).tolist() == [[1, 1, 0, 1], [0, 0, 0, 0]]
    assert label_matrix(rows, labels[::-1]).tolist() == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert label_matrix(rows[:0], labels).shape == (0, 4)


def test_keywords_are_read_only_where_they_decide():
    assert label_columns(label_set("all18")) == label_columns(["Family Animation"]) == ("genres",)
    assert label_columns(["Drama", "Spy"]) == ("genres", "keywords")
    without_keywords = films((["Romance"], ["romcom"]))[["genres"]]
    assert label_matrix(without_keywords, label_set("study4")).tolist() == [[0, 0, 0, 1]]


def test_a_label_of_another_marquee_is_refused():
    with pytest.raises(DataError, match=r"'Mumblecore' is neither a genre nor a subgenre"):
        label_matrix(films((["Drama"], [])), ("Drama", "Mumblecore"))


KEYWORDS = sorted({word for subgenre in SUBGENRES.values() for word in subgenre.keywords})
made_up_films = st.tuples(
    st.lists(st.sampled_from(GENRES), unique=True, max_size=4),
    st.lists(st.sampled_from([*KEYWORDS, "jungle", "dog"]), unique=True, max_size=3),
)


@given(
    st.lists(made_up_films, max_size=8),
    st.lists(st.sampled_from([*GENRES, *SUBGENRES]), unique=True, min_size=1),
)
def test_a_film_has_a_label_by_its_definition_alone(rows, labels):
    """A row does not depend on the other rows, nor a column on the other columns."""

    def has(genres, keywords, label):
        if label in GENRES:
            return label in genres
        subgenre = SUBGENRES[label]
        by_genres = bool(subgenre.genres) and set(subgenre.genres) <= set(genres)
        return by_genres or not set(subgenre.keywords).isdisjoint(keywords)

    expected = [[int(has(*row, label)) for label in labels] for row in rows]
    assert label_matrix(films(*rows), labels).tolist() == expected


def test_every_label_set_can_be_found():
    everything = films((list(GENRES), KEYWORDS))
    for labels in LABEL_SETS.values():
        assert label_matrix(everything, labels).all()
