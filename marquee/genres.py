"""Genre names, subgenres and label sets, and what labels a film has; in TMDB's spelling."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marquee.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Subgenre:
    """What makes a film one of a subgenre: all of the genres, or any of the keywords."""

    genres: tuple[str, ...] = ()
    """A film that has all of them is one; without any, keywords alone decide."""
    keywords: tuple[str, ...] = ()
    """TMDB's, in lower case."""


SUBGENRES: dict[str, Subgenre] = {
    "Action Adventure": Subgenre(("Action", "Adventure"), ("swashbuckler",)),
    "Action Comedy": Subgenre(("Action", "Comedy"), ("action comedy", "buddy cop")),
    "Action Thriller": Subgenre(("Action", "Thriller"), ("action thriller",)),
    "Christmas": Subgenre((), ("christmas", "christmas eve", "santa claus")),
    "Crime Comedy": Subgenre(("Crime", "Comedy"), ("crime comedy", "caper")),
    "Crime Drama": Subgenre(("Crime", "Drama"), ("crime drama",)),
    "Crime Thriller": Subgenre(("Crime", "Thriller"), ("crime thriller",)),
    "Family Animation": Subgenre(("Animation", "Family")),
    "Family Comedy": Subgenre(("Family", "Comedy"), ("family comedy",)),
    "Fantasy Adventure": Subgenre(
        ("Fantasy", "Adventure"), ("sword and sorcery", "high fantasy", "fantasy adventure")
    ),
    "Film Noir": Subgenre((), ("film noir",)),
    "Gangster": Subgenre((), ("gangster", "mafia", "mobster", "yakuza")),
    "Historical Drama": Subgenre(
        ("History", "Drama"), ("historical drama", "period drama", "costume drama")
    ),
    "Horror Comedy": Subgenre(("Horror", "Comedy"), ("horror comedy", "comedy horror")),
    "Horror Thriller": Subgenre(("Horror", "Thriller"), ("horror thriller",)),
    "Martial Arts": Subgenre((), ("martial arts", "kung fu", "karate", "wuxia")),
    "Musical": Subgenre((), ("musical", "stage musical", "broadway musical", "rock opera")),
    "Musical Comedy": Subgenre(("Music", "Comedy"), ("musical comedy",)),
    "Mystery Thriller": Subgenre(("Mystery", "Thriller"), ("mystery thriller",)),
    "Romantic Comedy": Subgenre(("Romance", "Comedy"), ("romantic comedy", "romcom")),
    "Romantic Drama": Subgenre(("Romance", "Drama"), ("romantic drama", "tragic romance")),
    "Science Fiction Action": Subgenre(("Science Fiction", "Action"), ("sci-fi action",)),
    "Science Fiction Adventure": Subgenre(("Science Fiction", "Adventure"), ("space opera",)),
    "Science Fiction Horror": Subgenre(("Science Fiction", "Horror"), ("sci-fi horror",)),
    "Slasher": Subgenre((), ("slasher",)),
    "Spy": Subgenre((), ("spy", "secret agent", "espionage", "spy thriller")),
    "Superhero": Subgenre((), ("superhero", "superhero team", "superheroine")),
    "Vampire": Subgenre((), ("vampire", "dracula")),
    "War Drama": Subgenre(("War", "Drama"), ("war drama",)),
    "Zombie": Subgenre((), ("zombie", "zombie apocalypse", "living dead")),
}
"""Subgenres that are frequent and that posters show. Those of two genres are found in any catalog,
the others where films have keywords; what a catalog has too few films of is left out of its plan
(`balance.subgenre_films`)."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "all18": VISUAL_GENRES,
    "study4": ("Comedy", "Horror", "Action", "Romance"),
    "subgenres": tuple(SUBGENRES),
}
"""What a model can be asked to predict; the order is the order of its outputs."""

_CANONICAL = {genre.casefold(): genre for genre in GENRES}


def label_set(name: str) -> tuple[str, ...]:
    """Look a label set up.

    Args:
        name: `all18`, `study4` or `subgenres`.

    Returns:
        Its labels, in the order of a model's outputs.

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


def label_columns(labels: Sequence[str]) -> tuple[str, ...]:
    """Name the columns of a catalog that `label_matrix` reads.

    Args:
        labels: Genres or subgenres.
    """
    by_keyword = any(_definition(label).keywords for label in labels)
    return ("genres", "keywords") if by_keyword else ("genres",)


def label_matrix(frame: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.int8]:
    """Find which labels each film has.

    Args:
        frame: N rows with lists of names in `label_columns(labels)`.
        labels: G genres or subgenres; a film's other genres and keywords do not matter.

    Returns:
        Zeros and ones [N, G].

    Raises:
        DataError: A label is neither a genre nor a subgenre of this Marquee.
    """
    definitions = [_definition(label) for label in labels]
    genres = _marks(frame["genres"], [[genre] for genre in GENRES])
    result = np.zeros((len(frame), len(labels)), np.int8)
    for g, definition in enumerate(definitions):
        if definition.genres:
            places = [GENRES.index(genre) for genre in definition.genres]
            result[:, g] = genres[:, places].all(axis=1)
    if "keywords" in label_columns(labels):
        result |= _marks(frame["keywords"], [definition.keywords for definition in definitions])
    return result


def _definition(label: str) -> Subgenre:
    if label in TMDB_GENRE_IDS:
        return Subgenre((label,))
    try:
        return SUBGENRES[label]
    except KeyError:
        raise DataError(
            f"{label!r} is neither a genre nor a subgenre",
            remedy="use the Marquee that the model or split plan was made with",
        ) from None


def _marks(rows: pd.Series, meanings: Sequence[Sequence[str]]) -> NDArray[np.int8]:
    """Mark where rows hold a name; case does not matter.

    Args:
        rows: N lists of names; None is an empty one.
        meanings: The names that stand for each of C columns.

    Returns:
        Zeros and ones [N, C].
    """
    columns: dict[str, list[int]] = {}
    for column, names in enumerate(meanings):
        for name in names:
            columns.setdefault(name.casefold(), []).append(column)
    marks = np.zeros((len(rows), len(meanings)), np.int8)
    for row, found in enumerate(rows):
        for name in found if found is not None else ():
            for column in columns.get(name.casefold(), ()):
                marks[row, column] = 1
    return marks
