"""The drawn source: posters that Marquee draws itself, free of any licence."""

from collections.abc import Iterator
from functools import partial

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import DrawnFilm, drawn_film
from components.ingest.source import Offer
from marquee.catalog import Facts, Known
from marquee.errors import UsageError

LICENCE = "CC0-1.0"


class DrawnSource:
    """Offers procedurally drawn posters, the same for the same seed.

    Args:
        films: How many.
        seed: Chooses the films.

    Raises:
        UsageError: `films` is not positive.
    """

    def __init__(self, films: int, seed: int = 0) -> None:
        if films < 1:
            raise UsageError(f"cannot draw {films} posters", remedy="ask for 1 or more")
        self.name = f"drawn:{seed}"
        self._films = films
        self._seed = seed

    def total(self, known: Known) -> int:
        """Count the posters."""
        return self._films

    def items(self, known: Known) -> Iterator[Offer]:
        """Draw the posters, one after the other."""
        for number in range(self._films):
            film = drawn_film(number, self._seed)
            yield Offer(facts=_facts(film), row=None, read=partial(draw_poster, film))


def _facts(film: DrawnFilm) -> Facts:
    return Facts(
        poster_id=film.film_id,
        film_id=film.film_id,
        title=film.title,
        year=film.year,
        genres=film.genres,
        label_sources={"drawn": film.genres},
        source="drawn",
        licence=LICENCE,
    )
