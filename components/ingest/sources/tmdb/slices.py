"""Cuts TMDB's films into spans of release dates that it can list, and lists them."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from typing import Generic, Self, TypeVar

from components.ingest.sources.tmdb.api import LAST_PAGE, Document, TmdbApi
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.log import progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LISTINGS = 3


@dataclass(frozen=True)
class Slice:
    """Films released from `first` to `last`, both included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            UsageError: The text is no span of dates.
        """
        try:
            first, last = map(date.fromisoformat, text.split(".."))
        except ValueError:
            raise UsageError(
                f"{text!r} is no span of dates", remedy="write 1990-01-01..1994-12-31"
            ) from None
        return cls(first, last)

    def contains(self, other: Self) -> bool:
        """Tell whether another slice lies within this one."""
        return self.first <= other.first and other.last <= self.last

    def halves(self) -> tuple[Self, Self]:
        """Cut in the middle."""
        middle = self.first + (self.last - self.first) // 2
        return type(self)(self.first, middle), type(self)(middle + timedelta(days=1), self.last)


def plan(api: TmdbApi, whole: Slice, pages: int) -> list[Slice]:
    """Cut a span until TMDB lists each slice in few enough pages.

    Args:
        api: TMDB.
        whole: The span.
        pages: Pages of 20 films a slice at most; TMDB itself lists no more than 500.

    Returns:
        Slices in order of time that have films; together they cover all films of the span.

    Raises:
        DataError: One day has more films than TMDB can list.
    """
    listing = api.discover(whole.first, whole.last, 1)
    found = int(listing["total_pages"])
    if not listing["total_results"]:
        return []
    # Where TMDB says 500 it may mean more.
    if found <= pages and found < LAST_PAGE:
        return [whole]
    if whole.first == whole.last:
        raise DataError(
            f"TMDB has {found} pages of films released on {whole.first}, too many to list",
            remedy="raise tmdb.slice_pages (up to 500), or leave that year out",
        )
    early, late = whole.halves()
    return [*plan(api, early, pages), *plan(api, late, pages)]


def list_films(
    api: TmdbApi, span: Slice, executor: Executor, keep: Callable[[Document], T]
) -> dict[int, T]:
    """List a slice's films, all of them and each once.

    TMDB lists pages of a catalogue that changes meanwhile: a film may slip from a page not yet read
    to one already read. So a listing counts only if it has as many films as TMDB says; otherwise
    it is read again, and what any of them had is taken.

    Args:
        api: TMDB.
        span: A slice that fits.
        executor: Asks for several pages at a time.
        keep: What of a film's entry to keep: ten thousand entries would be 15 MB.

    Returns:
        TMDB id to what is kept, in the order of ids.

    Raises:
        InfrastructureError: The slice has grown since it was planned.
    """

    def read(page: int) -> _Page[T]:
        document = api.discover(span.first, span.last, page)
        films = {int(film["id"]): keep(film) for film in document["results"]}
        return _Page(films, int(document["total_results"]), int(document["total_pages"]))

    films: dict[int, T] = {}
    for _ in range(_LISTINGS):
        once: dict[int, T] = {}
        totals = set()
        for page in _pages(read, executor):
            once |= page.films
            totals.add(page.total_films)
        films |= once
        if totals == {len(once)}:
            break
    else:
        logger.warning(
            "TMDB's listing of %s kept changing; %d films were seen in %d readings",
            span,
            len(films),
            _LISTINGS,
        )
    return dict(sorted(films.items()))


@dataclass(frozen=True)
class _Page(Generic[T]):
    films: dict[int, T]
    total_films: int
    total_pages: int


def _pages(read: Callable[[int], _Page[T]], executor: Executor) -> Iterator[_Page[T]]:
    first = read(1)
    if first.total_pages > LAST_PAGE:
        raise InfrastructureError(
            f"TMDB's listing has grown to {first.total_pages} pages since it was cut",
            remedy="run the same command again: it cuts anew",
        )
    with progress("list films", first.total_pages) as advance:
        for page in chain([first], executor.map(read, range(2, first.total_pages + 1))):
            yield page
            advance(1)
