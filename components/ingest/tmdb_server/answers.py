"""TMDB's answers, as JSON documents of its form (https://developer.themoviedb.org/reference)."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from components.ingest.tmdb_server import films
from components.ingest.tmdb_server.catalogue import ORDERS, Catalogue, today
from components.ingest.tmdb_server.films import POSTER_WIDTHS, Film, Poster
from marquee.genres import TMDB_GENRE_IDS

Answer = dict[str, Any]

LICENCE = "CC0-1.0"
"""Of the drawn posters; `sources.drawn` says the same, but brings pandas along."""

PAGE_SIZE = 20
CHANGES_PAGE_SIZE = 100
MAX_PAGE = 500
MAX_APPENDED = 20
MAX_CHANGES_DAYS = 14

ERRORS: dict[int, tuple[int, str]] = {
    5: (422, "Invalid parameters: Your request parameters are incorrect."),
    7: (401, "Invalid API key: You must be granted a valid key."),
    9: (503, "Service offline: This service is temporarily offline, try again later."),
    11: (500, "Internal error: Something went wrong, contact TMDB."),
    20: (422, "Invalid date range: Should be a range no longer than 14 days."),
    22: (
        400,
        "Invalid page: Pages start at 1 and max at 500. They are expected to be an integer.",
    ),
    23: (400, "Invalid date: Format needs to be YYYY-MM-DD."),
    24: (504, "Your request to the backend server timed out. Try again."),
    25: (429, "Your request count (#) is over the allowed limit of (40)."),
    27: (400, "Too many append to response objects: The maximum number of remote calls is 20."),
    34: (404, "The resource you requested could not be found."),
    43: (502, "Couldn't connect to the backend server."),
    46: (503, "The API is undergoing maintenance. Try again later."),
}
"""HTTP status and message of TMDB's status codes (https://developer.themoviedb.org/docs/errors)."""


class Refused(Exception):
    """TMDB would answer with an error.

    Args:
        code: One of `ERRORS`.
    """

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code][1])
        self.code = code


def error(code: int) -> Answer:
    """Give the document that says what went wrong."""
    return {"success": False, "status_code": code, "status_message": ERRORS[code][1]}


def configuration(image_base_url: str) -> Answer:
    """Answer `/configuration`; `marquee` is ours and says that the films are free of rights."""
    return {
        "images": {
            "base_url": f"{image_base_url}/",
            "secure_base_url": f"{image_base_url}/",
            "backdrop_sizes": ["w300", "w780", "w1280", "original"],
            "logo_sizes": ["w45", "w92", "w154", "w185", "w300", "w500", "original"],
            "poster_sizes": list(POSTER_WIDTHS),
            "profile_sizes": ["w45", "w185", "h632", "original"],
            "still_sizes": ["w92", "w185", "w300", "original"],
        },
        "change_keys": ["genres", "images", "title"],
        "marquee": {"licence": LICENCE},
    }


def genre_list() -> Answer:
    """Answer `/genre/movie/list`."""
    return {"genres": _genres(TMDB_GENRE_IDS)}


def discover(catalogue: Catalogue, query: Mapping[str, str]) -> Answer:
    """Answer `/discover/movie`.

    Raises:
        Refused: The page, a date or the order is invalid.
    """
    page = _page(query)
    order = query.get("sort_by", ORDERS[0])
    if order not in ORDERS:
        raise Refused(5)
    found, total = catalogue.discover(
        _date(query, "primary_release_date.gte", date.min),
        _date(query, "primary_release_date.lte", date.max),
        order,
        (page - 1) * PAGE_SIZE,
        PAGE_SIZE,
    )
    return _paged(page, [_summary(film) for film in found], total, PAGE_SIZE)


def changes(catalogue: Catalogue, query: Mapping[str, str]) -> Answer:
    """Answer `/movie/changes`; without dates, what changed since yesterday.

    Raises:
        Refused: The page or a date is invalid, or the span is longer than 14 days.
    """
    page = _page(query)
    last = _date(query, "end_date", today())
    first = _date(query, "start_date", date.fromordinal(max(1, last.toordinal() - 1)))
    if not 0 <= (last - first).days <= MAX_CHANGES_DAYS:
        raise Refused(20)
    ids = catalogue.changed(first, last)
    shown = ids[(page - 1) * CHANGES_PAGE_SIZE : page * CHANGES_PAGE_SIZE]
    results = [{"id": tmdb_id, "adult": False} for tmdb_id in shown]
    return _paged(page, results, len(ids), CHANGES_PAGE_SIZE)


