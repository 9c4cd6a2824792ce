"""Ground truth that comes later: the genres of films, to be joined with predictions."""

import csv
import hashlib
import io

import pyarrow as pa

from marquee import storage
from marquee.errors import DataError
from marquee.genres import VISUAL_GENRES

TRUTH_SCHEMA = pa.schema([("film_id", pa.string()), ("genres", pa.list_(pa.string()))])
_COLUMNS = ("film_id", "genres")


def read_truth(uri: str) -> pa.Table:
    """Read films' genres.

    Args:
        uri: A CSV file with the columns `film_id` and `genres` (names joined by `|`; empty for a
            film that has none of them). Of a film that is there twice, the last row counts.

    Returns:
        A row a film, of `TRUTH_SCHEMA`.

    Raises:
        DataError: There is no file, a column is missing, or a genre is unknown.
    """
    rows = csv.DictReader(io.StringIO(_text(uri)))
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(
            f"{uri} has no column {' and no '.join(missing)}",
            remedy="give film_id and genres (joined by |)",
        )
    films: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=2):
        genres = [name.strip() for name in (row["genres"] or "").split("|") if name.strip()]
        for genre in genres:
            if genre not in VISUAL_GENRES:
                raise DataError(
                    f"{uri}, line {number}: the genre {genre!r} is unknown",
                    remedy=f"use TMDB's names: {', '.join(VISUAL_GENRES)}",
                )
        if row["film_id"]:
            films[row["film_id"]] = genres
    return pa.table({"film_id": list(films), "genres": list(films.values())}, schema=TRUTH_SCHEMA)


def truth_digest(uri: str) -> str:
    """Tell one state of a file of films' genres from another.

    Args:
        uri: The CSV file.

    Returns:
        The SHA-256 of its text.

    Raises:
        DataError: There is no file.
    """
    return hashlib.sha256(_text(uri).encode()).hexdigest()


def _text(uri: str) -> str:
    try:
        return storage.read_text(uri)
    except FileNotFoundError:
        raise DataError(f"there is no file {uri}", remedy="check --truth") from None
