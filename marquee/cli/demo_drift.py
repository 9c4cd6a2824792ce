"""The end of the demo: traffic that shifts half-way, and what the drift report says of it."""

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.ingest.drawn_films import DrawnFilm
    from marquee.client import Client

_HALF = 300
"""Posters before the shift, and after it."""
_AT_A_TIME = 16
_WIDTH = 185
"""In px, as the posters that trained the model."""
_NEW_YEAR, _NEW_LIGHT = 2000, 0.6
"""After the shift all films are from this year on, and posters come with this much light."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """When what was sent, and what is true of it."""

    begun: datetime
    shifted: datetime
    ended: datetime
    truth: Path


def send(url: str, first_film: int, truth: Path) -> Traffic:
    """Send films as users do: of all eras first, then only dark posters of recent ones.

    Args:
        url: The server.
        first_film: The number of the first film to draw.
        truth: Where the films' genres are written to, as a CSV file.
    """
    from components.ingest.drawn_films import drawn_film
    from marquee.client import Client

    numbers = count(first_film)
    usual = [drawn_film(next(numbers)) for _ in range(_HALF)]
    recent = (film for film in map(drawn_film, numbers) if film.year >= _NEW_YEAR)
    shifted_films = [next(recent) for _ in range(_HALF)]
    client = Client(url)
    begun = _whole_second()
    _ask(client, usual, light=1.0)
    shifted = _whole_second()
    _ask(client, shifted_films, light=_NEW_LIGHT)
    with truth.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["film_id", "genres"])
        rows.writerows((film.film_id, "|".join(film.genres)) for film in usual + shifted_films)
    return Traffic(begun=begun, shifted=shifted, ended=_whole_second(), truth=truth)


def report(traffic: Traffic, bundle: Path, out: Path) -> Iterator[tuple[str, str]]:
    """Report on each half; give its name and its page."""
    from marquee.settings import DriftSettings
    from monitoring.archive import folder_of
    from monitoring.collect import Window
    from monitoring.drift import PAGE_FILE, Order, drift

    for half, since, until in (
        ("first half", traffic.begun, traffic.shifted),
        ("second half", traffic.shifted, traffic.ended),
    ):
        order = Order(
            records=str(out / "records"),
            bundle=str(bundle),
            out=str(out / "drift"),
            window=Window(since=since, until=until),
            truth=str(traffic.truth),
            # The demo's reference is small.
            settings=DriftSettings(min_samples=20, min_positives=20),
        )
        drift(order)
        yield half, f"{folder_of(order.out, order.window)}/{PAGE_FILE}"


def _whole_second() -> datetime:
    """Wait for the next whole second: windows are named by them."""
    time.sleep(1 - time.time() % 1)
    return datetime.now(UTC).replace(microsecond=0)


def _ask(client: "Client", films: "list[DrawnFilm]", light: float) -> None:
    from components.ingest.drawing import draw_poster

    for start in range(0, len(films), _AT_A_TIME):
        part = films[start : start + _AT_A_TIME]
        posters = [_dimmed(draw_poster(film, _WIDTH), light) for film in part]
        client.ask(posters, facts=[{"year": f.year, "film_id": f.film_id} for f in part])


def _dimmed(poster: bytes, light: float) -> bytes:
    from PIL import Image

    if light == 1.0:
        return poster
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(poster)) as image:
        image.point(lambda value: value * light).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
