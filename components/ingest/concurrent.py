"""Runs coroutines for a generator: many at a time on a thread of their own, in any order."""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_DONE = object()


def map_unordered(
    function: Callable[[], AbstractAsyncContextManager[Callable[[T], Awaitable[R]]]],
    items: Iterable[T],
    concurrency: int,
) -> Iterator[R]:
    """Call an asynchronous function for each item.

    Whoever takes the results sets the pace: no more than twice `concurrency` wait to be taken.

    Args:
        function: Gives, for as long as it is needed, the function to call.
        items: What to call it with.
        concurrency: How many calls run at a time.

    Yields:
        The results as they come.

    Raises:
        Exception: What a call raised; the others are cancelled.
    """
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    runner = _Runner(results, 2 * concurrency)
    thread = threading.Thread(target=runner.run, args=(function, items, concurrency), daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not _DONE:
            runner.make_room()
            yield result
    finally:
        runner.stop()
        thread.join()
    if runner.error:
        raise runner.error


class _Runner:
    def __init__(self, results: "queue.SimpleQueue[Any]", room: int) -> None:
        self.error: BaseException | None = None
        self._results = results
        self._room = asyncio.Semaphore(room)
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._stopped = False

    def make_room(self) -> None:
        self._call(self._room.release)

    def stop(self) -> None:
        self._stopped = True
        self._call(lambda: self._main and self._main.cancel())

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            # The loop is closed: all is done.
            return

    def run(self, *arguments: Any) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._main = self._loop.create_task(self._work(*arguments))
            if self._stopped:
                self._main.cancel()
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            self.error = group.exceptions[0]
        except Exception as error:
            self.error = error
        finally:
            self._loop.close()
            self._results.put(_DONE)

    async def _work(
        self,
        function: Callable[[], AbstractAsyncContextManager[Callable[[Any], Awaitable[Any]]]],
        items: Iterable[Any],
        concurrency: int,
    ) -> None:
        waiting = iter(items)
        async with function() as call, asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._take(call, waiting))

    async def _take(self, call: Callable[[Any], Awaitable[Any]], waiting: Iterator[Any]) -> None:
        for item in waiting:
            await self._room.acquire()
            self._results.put(await call(item))
