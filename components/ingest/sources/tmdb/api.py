"""TMDB's API, version 3: paced, patient, and silent about the token."""

import logging
import os
import re
import threading
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import tenacity
from requests.adapters import HTTPAdapter

from components.ingest.sources.tmdb.retry import (
    Pacer,
    TemporaryError,
    Throttled,
    is_temporary,
    policy,
)
from marquee import __version__, licences
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.retry_after import retry_after
from marquee.settings import TmdbSettings

logger = logging.getLogger(__name__)

TOKEN = "TMDB_READ_ACCESS_TOKEN"
TOKEN_FILE = "TMDB_READ_ACCESS_TOKEN_FILE"
LAST_PAGE = 500
"""TMDB refuses to list further."""
_CHANGES_DAYS = 14
_MOVIE = "/movie/"
_TMDB_HOSTS = ("themoviedb.org", "tmdb.org")
_APPENDED = "external_ids,keywords,images"

Document = dict[str, Any]


class NotFound(DataError):
    """TMDB has no such film (any more)."""


def read_token() -> str:
    """Find the API read access token.

    Returns:
        The content of `TMDB_READ_ACCESS_TOKEN`, or of the file (a mounted secret) that
        `TMDB_READ_ACCESS_TOKEN_FILE` names.

    Raises:
        UsageError: There is none, or it cannot be a token.
    """
    token = os.environ.get(TOKEN, "").strip()
    file = os.environ.get(TOKEN_FILE, "")
    if not token and file:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"cannot read {file}", remedy=f"check {TOKEN_FILE}") from None
    if not token:
        raise UsageError(
            "there is no token for TMDB",
            remedy=f"set {TOKEN} to your API read access token, or {TOKEN_FILE} to a file that "
            "holds it; without one, try `marquee tmdb-server`",
        )
    # Checked here: a library's own complaint would print it.
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            f"what {TOKEN} holds is no token: it has spaces or other characters in it",
            remedy="copy the API read access token again",
        )
    return token


