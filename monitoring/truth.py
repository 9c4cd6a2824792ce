"""Ground truth that comes later: the genres of films, to be joined with predictions."""

import csv
import hashlib
import io
from collections.abc import Sequence

import pyarrow as pa

from marquee import storage
from marquee.errors import DataError
from marquee.genres import SUBGENRES, split_genres, suggest

TRUTH_SCHEMA = pa.schema([("film_id", pa.string()), ("genres", pa.list_(pa.string()))])
_COLUMNS = ("film_id", "genres")


def read_truth(uri: str, genres: Sequence[str]) -> pa.Table:
    """Read films' genres.

    Args:
        uri: A CSV file with the columns `film_id` and `genres` (names joined by `|`). A film that
            has none of what is predicted does not count, as in training. Of a film that is there
            twice, the last row counts.
        genres: What is predicted: genres, or subgenres.

    Returns:
        A row a film, of `TRUTH_SCHEMA`.

    Raises:
        DataError: There is no file, a column is missing, a genre is unknown, or no film has any of
            what is predicted.
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
        if row["film_id"]:
            films[row["film_id"]] = _names(row["genres"] or "", f"{uri}, line {number}")
    if films and not any(name in genres for names in films.values() for name in names):
        raise DataError(
            f"no film of {uri} has any genre that the model predicts",
            remedy=f"use its names: {', '.join(genres)}",
        )
    return pa.table({"film_id": list(films), "genres": list(films.values())}, schema=TRUTH_SCHEMA)


def _names(text: str, where: str) -> list[str]:
    known, others = split_genres(text)
    for name in others:
        if name not in SUBGENRES:
            raise DataError(f"{where}: the genre {name!r} is unknown", remedy=suggest(name))
    return known + others


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
        return storage.read_bytes(uri).decode("utf-8-sig")  # as spreadsheets save it
    except FileNotFoundError:
        raise DataError(f"there is no file {uri}", remedy="check --truth") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is not in UTF-8 ({error})", remedy="save it as UTF-8") from None
