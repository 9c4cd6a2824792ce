"""Runs the server: in the foreground for people, on a thread for tests."""

import asyncio
import signal
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from components.ingest.tmdb_server import films
from components.ingest.tmdb_server.app import RequestLog, Service
from components.ingest.tmdb_server.catalogue import Catalogue
from components.ingest.tmdb_server.options import Options
from components.ingest.tmdb_server.posters import PosterStore
from marquee.errors import InfrastructureError

_GRACE_SECONDS = 0.25
"""How long answers that are under way may take once the server is to stop."""
_SETTLE_SECONDS = 0.05

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def run(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        options: What to serve.
        announce: Called with the server's root URL once it is ready.

    Raises:
        InfrastructureError: The address cannot be listened on.
    """
    with _listener(options) as listener, RequestLog(options.log) as log:
        asyncio.run(_run(options, Catalogue(options.films), log, listener, announce))


async def _run(
    options: Options,
    catalogue: Catalogue,
    log: RequestLog,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with _serving(options, catalogue, log, listener) as root:
            announce(root)
            await asyncio.Event().wait()


class TmdbServer:
    """A server on a thread of this process, for tests and benchmarks.

    Args:
        **options: The fields of `Options`.

    Raises:
        UsageError: An option is out of range.
        InfrastructureError: On entering: the address cannot be listened on.

    Examples:
        with TmdbServer(films=50, faults={"5xx": 0.1}) as server:
            requests.get(f"{server.base_url}/configuration", headers=headers)
    """

    def __init__(self, **options: Any) -> None:
        self._options = Options(**options)
        self._catalogue = Catalogue(self._options.films)
        self._root = ""

    def __enter__(self) -> Self:
        ready: Future[str] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="tmdb-server", daemon=True
        )
        self._thread.start()
        self._root = ready.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, ready: "Future[str]") -> None:
        try:
            with _listener(self._options) as listener, RequestLog(self._options.log) as self._log:
                asyncio.run(self._serve(listener, ready))
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, listener: socket.socket, ready: "Future[str]") -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with _serving(self._options, self._catalogue, self._log, listener) as root:
            ready.set_result(root)
            await self._stop.wait()

    @property
    def base_url(self) -> str:
        """Where the API is, without a slash at the end."""
        return f"{self._root}/3"

    @property
    def image_base_url(self) -> str:
        """Where the images are, without a slash at the end."""
        return f"{self._root}/t/p"

    @property
    def titles_url(self) -> str:
        """Where IMDb's file is."""
        return f"{self._root}/title.basics.tsv.gz"

    @property
    def requests(self) -> Counter[str]:
        """How many requests came in.

        By route (`discover`, `movie`, `changes`, `configuration`, `genres`, `find`, `image`,
        `titles`, `unknown`), and again by what befell them: the kinds of `faults.KINDS`,
        `throttle` and `rate limit`.
        """
        return self._log.counts.copy()

    def change(
        self,
        tmdb_id: int,
        *,
        title: str | None = None,
        genres: Sequence[str] | None = None,
        poster: bool = False,
    ) -> None:
        """Change a film, today; see `Catalogue.change`."""
        self._catalogue.change(tmdb_id, title=title, genres=genres, poster=poster)

    def remove(self, tmdb_id: int) -> None:
        """Remove a film, today; see `Catalogue.remove`."""
        self._catalogue.remove(tmdb_id)


@asynccontextmanager
async def _serving(
    options: Options, catalogue: Catalogue, log: RequestLog, listener: socket.socket
) -> AsyncIterator[str]:
    """Serve on a bound socket; give the server's root URL once it is ready."""
    with PosterStore(options.cache) as store:
        if options.prepare:
            everyone = map(films.film, range(options.films))
            await store.prepare((films.posters(film)[0] for film in everyone), options.prepare)
        runner = web.AppRunner(
            Service(options, catalogue, store, log).application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_GRACE_SECONDS,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield _root_url(options.host, listener)
        finally:
            # A connection that asyncio accepts while it closes the listener stays open and dumb
            # (python/cpython#109564): accept no more, let it begin those it has, and then close.
            asyncio.get_running_loop().remove_reader(listener)
            await asyncio.sleep(_SETTLE_SECONDS)
            await runner.cleanup()


def _listener(options: Options) -> socket.socket:
    """Take the address before any work is done for it; nobody is heard yet."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise InfrastructureError(
            f"cannot listen on {options.host}, port {options.port}: {error.strerror}",
            remedy="stop what listens there, or give another --port (0 for any free one)",
        ) from None
    return listener


def _root_url(host: str, listener: socket.socket) -> str:
    host = _ANYWHERE.get(host, host)
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
