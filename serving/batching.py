"""Micro-batching: posters of many requests share a run of the model."""

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from marquee.engine import Prediction
from marquee.errors import MarqueeError
from serving.pools import Pool, Threads

_MEMORY_SECONDS = 0.5
"""A pace is that of about the latest so many seconds of work."""

_MOST_SECONDS = 0.25
"""Work that took longer counts as if it had been cut off: one huge poster is no pace."""

_FEWEST = 4
"""Posters that may wait however long they take to prepare: else threads would be idle."""


class Overloaded(MarqueeError):
    """There is more to do than can be done in time; the client shall come again.

    Args:
        seconds: When to come again, in whole seconds.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("the server is busy", remedy=f"try again in {seconds} s")
        self.seconds = seconds


class Prepared(Protocol):
    """A poster that can be predicted."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The model's input [H, W, 3]."""


P = TypeVar("P", bound=Prepared)


@dataclass(frozen=True)
class Predicted(Generic[P]):
    """What became of a request's posters, and when (`time.perf_counter`)."""

    posters: Sequence[P]
    predictions: list[Prediction]
    begun: float
    """When preparing began: until then it waited for a thread."""
    prepared: float
    predicted: float


@dataclass
class _Request(Generic[P]):
    """Posters that are answered together."""

    prepare: Callable[[], Sequence[P]]
    count: int
    answer: "asyncio.Future[Predicted[P]] | None"
    """None once it has been taken: the traceback of what failed holds this request, and must not be
    held by it."""
    loop: asyncio.AbstractEventLoop
    arrived: float
    posters: Sequence[P] = ()
    begun: float = 0.0
    prepared: float = 0.0
    predictions: dict[int, Prediction] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it: it has failed, or its client has gone."""
        answer = self.answer
        return answer is None or answer.done()

    def take(self, number: int, prediction: Prediction) -> None:
        self.predictions[number] = prediction
        if len(self.predictions) == len(self.posters) and self.answer and not self.is_over:
            predictions = [self.predictions[n] for n in range(len(self.posters))]
            self.answer.set_result(
                Predicted(self.posters, predictions, self.begun, self.prepared, time.perf_counter())
            )

    def fail(self, error: Exception) -> None:
        if self.answer and not self.is_over:
            self.answer.set_exception(error)


@dataclass(frozen=True)
class _Item:
    request: _Request[Any]
    number: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self.request.posters[self.number].pixels
        return pixels


class Pace:
    """How long a poster takes: a moving mean that fades by time of work, not by their number.

    Thus a single poster that met a pause of 100 ms hardly counts, however quick the others were.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._posters = 0.0

    def add(self, posters: int, seconds: float) -> None:
        """Learn from work.

        Args:
            posters: How many were worked on.
            seconds: How long that took.
        """
        counted = min(seconds, _MOST_SECONDS)
        kept = math.exp(-counted / _MEMORY_SECONDS)
        self._seconds = self._seconds * kept + counted
        self._posters = self._posters * kept + (posters * counted / seconds if seconds else 0.0)

    @property
    def seconds(self) -> float:
        """Seconds a poster; 0 while nothing is known."""
        return self._seconds / self._posters if self._posters else 0.0


class Run(Protocol):
    """Runs the model."""

    def __call__(self, images: NDArray[np.uint8], *, crowded: bool) -> list[Prediction]:
        """Predict posters [N, H, W, 3]; `crowded` if there are posters for all lanes."""


Observer = Callable[[int, float, list[float]], None]
"""Gets, for each run, its posters, its seconds, and how long each poster waited in seconds."""


