"""Drawn films and their posters: repeatable, varied, and neither trivial nor hopeless."""

import hashlib
import io
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import DrawnFilm, drawn_film
from marquee.eras import ERAS, era_of
from marquee.errors import DataError
from marquee.genres import VISUAL_GENRES

TMDB_WIDTHS = (92, 154, 185, 342, 500, 780)
YEARS = {
    "silent": 1922,
    "golden_age": 1944,
    "new_hollywood": 1971,
    "painted_blockbuster": 1985,
    "photographic": 1996,
    "digital": 2005,
    "streaming": 2015,
    "current": 2023,
}


def catalogue(films: int = 1500, seed: int = 0) -> list[DrawnFilm]:
    return [drawn_film(number, seed) for number in range(films)]


def opened(film: DrawnFilm, width: int) -> Image.Image:
    return Image.open(io.BytesIO(draw_poster(film, width)))


def test_the_same_arguments_give_the_same_film_and_bytes():
    assert drawn_film(7, seed=3) == drawn_film(7, seed=3)
    assert draw_poster(drawn_film(7, seed=3)) == draw_poster(drawn_film(7, seed=3))


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib;"
        "from components.ingest.drawing import draw_poster;"
        "from components.ingest.drawn_films import drawn_film;"
        "print(hashlib.sha256(draw_poster(drawn_film(11))).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(draw_poster(drawn_film(11))).hexdigest()
    assert there.stdout.strip() == here


def test_a_poster_does_not_depend_on_posters_drawn_before():
    alone = draw_poster(drawn_film(29))
    for number in range(20):
        draw_poster(drawn_film(number), 92 + number)
    assert draw_poster(drawn_film(29)) == alone


def test_number_and_seed_each_change_the_film():
    films = {drawn_film(number, seed) for number in range(50) for seed in range(2)}
    assert len({film.seed for film in films}) == 100


@pytest.mark.parametrize("width", TMDB_WIDTHS)
def test_a_poster_is_a_jpeg_of_two_by_three(width):
    with opened(drawn_film(1), width) as poster:
        assert poster.format == "JPEG"
        assert poster.mode == "RGB"
        assert poster.size == (width, round(width * 1.5))


@pytest.mark.parametrize("number", range(6))
def test_the_composition_is_the_same_at_every_width(number):
    def coarse(film: DrawnFilm, width: int) -> np.ndarray:
        return np.asarray(opened(film, width).resize((20, 30), Image.Resampling.BOX), float)

    film = drawn_film(number)
    usual, other = coarse(film, 342), coarse(drawn_film(number + 100), 342)
    assert np.abs(coarse(film, 92) - usual).mean() < 10
    assert np.abs(coarse(film, 780) - usual).mean() < 10
    assert np.abs(other - usual).mean() > 30


def test_every_genre_draws_in_every_era():
    film = drawn_film(0)
    posters = set()
    for era, year in YEARS.items():
        assert era_of(year) == era
        for genre in VISUAL_GENRES:
            posters.add(draw_poster(replace(film, year=year, motifs=(genre,)), 92))
    assert len(posters) == len(ERAS) * len(VISUAL_GENRES)


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_valid_uneven_and_frequent_enough(seed):
    films = catalogue(seed=seed)
    assert all(1 <= len(film.genres) <= 3 for film in films)
    assert all(len(set(film.genres)) == len(film.genres) for film in films)
    counts = Counter(genre for film in films for genre in film.genres)
    assert set(counts) == set(VISUAL_GENRES)
    assert min(counts.values()) >= 75
    assert max(counts.values()) >= 2.5 * min(counts.values())
    assert 1.6 <= counts.total() / len(films) <= 1.8


def test_labels_are_mostly_what_is_drawn():
    films = catalogue()
    assert all(film.motifs and set(film.motifs) <= set(VISUAL_GENRES) for film in films)
    wrong = [film for film in films if not set(film.motifs) <= set(film.genres)]
    silent = [film for film in films if not set(film.genres) <= set(film.motifs)]
    assert 0.005 <= len(wrong) / len(films) <= 0.06
    assert 0.05 <= len(silent) / len(films) <= 0.2


def test_genres_keep_plausible_company():
    pairs = Counter(
        frozenset((a, b)) for film in catalogue(3000) for a in film.genres for b in film.genres
    )
    for likely, unlikely in (
        (("Horror", "Thriller"), ("Horror", "Family")),
        (("Comedy", "Romance"), ("Western", "Romance")),
        (("Action", "Science Fiction"), ("Western", "Science Fiction")),
    ):
        assert pairs[frozenset(likely)] > 3 * pairs[frozenset(unlikely)]


def test_every_era_occurs():
    films = catalogue()
    eras = Counter(era_of(film.year) for film in films)
    assert set(eras) == set(ERAS)
    assert min(eras.values()) >= 0.03 * len(films)
    assert all(1915 <= film.year <= 2025 for film in films)


@pytest.mark.parametrize("width", [0, 31, 2001])
def test_a_width_out_of_range_is_an_error(width):
    with pytest.raises(DataError, match=rf"poster width {width} is outside"):
        draw_poster(drawn_film(0), width)


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_a_number_out_of_range_is_an_error(number):
    with pytest.raises(DataError, match=rf"film number {number} is outside"):
        drawn_film(number)


@pytest.mark.slow
@pytest.mark.parametrize("label_set", ["all18", "study4"])
def test_colour_is_not_enough_and_shapes_can_be_learned(label_set):
    torch = pytest.importorskip("torch")
    from benchmarks.drawn_difficulty import measure

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        f1 = {name: score for name, (score, _) in measure(1500, 0, label_set).items()}
    finally:
        torch.set_num_threads(threads)
    assert 0.35 <= f1["colour"] <= 0.55
    assert 0.60 <= f1["small CNN"] <= 0.85
    assert max(f1["predict all"], f1["colour"]) < f1["small CNN"]
