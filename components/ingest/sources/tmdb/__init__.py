"""The TMDB source: films by release date, with their posters."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial

from components.ingest.concurrent import map_unordered
from components.ingest.source import Item, Kept, Offer, Skipped
from components.ingest.sources import WHOLE
from components.ingest.sources.tmdb.api import Document, NotFound, TmdbApi, licence_of, read_token
from components.ingest.sources.tmdb.images import ImageHost
from components.ingest.sources.tmdb.slices import Slice, list_films, plan
from marquee import licences
from marquee.catalog import Facts, Known, Refusal
from marquee.eras import FIRST_YEAR, LAST_YEAR
from marquee.errors import DataGateFailed, InvalidImage
from marquee.genres import TMDB_GENRE_IDS
from marquee.settings import TmdbSettings

logger = logging.getLogger(__name__)

NAME = "tmdb"
_RENEW_DAYS = 30
"""Posters that expire within so many days are fetched anew."""

_GENRES = {number: genre for genre, number in TMDB_GENRE_IDS.items()}


def plan_slices(settings: TmdbSettings) -> list[str]:
    """Cut the asked-for years into spans that TMDB can list.

    Args:
        settings: The years, and where TMDB is.

    Returns:
        Slices such as `1990-01-01..1994-06-30`, in order of time.

    Raises:
        DataGateFailed: TMDB has no film of those years.
    """
    whole = _whole(settings)
    slices = plan(TmdbApi(settings, read_token()), whole, settings.slice_pages)
    if not slices:
        raise DataGateFailed(
            f"{settings.base_url} has no film released in {whole}",
            remedy="choose other years with --from and --to",
        )
    return [str(item) for item in slices]


def _whole(settings: TmdbSettings) -> Slice:
    last_year = settings.to_year or datetime.now(UTC).year
    return Slice(date(settings.from_year, 1, 1), date(last_year, 12, 31))


class TmdbSource:
    """Offers the posters of the films released in a span of time.

    What the catalog holds is not asked for again, unless TMDB changed it or it is about to expire.

    Args:
        span: A slice that `plan_slices` gave, or `all`.
        settings: Where TMDB is, and how to treat it.

    Raises:
        UsageError: There is no token, or a setting is wrong.
    """

    def __init__(self, span: str, settings: TmdbSettings) -> None:
        self._span = _whole(settings) if span == WHOLE else Slice.parse(span)
        self.name = f"{NAME}:{self._span}"
        self._settings = settings
        self._api = TmdbApi(settings, read_token())
        self._films: dict[int, str] | None = None

    def total(self, known: Known) -> int | None:
        """List the slice's films, and count them."""
        return len(self._listed())

    def _listed(self) -> dict[int, str]:
        """List the slice's films: TMDB id to why it is skipped, or nothing."""
        if self._films is None:
            with ThreadPoolExecutor(self._settings.concurrency) as executor:
                try:
                    self._films = list_films(self._api, self._span, executor, _why_skipped)
                except BaseException:
                    # Ends the waiting of calls that nobody waits for any more.
                    self._api.close()
                    raise
        return self._films

    def items(self, known: Known) -> Iterator[Item]:
        """Give each film's poster, or why it has none."""
        held = {n for n in self._listed() if poster_id(n) in known}
        expiring = {n for n in held if self._expires_soon(known.expires_on(poster_id(n)))}
        refused = {n for n in held if poster_id(n) in known.refused}
        stale = expiring | refused | self._changed(held, known)
        asked_for = []
        for tmdb_id, reason in self._listed().items():
            if tmdb_id in held and tmdb_id not in stale:
                yield Kept(poster_id(tmdb_id))
            elif reason:
                yield Skipped(reason)
            else:
                asked_for.append(tmdb_id)
        self._films = None
        configuration = self._api.configuration()
        offers = _Offers(self._settings, self._api, configuration, self.name, known, expiring)
        yield from map_unordered(offers.open, asked_for, self._settings.concurrency)

    def _expires_soon(self, day: date | None) -> bool:
        notice = timedelta(days=min(_RENEW_DAYS, self._settings.retention_days // 2))
        return day is not None and day <= datetime.now(UTC).date() + notice

    def _changed(self, held: set[int], known: Known) -> set[int]:
        """Ask what changed since the films that are held were last known to be up to date."""
        if not held:
            return set()
        read_to_the_end = [
            moment.date()
            for name, moment in known.checkpoints.items()
            if name.startswith(f"{NAME}:")
            and Slice.parse(name.removeprefix(f"{NAME}:")).contains(self._span)
        ]
        # Slices move with the years and the catalogue: then the films say it themselves.
        oldest = min(known.retrieved_on(poster_id(n)) for n in held)
        since = max([oldest, *read_to_the_end])
        return self._api.changed_since(since, datetime.now(UTC).date())


def _why_skipped(film: Document) -> str:
    if not film.get("poster_path"):
        return "no poster"
    return "" if set(film.get("genre_ids") or ()) & _GENRES.keys() else "no genre"


def poster_id(tmdb_id: int) -> str:
    """Give the id of a film's poster in our catalogs."""
    return f"{NAME}-{tmdb_id}"


class _Offers:
    """Turns TMDB ids into offers: asks for the details, then fetches the poster."""

    def __init__(
        self,
        settings: TmdbSettings,
        api: TmdbApi,
        configuration: Document,
        source: str,
        known: Known,
        expiring: set[int],
    ) -> None:
        self._settings = settings
        self._languages = [word.strip() for word in settings.languages.split(",")]
        self._api = api
        self._source = source
        self._known = known
        self._expiring = expiring
        base = settings.image_base_url or configuration["images"]["secure_base_url"]
        self._licence = licence_of((settings.base_url, base), configuration)
        self._images = f"{base.rstrip('/')}/{settings.poster_size}"
        today = datetime.combine(datetime.now(UTC), datetime.min.time(), UTC)
        self._expires_at = today + timedelta(days=settings.retention_days)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Callable[[int], Awaitable[Item]]]:
        """Give the function that makes an item of a TMDB id."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(self._settings.concurrency, "tmdb") as executor:
            async with ImageHost(self._settings) as images:

                async def make(tmdb_id: int) -> Item:
                    film = await loop.run_in_executor(executor, self._film, tmdb_id)
                    return film if isinstance(film, Skipped) else await self._offer(film, images)

                try:
                    yield make
                finally:
                    # Ends the waiting of calls that nobody waits for any more.
                    self._api.close()

    def _film(self, tmdb_id: int) -> "_Film | Skipped":
        try:
            document = self._api.movie(tmdb_id)
        except NotFound:
            return Skipped("no longer at TMDB")
        path = choose_poster(document, self._languages)
        facts = self._facts(tmdb_id, document, f"{self._settings.poster_size}{path}")
        if path is None:
            return Skipped(f"no poster in {self._settings.languages}")
        if not facts.genres:
            return Skipped("no genre")
        # What expires is fetched anew: the terms are about the bytes, not about our date.
        expires = tmdb_id in self._expiring
        stored = None if expires else self._known.image(facts.poster_id, facts.image_ref or "")
        return _Film(facts, f"{self._images}{path}", stored)

    async def _offer(self, film: "_Film", images: ImageHost) -> Offer | Refusal:
        try:
            data = film.stored or await images.fetch(film.url)
        except InvalidImage as error:
            return Refusal(
                id=film.facts.poster_id,
                row=None,
                source=self._source,
                reason=error.message,
                remedy=error.remedy,
            )
        return Offer(facts=film.facts, row=None, read=partial(bytes, data))

    def _facts(self, tmdb_id: int, document: Document, image_ref: str) -> Facts:
        given = {genre.get("id"): str(genre.get("name")) for genre in document["genres"]}
        genres = tuple(_GENRES[number] for number in given if number in _GENRES)
        for number in given.keys() - _GENRES.keys():
            _tell_of_new_genre(given[number])
        external = document.get("external_ids") or {}
        keywords = (document.get("keywords") or {}).get("keywords") or []
        ours = self._licence != licences.TMDB
        return Facts(
            poster_id=poster_id(tmdb_id),
            film_id=poster_id(tmdb_id),
            imdb_id=external.get("imdb_id") or document.get("imdb_id") or None,
            tmdb_id=tmdb_id,
            collection_id=(document.get("belongs_to_collection") or {}).get("id"),
            title=str(document["title"]),
            year=_year(document.get("release_date")),
            genres=genres,
            label_sources={NAME: genres},
            keywords=tuple(sorted(str(item["name"]) for item in keywords)),
            source=NAME,
            licence=self._licence,
            terms_version=self._licence if ours else licences.TMDB_TERMS_VERSION,
            expires_at=self._expires_at,
            image_ref=image_ref,
        )


@dataclass(frozen=True)
class _Film:
    facts: Facts
    url: str
    stored: bytes | None
    """The poster, if the catalog holds it."""


def choose_poster(document: Document, languages: Sequence[str]) -> str | None:
    """Choose a film's poster.

    Args:
        document: A film's details with its images.
        languages: ISO 639-1 codes, the best first; `null` stands for a poster without words.

    Returns:
        Its path, or None if there is none in these languages: TMDB's own choice if it is one of
        them, else the best-voted one of the first language.
    """
    posters = [
        poster
        for poster in (document.get("images") or {}).get("posters") or []
        if (poster.get("iso_639_1") or "null") in languages
    ]
    if not posters:
        return None
    paths = {str(poster["file_path"]) for poster in posters}
    if document.get("poster_path") in paths:
        return str(document["poster_path"])

    def worth(poster: Document) -> tuple[int, float, int, str]:
        rank = languages.index(poster.get("iso_639_1") or "null")
        votes = poster.get("vote_average") or 0.0, poster.get("vote_count") or 0
        return -rank, *votes, str(poster["file_path"])

    return str(max(posters, key=worth)["file_path"])


@cache
def _tell_of_new_genre(name: str) -> None:
    logger.warning("TMDB has a genre that Marquee does not know, left out: %r", name[:40])


def _year(release_date: str | None) -> int | None:
    match = re.match(r"(\d{4})-", release_date or "")
    return int(match[1]) if match and FIRST_YEAR <= int(match[1]) <= LAST_YEAR else None