class Batcher:
    """Has posters prepared, and runs the model on threads, for as many as are waiting.

    A run starts as soon as there is a lane for it. It waits a little for posters that are still
    being prepared, and for nothing else: a lone client waits for nobody. A poster goes from thread
    to thread, and back to the event loop, where all else happens, when its request is answered:
    each visit there would cost as much as a tenth of a quick model.

    Args:
        run: Predicts posters [N, H, W, 3].
        lanes: How many runs go on side by side, each on a thread of its own.
        max_batch: The largest N.
        run_seconds: How long such a run takes if it is the only one; 0 if that is to be found out.
        max_wait: Seconds that a run waits for posters on their way.
        queue_seconds: Posters are admitted while those before them take no longer than this; or
            while they are at most three full runs, whatever those take.
        observe: Is told of each run.
    """

    def __init__(
        self,
        run: Run,
        *,
        lanes: int,
        max_batch: int,
        run_seconds: float,
        max_wait: float,
        queue_seconds: float,
        observe: Observer,
    ) -> None:
        self._run = run
        self._lanes = lanes
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._queue_seconds = queue_seconds
        self._observe = observe
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._admitted = 0
        self._coming = 0
        self._counting = threading.Lock()
        self._run_pace = Pace()
        self._run_pace.add(max_batch, run_seconds)
        self._prepare_pace = Pace()
        self._runners = [
            threading.Thread(target=self._work, name=f"infer_{lane}", daemon=True)
            for lane in range(lanes)
        ]
        for runner in self._runners:
            runner.start()

    @property
    def admitted(self) -> int:
        """How many posters are being worked on or wait."""
        return self._admitted

    def check(self, posters: int = 1) -> None:
        """Tell whether so many posters more would be answered in time.

        Args:
            posters: How many a request brings.

        Raises:
            Overloaded: They would not.
        """
        run, prepare = self._run_pace.seconds, self._prepare_pace.seconds
        capacity = self._in_time(run, 3 * self._max_batch * self._lanes)
        # Preparing and the model work side by side: the slower one sets the pace.
        if prepare:
            capacity = min(capacity, self._in_time(prepare, _FEWEST))
        # A request of more posters than ever wait at once is served when nothing else is.
        if self._admitted and self._admitted + posters > capacity:
            raise Overloaded(max(1, math.ceil(self._admitted * max(run, prepare))))

    def _in_time(self, poster_seconds: float, fewest: int) -> int:
        """Give how many posters are through in time, or may wait whatever it takes."""
        return max(fewest, int(self._queue_seconds / poster_seconds)) if poster_seconds else fewest

    @contextmanager
    def admit(self, posters: int) -> Iterator[None]:
        """Take posters in, from before they are prepared until they are answered.

        Args:
            posters: How many.

        Raises:
            Overloaded: They would not be answered in time.
        """
        self.check(posters)
        self._admitted += posters
        try:
            yield
        finally:
            self._admitted -= posters

    def posters_in(self, seconds: float) -> int:
        """Tell how many posters are predicted in so much time: what other work counts as.

        Args:
            seconds: How long that work takes.
        """
        slower = max(self._run_pace.seconds, self._prepare_pace.seconds)
        return max(1, math.ceil(seconds / slower)) if slower else 1

    async def is_alone(self) -> bool:
        """Tell whether one poster is all that is admitted once all have been that were read."""
        if self._admitted == 1:
            await asyncio.sleep(0)
        return self._admitted == 1

    def prepare(self, posters: int, prepare: Callable[[], Sequence[P]], pool: Pool) -> Sequence[P]:
        """Prepare posters at once, and learn how long that takes.

        Args:
            posters: How many.
            prepare: Gives them.
            pool: Where such posters are prepared in a crowd.

        Returns:
            What `prepare` gave.
        """
        start = time.perf_counter()
        try:
            return prepare()
        finally:
            seconds = (time.perf_counter() - start) / pool.workers
            with self._counting:
                self._prepare_pace.add(posters, seconds)

    async def predict(
        self, posters: int, prepare: Callable[[], Sequence[P]], pool: Pool
    ) -> Predicted[P]:
        """Predict posters, together with those of other requests.

        Args:
            posters: How many.
            prepare: Gives them.
            pool: Where they are prepared.

        Returns:
            What `prepare` gave, and a prediction for each.

        Raises:
            Exception: What `prepare`, or the run, raised.
        """
        loop = asyncio.get_running_loop()
        prepare = partial(self.prepare, posters, prepare, pool)
        request = _Request(prepare, posters, loop.create_future(), loop, time.perf_counter())
        self._count_coming(posters)
        job = pool.submit(self._prepare, request)
        try:
            assert request.answer
            return await request.answer
        finally:
            request.answer = None
            if job.cancel():  # its client has gone
                self._count_coming(-posters)

    def predict_here(self, prepare: Callable[[], Sequence[P]], pool: Pool) -> Predicted[P]:
        """Predict a poster on the event loop: for one that is alone, and a quick model.

        Args:
            prepare: Gives the poster.
            pool: Where such posters are prepared in a crowd.

        Returns:
            What `prepare` gave, and the prediction.
        """
        found = self._predict_one(prepare, pool)
        self._learn(1, found.predicted - found.prepared, [0.0])
        return found

    async def predict_alone(
        self, prepare: Callable[[], Sequence[P]], threads: Threads
    ) -> Predicted[P]:
        """Predict a poster on one thread: for one that is alone, and a slow model.

        Args:
            prepare: Gives the poster.
            threads: One of them does it.

        Returns:
            What `prepare` gave, and the prediction.
        """
        loop = asyncio.get_running_loop()
        arrived = time.perf_counter()
        found = await loop.run_in_executor(threads, self._predict_one, prepare, threads)
        self._learn(1, found.predicted - found.prepared, [found.begun - arrived])
        return found

    def _predict_one(self, prepare: Callable[[], Sequence[P]], pool: Pool) -> Predicted[P]:
        begun = time.perf_counter()
        posters = self.prepare(1, prepare, pool)
        prepared = time.perf_counter()
        predictions = self._run(posters[0].pixels[np.newaxis], crowded=False)
        return Predicted(posters, predictions, begun, prepared, time.perf_counter())

    def close(self) -> None:
        """Finish what waits, and stop."""
        for _ in self._runners:
            self._queue.put(None)
        for runner in self._runners:
            runner.join()

    def _count_coming(self, posters: int) -> None:
        with self._counting:
            self._coming += posters

    def _prepare(self, request: _Request[Any]) -> None:
        request.begun = time.perf_counter()
        try:
            request.posters = request.prepare()
            request.prepared = time.perf_counter()
        except Exception as error:
            _call(request.loop, request.fail, error)
        finally:
            self._count_coming(-request.count)
            for number in range(len(request.posters)):
                self._queue.put(_Item(request, number))

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            if batch:
                self._answer(batch)
            del batch  # or it would stay in memory until the next one

    def _gather(self) -> tuple[list[_Item], bool]:
        """Wait for posters; tell whether there may be more."""
        batch: list[_Item] = []
        deadline = math.inf
        while len(batch) < self._max_batch:
            try:
                item = self._next(batch, deadline)
            except queue.Empty:
                break
            if item is None:
                return batch, False
            if item.request.is_over:
                continue
            if not batch:
                deadline = time.perf_counter() + self._max_wait
            batch.append(item)
        return batch, True

    def _next(self, batch: list[_Item], deadline: float) -> _Item | None:
        if not batch:
            return self._queue.get()
        wait = deadline - time.perf_counter()
        if self._coming and wait > 0:
            return self._queue.get(timeout=wait)
        return self._queue.get_nowait()

    def _answer(self, batch: list[_Item]) -> None:
        loop, start = batch[0].request.loop, time.perf_counter()
        crowded = self._admitted >= self._lanes
        try:
            predictions = self._run(np.stack([item.pixels for item in batch]), crowded=crowded)
        except Exception as error:
            _call(loop, _fail, batch, error)
        else:
            seconds = time.perf_counter() - start
            beside = self._lanes if crowded else 1
            _call(loop, self._deliver, batch, predictions, start, seconds, beside)

    def _deliver(
        self,
        batch: list[_Item],
        predictions: list[Prediction],
        start: float,
        seconds: float,
        beside: int,
    ) -> None:
        for item, prediction in zip(batch, predictions, strict=True):
            item.request.take(item.number, prediction)
        waits = [
            start - item.request.prepared + item.request.begun - item.request.arrived
            for item in batch
        ]
        self._learn(len(batch), seconds, waits, beside)

    def _learn(self, posters: int, seconds: float, waits: list[float], beside: int = 1) -> None:
        self._run_pace.add(posters, seconds / beside)
        self._observe(posters, seconds, waits)


def _fail(batch: list[_Item], error: Exception) -> None:
    for item in batch:
        item.request.fail(error)


def _call(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any
) -> None:
    # The loop is closed when the server has given up on its last requests.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
