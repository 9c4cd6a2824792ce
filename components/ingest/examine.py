"""Looks at posters, in processes of their own: decodes them, hashes and measures the pixels."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import imagehash
from PIL import Image

from components.ingest.source import Item, Kept, Offer, Skipped
from marquee.catalog import Poster, Refusal
from marquee.errors import InfrastructureError, InvalidImage
from marquee.images import decode, measure, mode_of
from marquee.processes import begin_worker, cpus

_TOGETHER = 16
"""Posters that travel to a process together."""

Result = Poster | Kept | Refusal | Skipped
_Task = tuple[Offer, str]
"""An offer, and the digest of what the catalog holds in its place."""


def examine(offer: Offer, held: str, source: str) -> Poster | Kept | Refusal:
    """Read an offered poster, decode and measure it.

    Args:
        offer: The poster.
        held: The digest of what the catalog holds in its place, or nothing.
        source: The name of the source, for a refusal.

    Returns:
        The poster; or that the catalog holds it already; or why it cannot be used.
    """
    try:
        data = offer.read()
        if offer.facts.digest(data) == held:
            return Kept(offer.facts.poster_id)
        image = decode(data)
        height, width = image.shape[:2]
        return Poster(
            facts=offer.facts,
            data=data,
            perceptual_hash=str(imagehash.phash(Image.fromarray(image))),
            mode=mode_of(data),
            width=width,
            height=height,
            attributes=measure(image),
        )
    except InvalidImage as error:
        return Refusal(
            id=offer.facts.poster_id,
            row=offer.row,
            source=source,
            reason=error.message,
            remedy=error.remedy,
        )


class Examiner:
    """Examines the posters of one source after the other. Use it as a context manager.

    Args:
        workers: Processes; 0 takes one a core, and 1 works in this process.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers or cpus()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Examiner":
        if self._workers > 1:
            # Not forked: a lock that a thread holds at that moment would stay locked.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, begin_worker)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def examine(
        self, items: Iterable[Item], held: Callable[[str], str], source: str
    ) -> Iterator[Result]:
        """Examine what a source offers, some posters ahead of whoever takes the results.

        Args:
            items: What the source gives.
            held: Gives the digest of what the catalog holds under a poster_id, or nothing.
            source: The source's name.

        Yields:
            What became of each item; what is no offer passes by the others.

        Raises:
            InfrastructureError: A process was killed.
        """
        try:
            yield from self._examine(items, held, source)
        except BrokenProcessPool:
            raise InfrastructureError(
                "a process that examines posters was killed",
                remedy="give more memory, or fewer processes (--set ingest.workers=1), and run "
                "again: it goes on where it stopped",
            ) from None

    def _examine(
        self, items: Iterable[Item], held: Callable[[str], str], source: str
    ) -> Iterator[Result]:
        batch: list[_Task] = []
        waiting: deque[Future[list[Poster | Kept | Refusal]]] = deque()
        for item in items:
            if not isinstance(item, Offer):
                yield item
                continue
            batch.append((item, held(item.facts.poster_id)))
            if len(batch) == _TOGETHER:
                waiting.append(self._submit(batch, source))
                batch = []
            if len(waiting) > 2 * self._workers:
                yield from waiting.popleft().result()
        waiting.append(self._submit(batch, source))
        for future in waiting:
            yield from future.result()

    def _submit(self, batch: list[_Task], source: str) -> "Future[list[Poster | Kept | Refusal]]":
        if self._pool:
            return self._pool.submit(_examine_all, batch, source)
        done: Future[list[Poster | Kept | Refusal]] = Future()
        done.set_result(_examine_all(batch, source))
        return done


def _examine_all(batch: list[_Task], source: str) -> list[Poster | Kept | Refusal]:
    return [examine(offer, held, source) for offer, held in batch]