class _Bearer(requests.auth.AuthBase):
    """Puts the token into the header, where neither logs nor a ~/.netrc reach it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class TmdbApi:
    """Calls the API from several threads, at a common pace.

    Args:
        settings: Where it is, and how fast and patient to be.
        token: The read access token.
    """

    def __init__(self, settings: TmdbSettings, token: str) -> None:
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._pacer = Pacer(settings.rate)
        self._refused: UsageError | None = None
        self._session = requests.Session()
        self._session.auth = _Bearer(token)
        self._session.headers["User-Agent"] = f"marquee/{__version__}"
        adapter = HTTPAdapter(pool_maxsize=settings.concurrency)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self._stopped = threading.Event()
        # One for all calls: each leaves garbage behind that is collected late.
        self._retrying = tenacity.Retrying(
            **policy(settings.patience), sleep=self._sleep, before_sleep=_tell
        )

    def close(self) -> None:
        """Let no call wait or begin any more."""
        self._stopped.set()
        self._session.close()

    def get(self, path: str, needs: tuple[str, ...], **query: str | int) -> Document:
        """Ask for a document.

        Args:
            path: Below the base URL, such as `/movie/603`.
            needs: Fields without which the document is of no use.
            query: The query's fields; `_gte` and `_lte` at the end of a name become `.gte`, `.lte`.

        Returns:
            The JSON object.

        Raises:
            NotFound: There is no such thing.
            UsageError: The token or the query was refused.
            InfrastructureError: The API did not answer for as long as `tmdb.patience` says.
        """
        fields = {re.sub(r"_([gl]te)$", r".\1", name): value for name, value in query.items()}
        try:
            document: Document = self._retrying(self._get, path, needs, fields)
        except TemporaryError as error:
            raise InfrastructureError(
                f"{self._base}{path} does not answer ({error})",
                remedy="run the same command again later: it goes on where it stopped",
            ) from None
        return document

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise InfrastructureError("the API is no longer asked")

    def _get(self, path: str, needs: tuple[str, ...], query: dict[str, str | int]) -> Document:
        self._sleep(self._pacer.reserve())
        if self._refused:
            raise self._refused
        try:
            response = self._session.get(
                self._base + path,
                params=query,
                timeout=self._settings.timeout,
                allow_redirects=False,
            )
            if response.status_code == 200:
                return _parse(response, needs)
        except requests.RequestException as error:
            raise TemporaryError(type(error).__name__) from None
        raise self._refusal(path, response)

    def _refusal(self, path: str, response: requests.Response) -> Exception:
        code, said = response.status_code, _message(response)
        if code == 429:
            asked = retry_after(response.headers)
            self._pacer.pause(1.0 if asked is None else asked)
            return Throttled(f"HTTP {code}{said}", asked)
        if is_temporary(code):
            return TemporaryError(f"HTTP {code}{said}", retry_after(response.headers))
        if code in (401, 403):
            # Nobody asks again with a token that was refused: that gets an address banned.
            self._refused = UsageError(
                f"{self._base} refused the token (HTTP {code}{said})",
                remedy=f"check {TOKEN}: it must hold the API read access token of your account",
            )
            return self._refused
        if code == 404 and path.startswith(_MOVIE):
            return NotFound(f"{self._base}{path} is not there{said}", remedy="leave it out")
        return UsageError(
            f"{self._base}{path} answered HTTP {code}{said}",
            remedy="check tmdb.base_url: it must end with /3",
        )

    def configuration(self) -> Document:
        """Ask where images are and, of a server of ours, what its posters are under."""
        return self.get("/configuration", ("images",))

    def movie(self, tmdb_id: int) -> Document:
        """Ask for a film's details with its external ids, keywords and posters.

        Args:
            tmdb_id: The film.
        """
        languages = self._settings.languages
        return self.get(
            f"{_MOVIE}{tmdb_id}",
            ("id", "title", "genres"),
            append_to_response=_APPENDED,
            include_image_language=languages,
        )

    def discover(self, first: date, last: date, page: int) -> Document:
        """List films by release date, 20 a page.

        Args:
            first: The first day.
            last: The last day, included.
            page: 1 to 500.
        """
        return self.get(
            "/discover/movie",
            ("results", "total_pages", "total_results"),
            primary_release_date_gte=first.isoformat(),
            primary_release_date_lte=last.isoformat(),
            # By date, films that are new or become popular do not shift the pages.
            sort_by="primary_release_date.asc",
            include_adult="false",
            include_video="false",
            page=page,
        )

    def changed_since(self, first: date, last: date) -> set[int]:
        """List the films that changed.

        Args:
            first: The first day.
            last: The last day, included.

        Returns:
            TMDB ids.
        """
        end = min(first + timedelta(days=_CHANGES_DAYS - 1), last)
        changed = self._changed_between(first, end)
        # Windows share a day: whether TMDB counts the last one in is not documented.
        return changed if end == last else changed | self.changed_since(end, last)

    def _changed_between(self, first: date, last: date) -> set[int]:
        changed: set[int] = set()
        page = pages = 1
        while page <= pages:
            document = self.get(
                f"{_MOVIE}changes",
                ("results", "total_pages"),
                start_date=first.isoformat(),
                end_date=last.isoformat(),
                page=page,
            )
            pages, page = int(document["total_pages"]), page + 1
            if pages > LAST_PAGE and first < last:
                middle = first + (last - first) // 2
                later = self._changed_between(middle + timedelta(days=1), last)
                return self._changed_between(first, middle) | later
            changed |= {int(item["id"]) for item in document["results"]}
        return changed


def licence_of(urls: Iterable[str], configuration: Document) -> str:
    """Say what the content of an API is under.

    Args:
        urls: Where the API and the images are.
        configuration: What it answered to `/configuration`. A server of ours names the licence of
            its drawn posters there; TMDB itself cannot.

    Returns:
        A licence of `marquee.licences`, or the one that our server names.
    """
    if any(map(_is_tmdbs, urls)):
        return licences.TMDB
    ours = configuration.get("marquee")
    named = ours.get("licence") if isinstance(ours, dict) else None
    return str(named) if named else licences.TMDB


def _is_tmdbs(url: str) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".").casefold()
    return any(host == name or host.endswith(f".{name}") for name in _TMDB_HOSTS)


def _parse(response: requests.Response, needs: tuple[str, ...]) -> Document:
    try:
        document = response.json()
    except requests.JSONDecodeError:
        raise TemporaryError("an answer that is no JSON") from None
    if not isinstance(document, dict):
        raise TemporaryError("an answer that is no JSON object")
    missing = [name for name in needs if name not in document]
    if missing:
        raise TemporaryError(f"an answer without {missing[0]!r}")
    return document


def _message(response: requests.Response) -> str:
    try:
        document = response.json()
        return f", code {document['status_code']}: {document['status_message']}"
    except (requests.RequestException, KeyError, TypeError):
        return ""


def _tell(state: tenacity.RetryCallState) -> None:
    if state.outcome and state.seconds_since_start and state.seconds_since_start > 5:
        logger.info("TMDB: %s; trying again", state.outcome.exception())
