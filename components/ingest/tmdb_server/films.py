"""What TMDB would know of the films that `drawn_film` invents.

Everything is a function of the film's number, so film 7 is the same in a catalogue of ten films
and in one of a hundred thousand, and no catalogue needs to be kept in memory.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from random import Random

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import drawn_film

MAX_FILMS = 1_000_000
"""As many as `drawn_film` can invent."""

POSTER_WIDTHS: dict[str, int] = {
    "w92": 92,
    "w154": 154,
    "w185": 185,
    "w342": 342,
    "w500": 500,
    "w780": 780,
    "original": 1000,
}
"""TMDB's poster sizes and their widths in pixels."""

# Ids lie far above those of real films, so that both can live in one catalog. They are a
# permutation of the numbers (multiplication modulo a prime): unique, but not in their order.
_PRIME = 1_000_003
_TMDB_BASE, _TMDB_FACTOR = 9_000_000, 387_420
_IMDB_BASE, _IMDB_FACTOR = 90_000_000, 612_347

_LANGUAGES = {"en": 70, "fr": 8, "it": 6, "ja": 6, "de": 5, "es": 5}
_ALTERNATIVE_LANGUAGES = (None, "en", "fr", "de")
_ALTERNATIVE = 0.35
"""Share of films with a second poster."""

_FAMILY = 20
"""One collection at most among so many neighbours."""
_COLLECTION_SIZES = {0: 50, 2: 30, 3: 15, 4: 5}
_COLLECTION_BASE = 8_000_000

_KEYWORD_BASE = 700_000
_KEYWORDS: dict[str, tuple[str, ...]] = {
    "Action": ("martial arts", "car chase", "hitman", "superhero", "heist gone wrong"),
    "Adventure": ("treasure hunt", "jungle", "pirate", "lost city", "shipwreck"),
    "Animation": ("stop motion", "anthropomorphism", "hand-drawn", "talking animal", "anime"),
    "Comedy": ("slapstick", "romcom", "satire", "mistaken identity", "road trip"),
    "Crime": ("gangster", "detective", "bank robbery", "film noir", "undercover cop"),
    "Documentary": ("nature", "biography", "archive footage", "mountaineering", "true crime"),
    "Drama": ("family relationships", "coming of age", "courtroom", "based on novel", "grief"),
    "Family": ("dog", "christmas", "summer camp", "school", "grandparents"),
    "Fantasy": ("magic", "dragon", "fairy tale", "sword and sorcery", "witch"),
    "History": ("ancient rome", "victorian england", "royalty", "revolution", "biography"),
    "Horror": ("slasher", "haunted house", "vampire", "zombie", "found footage"),
    "Music": ("concert", "jazz", "band", "stage musical", "dance"),
    "Mystery": ("whodunit", "amnesia", "missing person", "private detective", "secret society"),
    "Romance": ("love triangle", "wedding", "first love", "paris, france", "star-crossed lovers"),
    "Science Fiction": ("space opera", "alien", "time travel", "dystopia", "android"),
    "Thriller": ("serial killer", "kidnapping", "conspiracy", "spy", "revenge"),
    "War": ("world war ii", "trench warfare", "resistance", "submarine", "prisoner of war"),
    "Western": ("gunslinger", "sheriff", "outlaw", "spaghetti western", "cattle drive"),
}
_KEYWORD_IDS = {
    keyword: _KEYWORD_BASE + number
    for number, keyword in enumerate(dict.fromkeys(k for ks in _KEYWORDS.values() for k in ks))
}


@dataclass(frozen=True)
class Film:
    """A film as TMDB describes it."""

    number: int
    tmdb_id: int
    imdb_id: str
    title: str
    genres: tuple[str, ...]
    """In TMDB's spelling, one or more."""
    release_date: date
    language: str
    """Of the film, as ISO 639-1."""
    popularity: float
    vote_average: float
    vote_count: int
    runtime: int
    """In minutes."""
    new_posters: tuple[int, ...] = ()
    """Variants that were added to the film's first posters, the newest first."""


