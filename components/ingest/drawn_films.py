"""Invented films: title, year and genres of the posters that `drawing` draws.

A film is a function of its number and a seed, so film 7 is the same film in a
catalogue of ten and in one of ten thousand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from marquee.errors import DataError
from marquee.genres import VISUAL_GENRES

T = TypeVar("T")

LABEL_NOISE = 0.05
"""Share of films with one label swapped, added or lost: two sources never quite agree."""

SILENT_GENRES = {"Action": 0.45, "Comedy": 0.4, "Horror": 0.4, "Romance": 0.5}
"""Chance that a second or third genre leaves no trace on the poster; see `OTHER_SILENT_GENRE`."""

OTHER_SILENT_GENRE = 0.03
"""The same for the other genres."""

_YEARS: dict[tuple[int, int], float] = {
    (1915, 1930): 7,
    (1930, 1960): 13,
    (1960, 1980): 15,
    (1980, 1990): 13,
    (1990, 2000): 13,
    (2000, 2010): 14,
    (2010, 2020): 15,
    (2020, 2026): 10,
}
"""Half-open spans of years and their weights; the spans are `marquee.eras`' eras."""

_GENRE_COUNTS = {1: 0.43, 2: 0.42, 3: 0.15}

_LEADS: dict[str, float] = {
    "Action": 8.0,
    "Adventure": 3.5,
    "Animation": 6.0,
    "Comedy": 11.5,
    "Crime": 4.0,
    "Documentary": 7.0,
    "Drama": 9.0,
    "Family": 3.5,
    "Fantasy": 4.5,
    "History": 4.5,
    "Horror": 9.0,
    "Music": 5.5,
    "Mystery": 3.5,
    "Romance": 6.5,
    "Science Fiction": 5.0,
    "Thriller": 4.0,
    "War": 5.0,
    "Western": 7.0,
}
"""Weight of each genre as a film's first."""

_COMPANIONS: dict[str, dict[str, float]] = {
    "Action": {"Thriller": 4, "Adventure": 4, "Science Fiction": 4, "Crime": 4, "War": 1},
    "Adventure": {"Action": 3, "Fantasy": 4, "Family": 3, "History": 1, "Western": 1},
    "Animation": {"Family": 6, "Comedy": 3, "Adventure": 2, "Fantasy": 2, "Music": 1},
    "Comedy": {"Romance": 6, "Drama": 4, "Family": 3, "Music": 2, "Crime": 1, "Horror": 1},
    "Crime": {"Thriller": 4, "Drama": 3, "Mystery": 4, "Action": 3},
    "Documentary": {"History": 4, "Music": 4, "War": 2, "Family": 1},
    "Drama": {"Romance": 4, "History": 2, "Crime": 2, "War": 2, "Mystery": 2, "Music": 2},
    "Family": {"Comedy": 3, "Animation": 2, "Adventure": 3, "Fantasy": 3},
    "Fantasy": {"Adventure": 4, "Family": 3, "Action": 2, "Animation": 2, "Romance": 1},
    "History": {"Drama": 5, "War": 4, "Documentary": 1, "Adventure": 1, "Western": 1},
    "Horror": {"Thriller": 5, "Mystery": 4, "Science Fiction": 3, "Fantasy": 1, "Comedy": 1},
    "Music": {"Comedy": 2, "Drama": 4, "Romance": 3, "Documentary": 2, "Animation": 1},
    "Mystery": {"Thriller": 4, "Crime": 4, "Drama": 2, "Horror": 2, "Fantasy": 1},
    "Romance": {"Drama": 5, "Comedy": 5, "Music": 2, "Fantasy": 1, "History": 1},
    "Science Fiction": {"Action": 4, "Adventure": 3, "Thriller": 2, "Horror": 2, "Mystery": 2},
    "Thriller": {"Crime": 4, "Mystery": 4, "Action": 3, "Drama": 2, "Horror": 2},
    "War": {"Drama": 4, "History": 4, "Action": 3, "Romance": 1},
    "Western": {"Action": 3, "Drama": 3, "Adventure": 3, "History": 1, "Music": 1},
}
"""Which genres join a first genre, and how readily."""

