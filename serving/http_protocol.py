"""HTTP connections, as uvicorn has them, but not for ever."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serving.bodies import READ_SECONDS

_MOST_HEADER_BYTES = 64 * 1024


class _TogetherTransport:
    """A transport that sends in one piece what is written in one go: an answer's head and body.

    A system call costs as much as parsing a request, and so does a packet where it arrives.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._written = b"".join(self._written), []
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Ends a connection whose headers are too large or too slow: uvicorn would wait and keep them.

    Nothing is answered: whoever sends such headers is no client of the endpoint.

    Args:
        refuse: Gives the answer to a request that gets no further, known by its scope; what it
            gives nothing for goes to the application.
        of_uvicorn: Its own arguments.
    """

    seconds: ClassVar[float] = READ_SECONDS
    """How long the headers of a request may take."""

    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0

    def __init__(
        self,
        *,
        refuse: Callable[[Any], Response | None] = lambda scope: None,
        **of_uvicorn: Any,
    ) -> None:
        super().__init__(**of_uvicorn)
        self._refuse = refuse

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        together = _TogetherTransport(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, together))
        self._watch_headers(0)

    def data_received(self, data: bytes) -> None:
        """Read on, and count what is not yet a request."""
        received = len(data) if self._in_headers else 0
        super().data_received(data)
        self._watch_headers(received)

    def on_message_begin(self) -> None:
        """Begin a request's headers."""
        self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_headers = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Refuse without a task what gets no further, if it is plain and the connection stays.

        Of requests that wait in a queue only the last is: each would call the next from within.
        """
        is_plain = cycle.keep_alive and not cycle.waiting_for_100_continue and not self.pipeline
        answer = self._refuse(cycle.scope) if is_plain else None
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        headers = [*cycle.default_headers, *answer.raw_headers]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + answer.body)
        cycle.response_complete = True
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _watch_headers(self, received: int) -> None:
        """Wait for headers that have not arrived whole: most come in one go with their request."""
        if not self._in_headers:
            self._stop_waiting()
            return
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)
        self._header_bytes += received
        if self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
