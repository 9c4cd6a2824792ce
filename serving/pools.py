"""Where posters are prepared: on threads, or on the event loop itself."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol


class Pool(Protocol):
    """Does work, soon."""

    @property
    def workers(self) -> int:
        """How many pieces of work it does at a time."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Have work done, if it is not cancelled before it begins."""


class Threads(ThreadPoolExecutor):
    """Threads, for what takes long: as many as there are CPUs keep them busy.

    Args:
        workers: How many they are.
        name: What their names begin with.
    """

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, name)
        self.workers = workers


class EventLoop:
    """The running event loop, for what takes less than handing it over to a thread and back.

    In a crowd that is much: the thread waits for Python's lock whenever it has let go of it, while
    CPUs are idle. One piece of work is done in each round of the loop, so that connections never
    wait for more.
    """

    workers = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        """Have work done in one of the loop's next rounds.

        Args:
            work: Does it.
            *arguments: Of `work`.

        Returns:
            What becomes of it.
        """
        job: Future[Any] = Future()
        self._waiting.append((job, partial(work, *arguments)))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._turn)
        return job

    def _turn(self) -> None:
        job, work = self._waiting[0]
        if job.set_running_or_notify_cancel():
            try:
                job.set_result(work())
            except Exception as error:
                job.set_exception(error)
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