@dataclass(frozen=True)
class Poster:
    """One of a film's posters."""

    tmdb_id: int
    variant: int
    """0 is the film's first poster; each variant is another drawing."""
    language: str | None

    @property
    def path(self) -> str:
        """The `file_path` of TMDB's answers."""
        return f"/{self.tmdb_id}v{self.variant}.jpg"


@lru_cache(maxsize=1024)
def film(number: int) -> Film:
    """Invent what TMDB would know of a film.

    Args:
        number: The film's number, 0 to 999,999.

    Returns:
        The same film for the same number.
    """
    drawn = drawn_film(number)
    rng = Random(f"tmdb-film/{number}")
    new_year = date(drawn.year, 1, 1)
    days = (date(drawn.year + 1, 1, 1) - new_year).days
    return Film(
        number=number,
        tmdb_id=_TMDB_BASE + number * _TMDB_FACTOR % _PRIME,
        imdb_id=f"tt{_IMDB_BASE + number * _IMDB_FACTOR % _PRIME}",
        title=drawn.title,
        genres=drawn.genres,
        release_date=new_year + timedelta(rng.randrange(days)),
        language=rng.choices(list(_LANGUAGES), list(_LANGUAGES.values()))[0],
        popularity=round(rng.lognormvariate(1.5, 1.2), 4),
        vote_average=round(rng.betavariate(7, 4) * 10, 1),
        vote_count=int(rng.lognormvariate(4, 1.8)),
        runtime=rng.randrange(62, 169),
    )


def number_of_tmdb(tmdb_id: int) -> int:
    """Find which film has an id; the number may lie outside every catalogue."""
    return _number_of(tmdb_id - _TMDB_BASE, _TMDB_FACTOR)


def number_of_imdb(imdb_id: str) -> int:
    """Find which film has an id; the number may lie outside every catalogue."""
    digits = imdb_id.removeprefix("tt")
    sound = digits.isascii() and digits.isdigit() and len(digits) == len(str(_IMDB_BASE))
    return _number_of(int(digits) - _IMDB_BASE, _IMDB_FACTOR) if sound else -1


def _number_of(residue: int, factor: int) -> int:
    if not 0 <= residue < _PRIME:
        return -1
    return residue * pow(factor, -1, _PRIME) % _PRIME


def posters(film: Film) -> tuple[Poster, ...]:
    """List a film's posters, the one that stands for it first."""
    rng = Random(f"tmdb-posters/{film.number}")
    found = [Poster(film.tmdb_id, variant, "en") for variant in (*film.new_posters, 0)]
    if rng.random() < _ALTERNATIVE:
        found.append(Poster(film.tmdb_id, 1, rng.choice(_ALTERNATIVE_LANGUAGES)))
    return tuple(found)


def keywords(film: Film) -> dict[str, int]:
    """Give a film's keywords and their ids: one to five, from the words of its genres."""
    rng = Random(f"tmdb-keywords/{film.number}")
    words = [word for genre in film.genres for word in _KEYWORDS.get(genre, ())]
    words = rng.sample(words, min(len(words), rng.randrange(1, 6)))
    return {word: _KEYWORD_IDS[word] for word in dict.fromkeys(words)}


def collection(film: Film) -> tuple[int, str] | None:
    """Give the id and the name of the collection that a film belongs to, if there is one."""
    family, place = divmod(film.number, _FAMILY)
    rng = Random(f"tmdb-collection/{family}")
    sizes, weights = list(_COLLECTION_SIZES), list(_COLLECTION_SIZES.values())
    if place >= rng.choices(sizes, weights)[0]:
        return None
    return _COLLECTION_BASE + family, f"{drawn_film(family * _FAMILY).title} Collection"


def draw(number: int, variant: int, size: str) -> bytes:
    """Draw one of a film's posters.

    Args:
        number: The film's number.
        variant: Which poster.
        size: One of `POSTER_WIDTHS`.

    Returns:
        A JPEG of that size's width.
    """
    drawn = drawn_film(number)
    if variant:
        drawn = replace(drawn, seed=Random(f"poster/{drawn.seed}/{variant}").getrandbits(32))
    return draw_poster(drawn, POSTER_WIDTHS[size])
