"""The endpoint's documents: what a request may hold, and what an answer looks like."""

import base64
import binascii
import contextlib
import reprlib
from dataclasses import dataclass
from typing import Any

import pybase64

from marquee.engine import Prediction
from marquee.eras import FIRST_YEAR, LAST_YEAR, UNKNOWN_ERA, era_of
from marquee.errors import DataError

MODEL_NAME = "poster-genre"
"""The model's name in every URL, whatever the bundle."""

MOST_POSTERS = 64
"""Posters a request, unless the server is told otherwise."""

_LONGEST_TEXT = 300
"""Characters: thousands of records wait in memory while storage is slow."""
MOST_GENRES = 100
"""Genres that are named together, by a request or an answer."""
_FIELDS = {"image", "year", "genres", "title", "film_id", "client_id"}


class InvalidInstance(DataError):
    """An instance of a request that cannot be answered; the whole request is refused."""

    def __init__(self, index: int, message: str, remedy: str) -> None:
        super().__init__(f"instance {index}: {message}", remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One poster of a request."""

    image: bytes = b""
    """The file's bytes: JPEG, PNG or WebP; none yet if it is at `url`."""
    url: str | None = None
    """Where the file is, if it was not sent."""
    genres: tuple[str, ...] = ()
    """The genres to explain; those the model chooses if there are none."""
    year: int | None = None
    title: str | None = None
    film_id: str | None = None
    client_id: str | None = None

    def era(self, predicted: str | None) -> tuple[str, str]:
        """Give the era and where it comes from: `given`, `predicted`, or `none` if it is unknown.

        Args:
            predicted: What the model takes it for, if it predicts eras.
        """
        if self.year is not None:
            return era_of(self.year), "given"
        return (predicted, "predicted") if predicted else (UNKNOWN_ERA, "none")


def parse_request(body: Any, most: int = MOST_POSTERS) -> list[Instance]:
    """Read a v1 request.

    Args:
        body: The parsed JSON.
        most: How many instances there may be.

    Returns:
        One instance or more.

    Raises:
        DataError: The body has no instances, or too many.
        InvalidInstance: One of them is malformed; its index is named.
    """
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list) or not instances:
        raise DataError(
            "the request has no instances",
            remedy='send {"instances": [{"image": {"b64": "..."}}]}',
        )
    check_count(len(instances), most)
    return [_parse_instance(index, instance) for index, instance in enumerate(instances)]


def check_count(posters: int, most: int) -> None:
    """Refuse a request of too many posters.

    Args:
        posters: How many it has.
        most: How many it may have.

    Raises:
        DataError: It has more.
    """
    if posters > most:
        raise DataError(
            f"the request has {posters} posters", remedy=f"send at most {most} a request"
        )


def _parse_instance(index: int, document: Any) -> Instance:
    if not isinstance(document, dict):
        raise InvalidInstance(index, "it is no object", 'send {"image": {"b64": "..."}}')
    unknown = sorted(document.keys() - _FIELDS)
    if unknown:
        raise InvalidInstance(
            index, f"unknown field {reprlib.repr(unknown[0])}", f"use {', '.join(sorted(_FIELDS))}"
        )
    return Instance(
        **_parse_image(index, document.get("image")),
        year=parse_year(index, document.get("year")),
        genres=_parse_genres(index, document.get("genres")),
        title=_parse_text(index, "title", document),
        film_id=_parse_text(index, "film_id", document),
        client_id=_parse_text(index, "client_id", document),
    )


def _parse_image(index: int, document: Any) -> dict[str, Any]:
    match document:
        case {"b64": str(text)} if len(document) == 1:
            return {"image": parse_base64(index, text)}
        case {"url": str(url)} if len(document) == 1:
            return {"url": url}
    raise InvalidInstance(index, "it has no image", 'send "image": {"b64": "..."}')


def _parse_genres(index: int, document: Any) -> tuple[str, ...]:
    if document is None:
        return ()
    if (
        not isinstance(document, list)
        or len(document) > MOST_GENRES
        or not all(isinstance(genre, str) for genre in document)
    ):
        raise InvalidInstance(
            index,
            f"genres is {reprlib.repr(document)}",
            'give a list such as ["Horror"], or leave it out',
        )
    return tuple(dict.fromkeys(document))


def parse_base64(index: int, text: str) -> bytes:
    """Read an image's bytes.

    Args:
        index: The instance, for messages.
        text: The bytes as base64.

    Returns:
        The bytes.

    Raises:
        InvalidInstance: It is not base64.
    """
    with contextlib.suppress(binascii.Error, ValueError):
        return pybase64.b64decode(text, validate=True)
    try:
        return base64.b64decode(text, validate=True)  # it says what is wrong
    except (binascii.Error, ValueError) as error:
        raise InvalidInstance(
            index, f"its image is not base64 ({error})", "encode the file's bytes as base64"
        ) from None


def parse_year(index: int, year: Any) -> int | None:
    """Check a release year.

    Args:
        index: The instance, for messages.
        year: A number, or None.

    Returns:
        The year, or None if there is none.

    Raises:
        InvalidInstance: It is no release year.
    """
    if year is None:
        return None
    if not isinstance(year, int) or isinstance(year, bool) or not FIRST_YEAR <= year <= LAST_YEAR:
        raise InvalidInstance(
            index,
            f"{reprlib.repr(year)} is no release year",
            f"give a whole number from {FIRST_YEAR} to {LAST_YEAR}, or leave it out",
        )
    return year


def _parse_text(index: int, name: str, document: dict[str, Any]) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInstance(
            index, f"{name} is {reprlib.repr(value)}", "give text, or leave it out"
        )
    if value is not None and len(value) > _LONGEST_TEXT:
        raise InvalidInstance(
            index, f"{name} has {len(value):,} characters", f"use {_LONGEST_TEXT} at most"
        )
    return value


def parse_tokens(text: str) -> list[str]:
    """Read a file of access tokens, as the server and its clients have it.

    Args:
        text: One token a line; `#` begins a comment.

    Returns:
        The tokens in their order.
    """
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def answer(
    instance: Instance, prediction: Prediction, prediction_id: str, model_version: str
) -> dict[str, Any]:
    """Build one entry of `predictions`.

    Args:
        instance: What was asked.
        prediction: What the model says.
        prediction_id: Names this prediction in the records.
        model_version: The bundle's version.

    Returns:
        The entry as plain values.
    """
    era, source = instance.era(prediction.era)
    return {
        "prediction_id": prediction_id,
        "model_version": model_version,
        "probabilities": prediction.probabilities,
        "genres": prediction.genres,
        "unsure": prediction.unsure,
        "era": {"value": era, "source": source},
    }
