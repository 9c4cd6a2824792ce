"""Draws posters in processes of their own, and keeps them as files."""

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from components.ingest.tmdb_server import films, imdb
from marquee import storage
from marquee.log import progress
from marquee.processes import begin_worker

T = TypeVar("T")

_BATCH = 8
_MOST_WORKERS = 8


class DrawingFailed(Exception):
    """A drawing process died; the next request gets a new one."""


class PosterStore:
    """The files that a server hands out: each is made when it is first asked for.

    Args:
        folder: Where they are kept; None for a temporary folder, which is removed at the end.
    """

    def __init__(self, folder: Path | None) -> None:
        self._temporary = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="marquee-tmdb-")
            folder = Path(self._temporary.name)
        self._folder = folder.expanduser().resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pool = _new_pool()
        self._making: dict[Path, asyncio.Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._temporary:
            self._temporary.cleanup()

    def kept(self, path: str, size: str) -> bytes | None:
        """Give a poster that is there already; None if it has to be drawn.

        Args:
            path: Its path, such as `/9000000v0.jpg`.
            size: Its size, such as `w342`.
        """
        try:
            return self._place(path, size).read_bytes()
        except FileNotFoundError:
            return None

    async def draw(self, poster: films.Poster, size: str) -> bytes:
        """Draw a poster, keep it and give it.

        Raises:
            DrawingFailed: The process that drew it died.
        """
        place = self._place(poster.path, size)
        number = films.number_of_tmdb(poster.tmdb_id)
        await self._make(place, _draw_to, number, poster.variant, size, str(place))
        return place.read_bytes()

    async def titles(self, count: int) -> bytes:
        """Give IMDb's file of the first `count` films.

        Raises:
            DrawingFailed: The process that wrote it died.
        """
        place = self._folder / f"title.basics-{count}.tsv.gz"
        if not place.exists():
            await self._make(place, imdb.write_titles, count, str(place))
        return place.read_bytes()

    async def prepare(self, posters: Iterable[films.Poster], size: str) -> None:
        """Draw posters, as far as they are missing."""
        jobs = [(poster, self._place(poster.path, size)) for poster in posters]
        missing = [
            (films.number_of_tmdb(poster.tmdb_id), poster.variant, size, str(place))
            for poster, place in jobs
            if not place.exists()
        ]
        batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
        with progress(f"draw {size} posters", len(missing)) as advance:
            for done in asyncio.as_completed([self._run(_draw_all, batch) for batch in batches]):
                advance(await done)

    def _place(self, path: str, size: str) -> Path:
        return self._folder / size / path.removeprefix("/")

    async def _make(self, place: Path, work: Callable[..., None], *arguments: object) -> None:
        """Have a file made once, however many ask for it meanwhile."""
        pool = self._pool
        try:
            if place not in self._making:
                self._making[place] = self._run(work, *arguments)
                self._making[place].add_done_callback(lambda _: self._making.pop(place))
            # The others wait on even if the client that asked first goes away.
            await asyncio.shield(self._making[place])
        except BrokenExecutor:
            if self._pool is pool:
                self._pool = _new_pool()
            raise DrawingFailed from None

    def _run(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        with _interrupts_held():
            return asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)


def _new_pool() -> ProcessPoolExecutor:
    """Start no process yet: each starts when there is work and no other is idle."""
    # Not forked: this process has threads.
    context = multiprocessing.get_context("spawn")
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    return ProcessPoolExecutor(workers, context, initializer=begin_worker)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: it is for the server, which ends them."""
    resource_tracker.ensure_running()  # Otherwise the first process starts it, and it unblocks.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _draw_to(number: int, variant: int, size: str, place: str) -> None:
    storage.write_bytes(place, films.draw(number, variant, size))


def _draw_all(jobs: Sequence[tuple[int, int, str, str]]) -> int:
    for job in jobs:
        _draw_to(*job)
    return len(jobs)
