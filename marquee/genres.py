"""Genre names and label sets, in TMDB's spelling."""

import difflib
from collections.abc import Iterable, Sequence

from marquee.errors import DataError

TMDB_GENRE_IDS: dict[str, int] = {
    "Action": 28,
    "Adventure": 12,
    "Animation": 16,
    "Comedy": 35,
    "Crime": 80,
    "Documentary": 99,
    "Drama": 18,
    "Family": 10751,
    "Fantasy": 14,
    "History": 36,
    "Horror": 27,
    "Music": 10402,
    "Mystery": 9648,
    "Romance": 10749,
    "Science Fiction": 878,
    "TV Movie": 10770,
    "Thriller": 53,
    "War": 10752,
    "Western": 37,
}
"""TMDB's 19 film genres and their ids (API v3, `/genre/movie/list`)."""

GENRES: tuple[str, ...] = tuple(TMDB_GENRE_IDS)

VISUAL_GENRES: tuple[str, ...] = tuple(genre for genre in GENRES if genre != "TV Movie")
"""The 18 targets: TV Movie says where a film was shown, not what its poster looks like."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "all18": VISUAL_GENRES,
    "study4": ("Comedy", "Horror", "Action", "Romance"),
}
"""What a model can be asked to predict; the order is the order of its outputs."""

_CANONICAL = {genre.casefold(): genre for genre in GENRES}


def label_set(name: str) -> tuple[str, ...]:
    """Look a label set up.

    Args:
        name: `all18` or `study4`.

    Returns:
        Its genres, in the order of a model's outputs.

    Raises:
        DataError: No label set has this name.
    """
    try:
        return LABEL_SETS[name]
    except KeyError:
        raise DataError(
            f"unknown label set {name!r}", remedy=f"use one of: {', '.join(LABEL_SETS)}"
        ) from None


def split_genres(text: str) -> tuple[list[str], list[str]]:
    """Split a `|`-separated cell into known and unknown genre names.

    Case and surrounding spaces do not matter; the order and the first of duplicates stay.

    Args:
        text: For example `Comedy|romance`; an empty cell gives no genre.

    Returns:
        The known genres in TMDB's spelling, and the names that are none.
    """
    known: dict[str, None] = {}
    unknown: list[str] = []
    for part in filter(None, (part.strip() for part in text.split("|"))):
        genre = _CANONICAL.get(part.casefold())
        if genre is None:
            unknown.append(part)
        else:
            known[genre] = None
    return list(known), unknown


def suggest(name: str) -> str:
    """Say what a wrong genre name may have meant.

    Args:
        name: A name that is no genre.

    Returns:
        A remedy in words.
    """
    close = difflib.get_close_matches(name.casefold(), _CANONICAL, n=1, cutoff=0.6)
    if close:
        return f"did you mean {_CANONICAL[close[0]]!r}?"
    return f"use TMDB's names: {', '.join(GENRES)}"


def multi_hot(genres: Iterable[Sequence[str]], labels: Sequence[str]) -> list[list[int]]:
    """Turn genre lists into label vectors.

    Args:
        genres: N lists of genre names; names outside `labels` are left out.
        labels: The G names of a label set.

    Returns:
        N rows of G zeros and ones.
    """
    return [[int(label in row) for label in labels] for row in genres]
