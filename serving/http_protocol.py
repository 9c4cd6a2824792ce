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
    """Ends a connection whose headers are too large, or that is too slow: uvicorn would wait.

    Nothing is answered: whoever sends such headers is no client of the endpoint.

    Args:
        refuse: Gives the answer to a request that gets no further, known by its scope; what it
            gives nothing for goes to the application.
        of_uvicorn: Its own arguments.
    """

    seconds: ClassVar[float] = READ_SECONDS
    """How long a request's headers may take, and the rest of its body once it is answered; and how
    long a client may leave what it was answered unread."""

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0
    _messages = 0

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
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on, and count what is not yet a request."""
        messages = self._messages
        super().data_received(data)
        if self._in_headers and self._messages == messages:
            self._header_bytes += len(data)
            if self._header_bytes > _MOST_HEADER_BYTES:
                self.transport.close()
        self._watch()

    def on_message_begin(self) -> None:
        """Begin a request's headers."""
        self._in_headers, self._header_bytes = True, 0
        self._messages += 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after a body is none that anybody reads."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_headers = False
        self._unset_keepalive_if_required()  # of an answer that came amid the same data
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the next request anew."""
        self._stop_waiting()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Refuse without a task what gets no further, if it is plain and the connection stays.

        Of requests that wait in a queue only the last is: each would call the next from within.
        Whoever reads no answers gets none so quickly: they would fill the memory.
        """
        is_plain = cycle.keep_alive and not cycle.waiting_for_100_continue
        is_next = not self.pipeline and not self.flow.write_paused
        answer = self._refuse(cycle.scope) if is_plain and is_next else None
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        headers = [*cycle.default_headers, *answer.raw_headers]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + answer.body)
        cycle.response_complete = True
        cycle.on_response = lambda: None
        self.on_response_complete()

    def pause_writing(self) -> None:
        """Give up a client that does not read: its answers would fill the memory."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it reads."""
        super().resume_writing()
        self._stop_watching_reader()

    def _stop_watching_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        self._stop_watching_reader()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Wait no longer than allowed for what the client has to send, if nobody else does."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if (is_answering and not self._in_headers) or self.timeout_keep_alive_task:
            self._stop_waiting()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
