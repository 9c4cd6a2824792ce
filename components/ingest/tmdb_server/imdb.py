"""IMDb's `title.basics.tsv.gz` for the server's films, with labels that differ here and there."""

import gzip
import io
from random import Random

from components.ingest.tmdb_server.films import Film, film
from marquee import storage
from marquee.genres import VISUAL_GENRES

DISAGREEMENT = 0.12
"""Share of films with one label lost, added or swapped."""

_COLUMNS = ("tconst", "titleType", "primaryTitle", "originalTitle", "isAdult", "startYear",
            "endYear", "runtimeMinutes", "genres")  # fmt: skip
_NULL = r"\N"
_MOST = 3
_MUSICAL = 0.5
_WITHOUT_TARGET = ("Biography", "Sport", "Film-Noir")
_SHARE_WITHOUT_TARGET = 0.06


def write_titles(count: int, path: str) -> None:
    """Write the file.

    Args:
        count: How many films.
        path: Where it goes; it appears whole.
    """
    buffer = io.BytesIO()
    # Without a name and a time the same films give the same bytes.
    with gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as stream:
        stream.write(_line(_COLUMNS))
        for known in sorted(map(film, range(count)), key=lambda known: known.imdb_id):
            stream.write(_line(_row(known)))
    storage.write_bytes(path, buffer.getvalue())


def imdb_labels(film: Film) -> tuple[str, ...]:
    """Give a film's genres in IMDb's spelling and order: at most three, by the alphabet."""
    rng = Random(f"imdb-labels/{film.number}")
    labels = list(film.genres)
    if rng.random() < DISAGREEMENT:
        _disagree(labels, rng)
    if len(labels) < _MOST and rng.random() < _SHARE_WITHOUT_TARGET:
        labels.append(rng.choice(_WITHOUT_TARGET))
    music = "Musical" if rng.random() < _MUSICAL else "Music"
    spelling = {"Science Fiction": "Sci-Fi", "Music": music}
    return tuple(sorted(spelling.get(label, label) for label in labels))


def _disagree(labels: list[str], rng: Random) -> None:
    """Lose, add or swap one label."""
    stray = rng.choice([genre for genre in VISUAL_GENRES if genre not in labels])
    ways = ["swap"] + ["lose"] * (len(labels) > 1) + ["add"] * (len(labels) < _MOST)
    way = rng.choice(ways)
    if way != "add":
        labels.remove(rng.choice(labels))
    if way != "lose":
        labels.append(stray)


def _row(film: Film) -> tuple[str, ...]:
    year, genres = str(film.release_date.year), ",".join(imdb_labels(film))
    return (film.imdb_id, "movie", film.title, film.title, "0", year, _NULL, str(film.runtime),
            genres)  # fmt: skip


def _line(cells: tuple[str, ...]) -> bytes:
    return ("\t".join(cells) + "\n").encode()
