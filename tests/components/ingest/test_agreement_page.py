"""The page and the table on how label sources agree: what they say in each case."""

import re

import pandas as pd
import pytest

from components.ingest.agreement_page import agreement_page, agreement_table
from marquee.agreement import LabelAgreement, label_agreement, label_status

ATTRIBUTION = "Information courtesy of IMDb (https://www.imdb.com). Used with permission."
COUNTS = {
    "Animation": (40, 1, 1),
    "Comedy": (85, 8, 7),
    "History": (20, 15, 15),
    "Western": (3, 0, 9),
}
"""Films that both sources, the first only and the second only give a genre."""


def measured(
    first: str = "tmdb", second: str = "imdb", counts: dict = COUNTS, era: str = "digital"
) -> LabelAgreement:
    """Films with one genre each; where only one source gives it, the other says Drama."""
    films = []
    for genre, (both, first_only, second_only) in counts.items():
        films += [{first: [genre], second: [genre]}] * both
        films += [{first: [genre], second: ["Drama"]}] * first_only
        films += [{first: ["Drama"], second: [genre]}] * second_only
    eras = [era] * (len(films) - 1) + ["silent"]
    frame = pd.DataFrame({"label_sources": films, "era": eras})
    return label_agreement(frame.assign(agreement=[label_status(film) for film in films]))


def text_of(page: str) -> str:
    body = re.sub(r"<(style|title)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("&#39;", "'").split())


def test_the_page_says_what_agrees_and_what_to_distrust():
    text = text_of(agreement_page(measured(), "catalog 12ab"))
    assert "catalog 12ab" in text
    assert "TMDB and IMDb agree well on Animation and Comedy." in text
    # Drama: 55 films, never by both; History: 20 of 50. Western: 12 films are too few.
    assert "Distrust the labels of Drama (0%) and History (40%)" in text
    assert "films compared 204 that both label, of 204" in text
    assert "disputed labels 43%" in text
    assert "History 50 20 15 15 0.400" in text
    assert "History 20 15 15 0 0.600" in text
    assert "--set balance.disagreement=mask" in text
    assert text.endswith(ATTRIBUTION)


def test_eras_with_few_films_are_marked_or_left_out():
    text = text_of(agreement_page(measured()))
    matrix = text.partition("TMDB and IMDb by genre and era")[2]
    assert matrix.startswith(" digital Drama 0.00 History 0.40 Comedy 0.85 Animation 0.95")
    assert "Left out, with few films of any genre: silent." in matrix


def test_sources_other_than_imdb_need_no_attribution():
    text = text_of(agreement_page(measured("movielens", "zine"), attributions=["Thanks."]))
    assert "MovieLens and zine agree well" in text
    assert "IMDb" not in text
    assert text.endswith("Thanks.")


def test_a_genre_that_a_source_does_not_know_is_not_compared():
    counts = {"Comedy": (30, 0, 0), "History": (0, 25, 0)}
    text = text_of(agreement_page(measured("tmdb", "movielens", counts)))
    assert "MovieLens never gives History: there is nothing to compare." in text
    assert "History 25 0 25 0 n/a n/a" in text


def test_few_films_judge_nothing():
    text = text_of(agreement_page(measured(counts={"War": (3, 0, 0)})))
    assert "TMDB and IMDb both label 3 films: too few to judge any genre" in text
    assert "by genre and era" not in text


NOTHING = {
    "no source": ([{}, {}], "does not say which source its genres come from", False),
    "one source": ([{"tmdb": ["War"]}], "labels of one source only, TMDB (1 film)", False),
    "no common film": (
        [{"tmdb": ["War"]}, {"imdb": ["War"]}, {"imdb": ["War"]}],
        "no film has labels of two sources: TMDB (1 film) and IMDb (2 films)",
        True,
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_page_with_nothing_to_compare_says_why_and_what_to_do(name):
    films, why, attributed = NOTHING[name]
    agreement = label_agreement(pd.DataFrame({"label_sources": films, "era": "digital"}))
    page = agreement_page(agreement)
    text = text_of(page)
    assert "Nothing to compare" in text
    assert why in text
    assert "--imdb title.basics.tsv.gz" in text
    assert (ATTRIBUTION in text) == attributed
    assert "outcome-inconclusive" in page
    assert agreement_table(agreement) == (["genre"], [])


def test_the_page_stands_alone():
    page = agreement_page(measured("tmdb", "<script>"))
    for forbidden in ("<script", "@import", "url(", "src=", "href="):
        assert forbidden not in page


def test_three_sources_stand_beside_each_other():
    films = [{"tmdb": ["War"], "imdb": ["War"], "movielens": ["War"]}] * 30
    agreement = label_agreement(pd.DataFrame({"label_sources": films, "era": "digital"}))
    text = text_of(agreement_page(agreement))
    assert "pairs of sources beside each other" in text
    for title in ("TMDB and IMDb", "TMDB and MovieLens", "IMDb and MovieLens"):
        assert f"{title} by genre" in text
    assert agreement_table(agreement) == (
        [
            "genre",
            *("TMDB and IMDb Jaccard", "kappa"),
            *("TMDB and MovieLens Jaccard", "kappa"),
            *("IMDb and MovieLens Jaccard", "kappa"),
        ],
        [["War", *["1.00", "n/a"] * 3], ["mean", *["1.00", "n/a"] * 3]],
    )


def test_the_table_puts_the_least_agreed_first():
    columns, rows = agreement_table(measured())
    assert columns == ["genre", "TMDB and IMDb Jaccard", "kappa"]
    assert [row[0] for row in rows] == [
        *("Drama", "History", "Comedy", "Animation", "Western"),
        "mean",
    ]
    assert rows[1][1] == "0.40"
    assert rows[-1][1] == f"{(0 + 0.4 + 0.85 + 40 / 42 + 0.25) / 5:.2f}"
