"""The films that a server offers: looked up by id, sliced by date, changed and removed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from components.ingest.tmdb_server import films
from components.ingest.tmdb_server.films import Film, Poster
from marquee.errors import DataError
from marquee.genres import TMDB_GENRE_IDS

ORDERS = ("popularity.desc", "popularity.asc", "primary_release_date.desc",
          "primary_release_date.asc")  # fmt: skip
"""What `Catalogue.discover` can sort by."""

_POSTER_PATH = re.compile(r"/(\d{7,8})v(\d{1,6})\.jpg", re.ASCII)
_FIRST_NEW_POSTER = 100


def today() -> date:
    """Give the date in UTC, which TMDB's changes go by."""
    return datetime.now(UTC).date()


class Catalogue:
    """The first films that `films.film` invents, and what was changed of them since.

    Only two narrow columns are held in memory: a film's facts are invented again when asked for.

    Args:
        count: How many films.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._edited: dict[int, Film] = {}
        self._removed: set[int] = set()
        self._changed: dict[int, date] = {}
        kinds = [("day", "i4"), ("popularity", "f4")]
        rows = ((f.release_date.toordinal(), f.popularity) for f in map(films.film, range(count)))
        table = np.fromiter(rows, kinds, count)
        self._days = table["day"].copy()
        by_day = np.argsort(self._days, kind="stable").astype(np.int32)
        by_popularity = np.argsort(table["popularity"], kind="stable").astype(np.int32)
        self._orders = dict(
            zip(ORDERS, (by_popularity[::-1], by_popularity, by_day[::-1], by_day), strict=True)
        )

    def by_tmdb_id(self, tmdb_id: int) -> Film | None:
        """Look a film up, or give None."""
        return self._film(films.number_of_tmdb(tmdb_id))

    def by_imdb_id(self, imdb_id: str) -> Film | None:
        """Look a film up, or give None."""
        return self._film(films.number_of_imdb(imdb_id))

    def _film(self, number: int) -> Film | None:
        if not self._holds(number):
            return None
        return self._edited.get(number) or films.film(number)

    def _holds(self, number: int) -> bool:
        return 0 <= number < self.count and number not in self._removed

    def discover(
        self, first: date, last: date, order: str, start: int, length: int
    ) -> tuple[list[Film], int]:
        """Give a stretch of the films that came out in a span of days.

        Args:
            first: The first day, included.
            last: The last day, included.
            order: One of `ORDERS`.
            start: How many films to skip.
            length: How many to give.

        Returns:
            The films, and how many the span holds in all.
        """
        numbers = self._orders[order]
        days = self._days[numbers]
        found = numbers[(days >= first.toordinal()) & (days <= last.toordinal())]
        stretch = [self._film(int(number)) for number in found[start : start + length]]
        return [film for film in stretch if film], len(found)

    def changed(self, first: date, last: date) -> list[int]:
        """Give the ids of the films that were changed or removed in a span of days."""
        return [
            films.film(number).tmdb_id
            for number, day in self._changed.items()
            if first <= day <= last
        ]

    def may_hold(self, path: str) -> bool:
        """Tell at little cost whether `poster` may find a path: whether its film is there."""
        match = _POSTER_PATH.fullmatch(path)
        return match is not None and self._holds(films.number_of_tmdb(int(match[1])))

    def poster(self, path: str) -> Poster | None:
        """Find a poster by its path; a film's earlier posters stay.

        Args:
            path: The `file_path` of an answer, such as `/9000000v0.jpg`.
        """
        match = _POSTER_PATH.fullmatch(path)
        film = self.by_tmdb_id(int(match[1])) if match else None
        if film is None:
            return None
        return next((poster for poster in films.posters(film) if poster.path == path), None)

    def change(
        self,
        tmdb_id: int,
        *,
        title: str | None = None,
        genres: Sequence[str] | None = None,
        poster: bool = False,
    ) -> None:
        """Change a film, today.

        Args:
            tmdb_id: Which film.
            title: Its new title.
            genres: Its new genres, in TMDB's spelling.
            poster: Give it another poster, at another path.

        Raises:
            DataError: There is no such film, or a genre is unknown.
        """
        film = self._known(tmdb_id)
        unknown = [genre for genre in genres or () if genre not in TMDB_GENRE_IDS]
        if unknown:
            raise DataError(f"unknown genre {unknown[0]!r}", remedy="use TMDB's spelling")
        added = (_FIRST_NEW_POSTER + len(film.new_posters),) if poster else ()
        self._edited[film.number] = replace(
            film,
            title=title or film.title,
            genres=tuple(genres) if genres is not None else film.genres,
            new_posters=added + film.new_posters,
        )
        self._changed[film.number] = today()

    def remove(self, tmdb_id: int) -> None:
        """Remove a film, today; it stays in the list of changes.

        Raises:
            DataError: There is no such film.
        """
        number = self._known(tmdb_id).number
        self._removed.add(number)
        self._changed[number] = today()
        self._orders = {name: kept[kept != number] for name, kept in self._orders.items()}

    def _known(self, tmdb_id: int) -> Film:
        film = self.by_tmdb_id(tmdb_id)
        if film is None:
            raise DataError(
                f"the server has no film {tmdb_id}", remedy="take an id from its answers"
            )
        return film
