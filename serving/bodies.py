"""Request bodies, read within bounds of size, of time, and of memory for all of them together."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from marquee.errors import DataError
from serving.batching import Overloaded
from serving.refusals import TooLarge, TooSlow

READ_SECONDS = 30.0
"""A body must have arrived within this time."""

_TOGETHER = 4
"""All bodies that are read or worked on may have so many times the bytes of the largest.

Each is in memory up to four times: as it came, as text, as a file, and as base64 amid decoding.
"""

_MOST_VALUES = 50_000
"""A JSON value of two bytes takes a hundred once it is parsed, and the event loop waits for it."""


class Bodies:
    """Reads bodies, and counts what is held of them.

    Args:
        max_bytes: The largest body.
        seconds: How long one may take to arrive.
    """

    def __init__(self, max_bytes: int, seconds: float = READ_SECONDS) -> None:
        self.max_bytes = max_bytes
        self._seconds = seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; it counts as held until the context ends.

        Args:
            request: Brings it.

        Yields:
            The body.

        Raises:
            TooLarge: It has too many bytes; what came of it is gone.
            TooSlow: It did not arrive in time.
            Overloaded: Too much is held already.
            ClientDisconnect: Its sender has gone.
        """
        body = bytearray()
        size = 0
        try:
            await self._fill(body, request)
            content, size = bytes(body), len(body)
            body.clear()
            yield content
        finally:
            self._held -= size or len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    self._check(len(body))
        except TimeoutError:
            raise TooSlow(self._seconds) from None

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count a body that was read elsewhere.

        Args:
            size: Its bytes.

        Raises:
            TooLarge: They are too many.
            Overloaded: Too much is held already.
        """
        self._held += size
        try:
            self._check(size)
            yield
        finally:
            self._held -= size

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            raise TooLarge(self.max_bytes)
        if self._held > _TOGETHER * self.max_bytes:
            raise Overloaded(1)


def check_json(body: bytes) -> None:
    """Refuse JSON that would be much larger in memory than it is as text.

    Args:
        body: The text.

    Raises:
        DataError: It has more values than any request needs.
    """
    # Counting takes longer than all else that reads a small body, which cannot have so many.
    if len(body) > _MOST_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise DataError(
            f"the JSON has more than {_MOST_VALUES:,} values", remedy="send one entry a poster"
        )
