import pytest

from marquee.eras import ERAS, era_of
from marquee.errors import DataError
from marquee.genres import LABEL_SETS, VISUAL_GENRES, label_set, multi_hot, split_genres, suggest


@pytest.mark.parametrize(
    ("year", "era"),
    [
        (1894, "silent"),
        (1929, "silent"),
        (1930, "golden_age"),
        (1959, "golden_age"),
        (1960, "new_hollywood"),
        (1980, "painted_blockbuster"),
        (1990, "photographic"),
        (2000, "digital"),
        (2010, "streaming"),
        (2019, "streaming"),
        (2020, "current"),
    ],
)
def test_eras_are_half_open(year, era):
    assert era_of(year) == era
    assert era in ERAS


def test_label_sets():
    assert len(VISUAL_GENRES) == 18
    assert "TV Movie" not in VISUAL_GENRES
    assert label_set("study4") == ("Comedy", "Horror", "Action", "Romance")
    assert all(set(genres) <= set(VISUAL_GENRES) for genres in LABEL_SETS.values())
    with pytest.raises(DataError, match="all19"):
        label_set("all19")


def test_genre_cells():
    assert split_genres(" Comedy | science fiction|Comedy|") == (["Comedy", "Science Fiction"], [])
    assert split_genres("Sci-Fi|War") == (["War"], ["Sci-Fi"])
    assert split_genres("") == ([], [])
    assert "Romance" in suggest("Romence")
    assert "Western" in suggest("???")


def test_labels_follow_the_order_of_the_set():
    assert multi_hot([["Romance", "Drama"], []], label_set("study4")) == [
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
