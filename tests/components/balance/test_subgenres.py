"""Plans for subgenres: which labels a catalog has films for, and who is disputed."""

import pytest

from components.balance.balance import balance
from components.balance.page import balance_page
from components.balance.posters import STATUSES, read_posters
from marquee.catalog import Catalog, CatalogWriter, Facts, Poster
from marquee.errors import DataGateFailed
from marquee.genres import label_columns, label_matrix, label_set
from marquee.images import Attributes
from marquee.settings import BalanceSettings
from marquee.split import SplitPlan

ENOUGH = BalanceSettings(subgenre_films=6)
"""The drawn films are 240."""


@pytest.fixture(scope="module")
def plan(drawn_catalog):
    return balance(drawn_catalog, "subgenres", ENOUGH)


def catalog(folder, films):
    """A catalog of facts: each film is a dictionary of what it does not share with the others."""
    writer = CatalogWriter(str(folder), "test", part_rows=1000)
    for number, facts in enumerate(films):
        name = {"poster_id": f"p{number:03d}", "film_id": f"f{number:03d}", "title": "x"}
        shared = {"year": 2000, "genres": ("Drama",), "source": "test", "licence": "CC0-1.0"}
        writer.add(
            Poster(
                facts=Facts(**(name | shared | facts)),
                data=str(number).encode(),
                perceptual_hash=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
                mode="RGB",
                width=20,
                height=30,
                attributes=Attributes(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
            )
        )
    writer.publish()
    return str(folder)


def test_the_plan_has_the_subgenres_with_enough_films_alone(plan, drawn_catalog):
    labels = label_set("subgenres")
    frame = Catalog(drawn_catalog).frame(label_columns(labels))
    films = dict(zip(labels, label_matrix(frame, labels).sum(axis=0).tolist(), strict=True))
    assert plan.genres == tuple(label for label in labels if films[label] >= 6)
    assert 4 <= len(plan.genres) < len(labels)
    assert plan.balance["labels_left_out"] == {
        label: count for label, count in films.items() if count < 6
    }
    assert set(plan.balance["genres"]) == set(plan.balance["class_weights"]) == set(plan.genres)
    assert {len(weights) for weights in plan.frame["label_weights"]} == {len(plan.genres)}


def test_films_with_none_of_the_labels_are_left_out(plan, drawn_catalog):
    frame = Catalog(drawn_catalog).frame(label_columns(plan.genres))
    has_one = label_matrix(frame, plan.genres).any(axis=1)
    assert set(plan.frame["poster_id"]) == set(frame.loc[has_one, "poster_id"])
    assert plan.balance["left_out"] == len(frame) - has_one.sum() > 0


def test_the_page_says_what_was_left_out(plan, drawn_catalog):
    page = balance_page(plan)
    assert "Subgenres left out" in page
    assert "Fewer than 6 films" in page
    assert "without a label of subgenres" in page
    assert "Subgenres left out" not in balance_page(
        balance(drawn_catalog, "all18", BalanceSettings())
    )


def test_the_plan_is_read_as_it_was_written(plan, tmp_path):
    plan.write(str(tmp_path))
    read = SplitPlan.read(str(tmp_path))
    assert (read.label_set, read.genres) == ("subgenres", plan.genres)
    assert (read.digest, read.training_digest) == (plan.digest, plan.training_digest)


def test_several_posters_of_a_film_count_once(tmp_path):
    films = [{"film_id": "one", "keywords": ("spy",)}] * 30
    films += [{"genres": ("Drama", "War")}] * 30
    plan = balance(catalog(tmp_path, films), "subgenres", BalanceSettings(subgenre_films=2))
    assert plan.genres == ("War Drama",)
    assert plan.balance["labels_left_out"]["Spy"] == 1


def test_keywords_make_labels(tmp_path):
    films = [{"keywords": ("superhero", "city")}] * 30 + [{"genres": ("Drama", "War")}] * 30
    plan = balance(catalog(tmp_path, films), "subgenres", BalanceSettings(subgenre_films=30))
    assert plan.genres == ("Superhero", "War Drama")
    assert {name: row["count"] for name, row in plan.balance["genres"].items()} == {
        "Superhero": 30,
        "War Drama": 30,
    }


def test_a_catalog_without_subgenres_is_refused(drawn_catalog):
    with pytest.raises(DataGateFailed, match=r"no subgenre has 200 films; .* has the most, \d+: "):
        balance(drawn_catalog, "subgenres", BalanceSettings(subgenre_films=200))


DISPUTES = {
    "both sources give both genres": ({"Romance": "agree", "Comedy": "agree"}, "agree"),
    "TMDB alone gives one": ({"Romance": "agree", "Comedy": "tmdb_only"}, "tmdb_only"),
    "IMDb alone gives one": ({"Romance": "imdb_only", "Comedy": "agree"}, "imdb_only"),
    "TMDB alone gives both": ({"Romance": "tmdb_only", "Comedy": "tmdb_only"}, "tmdb_only"),
    "each gives another one": ({"Romance": "tmdb_only", "Comedy": "imdb_only"}, ""),
    "IMDb could not have said one": ({"Romance": "tmdb_only", "Comedy": "unknown"}, "unknown"),
    "one that nobody gives": ({"Romance": "tmdb_only"}, ""),
    "another genre": ({"Romance": "agree", "Comedy": "agree", "War": "tmdb_only"}, "agree"),
}


@pytest.mark.parametrize("name", DISPUTES)
def test_a_subgenre_is_disputed_where_its_genres_are(name, tmp_path):
    agreement, expected = DISPUTES[name]
    film = {"genres": ("Romance", "Comedy"), "keywords": ("spy",), "agreement": agreement}
    posters, _ = read_posters(Catalog(catalog(tmp_path, [film])), ("Spy", "Romantic Comedy"))
    assert [STATUSES[code] for code in posters.statuses[0]] == ["", expected]