_NOUNS: dict[str, tuple[str, ...]] = {
    "Action": ("Strike", "Impact", "Bullet", "Fury", "Vanguard", "Overdrive"),
    "Adventure": ("Horizon", "Summit", "Voyage", "Expedition", "Passage", "Tide"),
    "Animation": ("Pip", "Button", "Bumble", "Nibbles", "Moonbeam", "Turnip"),
    "Comedy": ("Wedding", "Cousin", "Holiday", "Neighbour", "Lodger", "Picnic"),
    "Crime": ("Alibi", "Ledger", "Precinct", "Heist", "Informer", "Cellblock"),
    "Documentary": ("Archive", "Witness", "River", "Record", "Harvest", "Portrait"),
    "Drama": ("Winter", "Orchard", "Daughter", "Silence", "Harbour", "Letter"),
    "Family": ("House", "Birthday", "Summer", "Treehouse", "Puppy", "Kite"),
    "Fantasy": ("Crown", "Kingdom", "Ember", "Enchanter", "Mirror", "Thorn"),
    "History": ("Empire", "Senate", "Queen", "Dynasty", "Century", "Treaty"),
    "Horror": ("Grave", "Hollow", "Cellar", "Curse", "Flesh", "Midnight"),
    "Music": ("Chorus", "Melody", "Encore", "Rhythm", "Ballad", "Overture"),
    "Mystery": ("Key", "Secret", "Cipher", "Stranger", "Room", "Shadow"),
    "Romance": ("Heart", "Kiss", "Promise", "Paris", "Rose", "Waltz"),
    "Science Fiction": ("Orbit", "Signal", "Nebula", "Android", "Colony", "Eclipse"),
    "Thriller": ("Target", "Vertigo", "Hour", "Pursuit", "Witness", "Knife"),
    "War": ("Regiment", "Trench", "Salute", "Bridge", "Battalion", "Front"),
    "Western": ("Canyon", "Marshal", "Mesa", "Saddle", "Dust", "Rider"),
}
_ADJECTIVES = (
    "Last", "Silent", "Golden", "Broken", "Distant", "Crimson", "Second", "Hidden", "Long",
    "Hollow", "Blue", "Northern", "Forgotten", "Restless", "Little", "Burning", "Paper", "Quiet",
)  # fmt: skip
_PLACES = (
    "Carrow", "Eastwick", "Almeria", "Halden", "Lisbon", "the North", "Salt Creek", "Verona",
    "the Valley", "Ostend", "Mars", "Marlow", "the Harbour", "Sable Point",
)  # fmt: skip
_PATTERNS = (
    "{noun}", "The {noun}", "The {adjective} {noun}", "{adjective} {noun}", "{noun} of {place}",
    "{noun} and {other}", "One {noun} in {place}", "{adjective} {other}", "The {noun} at {place}",
)  # fmt: skip
_OFF_TOPIC = 0.25
"""Chance that a title's noun comes from any genre: a title hints, it does not tell."""


@dataclass(frozen=True)
class DrawnFilm:
    """A film that exists only to have its poster drawn."""

    film_id: str
    """`drawn-` and the film's number in six digits."""

    title: str
    """An invented title."""

    year: int
    """Release year, 1915 to 2025."""

    genres: tuple[str, ...]
    """One to three labels as a catalogue would give them: a few per cent are wrong."""

    motifs: tuple[str, ...]
    """The genres that the poster really shows, the largest first."""

    seed: int
    """Seed of the poster's drawing."""


def drawn_film(number: int, seed: int = 0) -> DrawnFilm:
    """Invent a film.

    Args:
        number: The film's number, 0 to 999,999; films do not depend on one another.
        seed: Another seed gives another catalogue.

    Returns:
        The same film for the same arguments.

    Raises:
        DataError: The number does not fit the six digits of a film id.
    """
    if not 0 <= number < 1_000_000:
        raise DataError(f"film number {number} is outside 0..999999", remedy="use a smaller number")
    rng = Random(f"drawn-film/{seed}/{number}")
    first, end = _pick(_YEARS, rng)
    year = rng.randrange(first, end)
    true = _true_genres(rng)
    return DrawnFilm(
        film_id=f"drawn-{number:06d}",
        title=_title(true, rng),
        year=year,
        genres=_with_label_noise(true, rng),
        motifs=_shown(true, rng),
        seed=rng.getrandbits(32),
    )


def _pick(weights: Mapping[T, float], rng: Random) -> T:
    return rng.choices(list(weights), list(weights.values()))[0]


def _true_genres(rng: Random) -> tuple[str, ...]:
    lead = _pick(_LEADS, rng)
    companions = dict(_COMPANIONS[lead])
    genres = [lead]
    for _ in range(_pick(_GENRE_COUNTS, rng) - 1):
        genres.append(_pick(companions, rng))
        del companions[genres[-1]]
    return tuple(genres)


def _shown(true: Sequence[str], rng: Random) -> tuple[str, ...]:
    lead, *others = true
    chances = [SILENT_GENRES.get(genre, OTHER_SILENT_GENRE) for genre in others]
    return lead, *(g for g, chance in zip(others, chances, strict=True) if rng.random() >= chance)


def _with_label_noise(true: Sequence[str], rng: Random) -> tuple[str, ...]:
    if rng.random() >= LABEL_NOISE:
        return tuple(true)
    labels = list(true)
    stray = rng.choice([genre for genre in VISUAL_GENRES if genre not in labels])
    if len(labels) == 1:
        labels.append(stray)
    elif rng.random() < 0.5:
        labels.pop()
    else:
        labels[-1] = stray
    return tuple(labels)


def _title(genres: Sequence[str], rng: Random) -> str:
    topic = rng.choice(VISUAL_GENRES) if rng.random() < _OFF_TOPIC else genres[0]
    noun, other = rng.sample(_NOUNS[topic], 2)
    words = {"noun": noun, "other": other}
    return rng.choice(_PATTERNS).format(
        adjective=rng.choice(_ADJECTIVES), place=rng.choice(_PLACES), **words
    )
