"""TMDB's image host: many posters at a time, through one event loop.

`requests` needs a millisecond of a core for each call; a quarter of one is what lets two cores
fetch, decode and measure a thousand posters a second.
"""

import asyncio
import urllib.request
from types import TracebackType
from typing import Self

import aiohttp
import tenacity

from components.ingest.sources.tmdb.retry import (
    Pacer,
    TemporaryError,
    Throttled,
    policy,
)
from marquee.errors import InfrastructureError, InvalidImage, MarqueeError
from marquee.retry_after import retry_after
from marquee.settings import TmdbSettings

_LARGEST = 32 * 2**20
_ATTEMPTS = 10
_LOST_IN_A_ROW = 10
_GONE = (404, 410)
_SLOWEST = 12
"""An image may trickle in for as many times as long as the host may stay silent."""


class ImageHost:
    """Fetches posters. Use it as an async context manager.

    Args:
        settings: How patient to be, and how many to fetch at a time.
    """

    def __init__(self, settings: TmdbSettings) -> None:
        self._settings = settings
        self._pacer = Pacer()
        self._lost = 0

    async def __aenter__(self) -> Self:
        silent = self._settings.timeout
        timeout = aiohttp.ClientTimeout(
            total=_SLOWEST * silent, sock_connect=silent, sock_read=silent
        )
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
            # Looking for a proxy costs as much as the rest of a call.
            trust_env=bool(urllib.request.getproxies()),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def fetch(self, url: str) -> bytes:
        """Fetch an image.

        Args:
            url: Where it is.

        Returns:
            Its bytes, complete; not yet decoded.

        Raises:
            InvalidImage: There is none, or it never came whole.
            InfrastructureError: The host does not answer.
        """
        try:
            data = await self._get(url)
        except TemporaryError:
            # Most calls succeed at once, and the retrying costs more than they do.
            data = await self._insist(url)
        self._lost = 0
        return data

    async def _insist(self, url: str) -> bytes:
        throttled = tenacity.AsyncRetrying(**policy(self._settings.patience, Throttled))
        try:
            return await throttled(self._try_often, url)
        except Throttled as error:
            raise InfrastructureError(
                f"{url} does not answer ({error})",
                remedy="run the same command again later: it goes on where it stopped",
            ) from None
        except TemporaryError as error:
            raise self._without(url, str(error)) from None

    def _without(self, url: str, why: str) -> MarqueeError:
        """One spoilt image must not stop the rest, but nor must a dead host empty a catalog."""
        self._lost += 1
        if self._lost < _LOST_IN_A_ROW:
            return InvalidImage(
                f"{url} never came whole ({why})", remedy="run the same command again later"
            )
        return InfrastructureError(
            f"{url} never came whole ({why}), nor did the {_LOST_IN_A_ROW - 1} before it",
            remedy="check tmdb.image_base_url (it must end with /t/p), and run again: it goes on "
            "where it stopped",
        )

    async def _try_often(self, url: str) -> bytes:
        rules = policy(self._settings.patience)
        rules["stop"] |= tenacity.stop_after_attempt(_ATTEMPTS)
        rules["retry"] &= tenacity.retry_if_not_exception_type(Throttled)
        data: bytes = await tenacity.AsyncRetrying(**rules)(self._get, url)
        return data

    async def _get(self, url: str) -> bytes:
        delay = self._pacer.reserve()
        if delay:
            await asyncio.sleep(delay)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status == 200:
                    return await _read(response)
                asked = retry_after(response.headers)
                if response.status == 429:
                    self._pacer.pause(1.0 if asked is None else asked)
                    raise Throttled("HTTP 429", asked)
                if response.status in _GONE:
                    raise self._without(url, f"HTTP {response.status}")
                raise TemporaryError(f"HTTP {response.status}", asked)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryError(type(error).__name__) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if not response.content_type.startswith("image/"):
        raise TemporaryError(f"{response.content_type} instead of an image")
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > _LARGEST:
            raise InvalidImage(
                f"{response.url} has more than {_LARGEST:,} bytes", remedy="choose a smaller size"
            )
    return bytes(data)
