"""Micro-batching: posters of many requests share a run of the model."""

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.engine import Prediction
from marquee.errors import MarqueeError

_MEMORY_SECONDS = 0.5
"""A pace is that of about the latest so many seconds of work."""

_MOST_SECONDS = 0.25
"""Work that took longer counts as if it had been cut off: one huge poster is no pace."""

_FEWEST = 4
"""Posters that may wait however long they take to decode: else threads would be idle."""


class Overloaded(MarqueeError):
    """There is more to do than can be done in time; the client shall come again.

    Args:
        seconds: When to come again, in whole seconds.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("the server is busy", remedy=f"try again in {seconds} s")
        self.seconds = seconds


def fitting_batch(poster_seconds: float, run_seconds: float, most: int) -> int:
    """Give the posters a run that a model of this speed should have.

    Batches save a quick model what a run costs besides its posters. A slow model gains nothing,
    while each poster more of VGG16 takes 25 MB and makes all others wait.

    Args:
        poster_seconds: How long a run of one poster takes.
        run_seconds: How long a run may take.
        most: The largest batch.

    Returns:
        1 to `most`.
    """
    return max(1, min(most, int(run_seconds / poster_seconds)))


@dataclass(frozen=True)
class _Item:
    pixels: NDArray[np.uint8]
    answer: "asyncio.Future[Prediction]"
    since: float
    """When it came into the queue (`time.perf_counter`)."""


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


Observer = Callable[[int, float, list[float]], None]
"""Gets, for each run, its posters, its seconds, and how long each poster waited in seconds."""


class Batcher:
    """Runs the model on a thread of its own, with as many posters at once as are waiting.

    A run starts as soon as the one before has ended. It waits only for posters that are being
    decoded right now, so that a lone client waits for nobody. Except for that thread, all happens
    on one event loop.

    Args:
        run: Predicts posters [N, H, W, 3].
        max_batch: The largest N.
        run_seconds: How long a run of so many takes; 0 if that is to be found out.
        max_wait: Seconds that a run waits for posters on their way.
        queue_seconds: Posters are admitted while those before them take no longer than this; or
            while they are at most three full runs, whatever those take.
        observe: Is told of each run.
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.uint8]], list[Prediction]],
        *,
        max_batch: int,
        run_seconds: float,
        max_wait: float,
        queue_seconds: float,
        observe: Observer,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._queue_seconds = queue_seconds
        self._observe = observe
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._admitted = 0
        self._coming = 0
        self._run_pace = Pace()
        self._run_pace.add(max_batch, run_seconds)
        self._decode_pace = Pace()
        self._thread = threading.Thread(target=self._work, name="infer", daemon=True)
        self._thread.start()

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
        run, decode = self._run_pace.seconds, self._decode_pace.seconds
        capacity = self._in_time(run, 3 * self._max_batch)
        # Decoding and the model work side by side: the slower one sets the pace.
        if decode:
            capacity = min(capacity, self._in_time(decode, _FEWEST))
        # A request of more posters than ever wait at once is served when nothing else is.
        if self._admitted and self._admitted + posters > capacity:
            raise Overloaded(max(1, math.ceil(self._admitted * max(run, decode))))

    def _in_time(self, poster_seconds: float, fewest: int) -> int:
        """Give how many posters are through in time, or may wait whatever it takes."""
        return max(fewest, int(self._queue_seconds / poster_seconds)) if poster_seconds else fewest

    @contextmanager
    def admit(self, posters: int) -> Iterator[None]:
        """Take posters in, from before they are decoded until they are answered.

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

    @contextmanager
    def coming(self, posters: int) -> Iterator[None]:
        """Announce posters that will be there in a moment, so that a run may wait for them."""
        self._coming += posters
        try:
            yield
        finally:
            self._coming -= posters

    def decoded(self, posters: int, seconds: float) -> None:
        """Learn what comes before the model.

        Args:
            posters: How many were decoded.
            seconds: How long that took of all threads that decode.
        """
        self._decode_pace.add(posters, seconds)

    async def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Predict posters, together with those of other requests.

        Args:
            images: N preprocessed posters, each [H, W, 3].

        Returns:
            N predictions.
        """
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        items = [_Item(pixels, loop.create_future(), now) for pixels in images]
        for item in items:
            self._queue.put(item)
        return list(await asyncio.gather(*(item.answer for item in items)))

    async def is_alone(self) -> bool:
        """Tell whether one poster is all that is admitted, and nothing else has arrived by now."""
        if self._admitted == 1:
            await asyncio.sleep(0)  # whatever has arrived is admitted meanwhile
        return self._admitted == 1

    def predict_here(self, image: NDArray[np.uint8]) -> Prediction:
        """Predict a poster on the calling thread: for one that is alone, and a quick model.

        Args:
            image: A preprocessed poster [H, W, 3].

        Returns:
            The prediction.
        """
        start = time.perf_counter()
        [prediction] = self._run(image[np.newaxis])
        self._learn(1, time.perf_counter() - start, [0.0])
        return prediction

    def close(self) -> None:
        """Finish what waits, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            if batch:
                self._answer(batch)

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
        start = time.perf_counter()
        predictions: list[Prediction] | Exception
        try:
            predictions = self._run(np.stack([item.pixels for item in batch]))
        except Exception as error:
            predictions = error
        seconds = time.perf_counter() - start
        # The loop is closed when the server has given up on its last requests.
        with contextlib.suppress(RuntimeError):
            batch[0].answer.get_loop().call_soon_threadsafe(
                self._deliver, batch, predictions, start, seconds
            )

    def _learn(self, posters: int, seconds: float, waits: list[float]) -> None:
        self._run_pace.add(posters, seconds)
        self._observe(posters, seconds, waits)

    def _deliver(
        self,
        batch: list[_Item],
        predictions: list[Prediction] | Exception,
        start: float,
        seconds: float,
    ) -> None:
        self._learn(len(batch), seconds, [start - item.since for item in batch])
        for number, item in enumerate(batch):
            if item.answer.done():
                continue  # its client has gone
            if isinstance(predictions, Exception):
                item.answer.set_exception(predictions)
            else:
                item.answer.set_result(predictions[number])