def find(catalogue: Catalogue, imdb_id: str, query: Mapping[str, str]) -> Answer:
    """Answer `/find/{imdb_id}`.

    Raises:
        Refused: The id is of another source than IMDb.
    """
    if query.get("external_source") != "imdb_id":
        raise Refused(5)
    film = catalogue.by_imdb_id(imdb_id)
    return {
        "movie_results": [_summary(film) | {"media_type": "movie"}] if film else [],
        "person_results": [],
        "tv_results": [],
        "tv_episode_results": [],
        "tv_season_results": [],
    }


def details(film: Film, query: Mapping[str, str]) -> Answer:
    """Answer `/movie/{id}` with what is to be appended; unknown parts are left out, as by TMDB.

    Raises:
        Refused: More than 20 parts are to be appended.
    """
    parts = query.get("append_to_response", "").split(",")
    if len(parts) > MAX_APPENDED:
        raise Refused(27)
    answer = _facts(film)
    if "external_ids" in parts:
        answer["external_ids"] = _external_ids(film)
    if "keywords" in parts:
        words = films.keywords(film).items()
        answer["keywords"] = {"keywords": [{"id": id_, "name": name} for name, id_ in words]}
    if "images" in parts:
        answer["images"] = _images(film, query.get("include_image_language"))
    return answer


def _page(query: Mapping[str, str]) -> int:
    text = query.get("page", "1")
    page = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= page <= MAX_PAGE:
        raise Refused(22)
    return page


def _date(query: Mapping[str, str], name: str, default: date) -> date:
    text = query.get(name)
    if not text:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(23) from None


def _paged(page: int, results: Sequence[Answer], total: int, size: int) -> Answer:
    return {
        "page": page,
        "results": results,
        "total_pages": max(1, math.ceil(total / size)),
        "total_results": total,
    }


def _genres(names: Sequence[str] | Mapping[str, int]) -> list[Answer]:
    return [{"id": TMDB_GENRE_IDS[name], "name": name} for name in names]


def _common(film: Film) -> Answer:
    return {
        "adult": False,
        "backdrop_path": None,
        "id": film.tmdb_id,
        "original_language": film.language,
        "original_title": film.title,
        "overview": f"A film that only its poster knows: {', '.join(film.genres)}.",
        "popularity": film.popularity,
        "poster_path": films.posters(film)[0].path,
        "release_date": film.release_date.isoformat(),
        "title": film.title,
        "video": False,
        "vote_average": film.vote_average,
        "vote_count": film.vote_count,
    }


def _summary(film: Film) -> Answer:
    return _common(film) | {"genre_ids": [TMDB_GENRE_IDS[genre] for genre in film.genres]}


def _facts(film: Film) -> Answer:
    return _common(film) | {
        "belongs_to_collection": _collection(film),
        "budget": 0,
        "genres": _genres(film.genres),
        "homepage": "",
        "imdb_id": film.imdb_id,
        "origin_country": [],
        "production_companies": [],
        "production_countries": [],
        "revenue": 0,
        "runtime": film.runtime,
        "spoken_languages": [],
        "status": "Released",
        "tagline": "",
    }


def _collection(film: Film) -> Answer | None:
    found = films.collection(film)
    if found is None:
        return None
    return {"id": found[0], "name": found[1], "poster_path": None, "backdrop_path": None}


def _external_ids(film: Film) -> Answer:
    others = ("wikidata_id", "facebook_id", "instagram_id", "twitter_id")
    return {"imdb_id": film.imdb_id} | dict.fromkeys(others)


def _images(film: Film, languages: str | None) -> Answer:
    wanted = languages.split(",") if languages else None
    posters = [
        _image(poster, film.vote_average / (1 + rank))
        for rank, poster in enumerate(films.posters(film))
        if wanted is None or (poster.language or "null") in wanted
    ]
    return {"backdrops": [], "logos": [], "posters": posters}


def _image(poster: Poster, vote: float) -> Answer:
    width = POSTER_WIDTHS["original"]
    return {
        "aspect_ratio": 0.667,
        "file_path": poster.path,
        "height": width * 3 // 2,
        "iso_639_1": poster.language,
        "vote_average": round(vote, 3),
        "vote_count": poster.tmdb_id % 17,
        "width": width,
    }
