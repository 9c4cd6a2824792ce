"""The posters of a request: fetched if need be, decoded, measured, and made the model's input."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.endpoint import Instance, InvalidInstance
from marquee.errors import DataError, InvalidImage
from marquee.images import MAX_PIXELS, Attributes, Preprocessing, decode, measure, resize
from serving.bodies import Bodies
from serving.fetch import PosterFetcher, UrlRefused
from serving.refusals import REFUSALS, TooLarge

_MOST_PIXELS = 4 * MAX_PIXELS
"""Of a request's posters together: as much as a thread decodes in a few seconds."""


@dataclass(frozen=True)
class Poster:
    """A poster that can be predicted."""

    instance: Instance
    size: tuple[int, int]
    """Width and height as it was sent, in px."""
    attributes: Attributes | None
    """None if nobody records them: measuring costs a third of what decoding costs."""
    pixels: NDArray[np.uint8]
    """The model's input [H, W, 3]."""


def fetched(
    fetcher: PosterFetcher | None, bodies: Bodies, instances: list[Instance]
) -> AbstractAsyncContextManager[list[Instance]]:
    """Fetch the posters that a request names by URL.

    Args:
        fetcher: Fetches; without it no URL is allowed.
        bodies: Counts what is held of them until the context ends.
        instances: What was sent.

    Returns:
        A context with the instances, each with its image.

    Raises:
        InvalidInstance: One poster cannot be had; its index is named.
        TooLarge: Together they have more bytes than a request may have.
        Overloaded: Too many posters are being fetched, or held.
    """
    places = [index for index, instance in enumerate(instances) if instance.url]
    return _fetched(fetcher, bodies, instances, places) if places else nullcontext(instances)


@asynccontextmanager
async def _fetched(
    fetcher: PosterFetcher | None, bodies: Bodies, instances: list[Instance], places: list[int]
) -> AsyncIterator[list[Instance]]:
    if fetcher is None:
        raise InvalidInstance(
            places[0], "this server fetches no posters", 'send "image": {"b64": "..."}'
        )
    size = 0
    with ExitStack() as held:

        async def fetch(index: int) -> bytes:
            nonlocal size
            try:
                image = await fetcher.fetch(str(instances[index].url))
            except UrlRefused as error:
                raise InvalidInstance(index, error.message, error.remedy) from error
            size += len(image)
            if size > bodies.max_bytes:
                raise TooLarge(bodies.max_bytes)
            held.enter_context(bodies.hold(len(image)))
            return image

        with fetcher.reserved(len(places)):
            images = await _together(map(fetch, places))
        complete = list(instances)
        for index, image in zip(places, images, strict=True):
            complete[index] = dataclasses.replace(instances[index], image=image)
        yield complete


async def _together(work: Iterable[Coroutine[Any, Any, bytes]]) -> list[bytes]:
    """Wait for all; the first that fails ends the others, and a fault of ours is told first."""
    failures: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
        return [task.result() for task in tasks]
    except ExceptionGroup as errors:
        failures += sorted(errors.exceptions, key=lambda error: isinstance(error, REFUSALS))
        errors.__traceback__ = None
    # What is raised must not be held by its own traceback, or all posters would stay in memory: not
    # by its task, nor by the group, which its traceback holds, nor by a name.
    tasks.clear()
    del failures[1:]
    raise failures.pop()


def decode_all(
    instances: list[Instance], preprocessing: Preprocessing, measured: bool
) -> list[Poster]:
    """Decode the posters of a request.

    Args:
        instances: Each with its image.
        preprocessing: The model's input.
        measured: Whether to measure their attributes too.

    Returns:
        One poster an instance.

    Raises:
        InvalidInstance: One of them is no usable poster; its index is named.
        DataError: Together they have too many pixels.
    """
    posters, pixels = [], 0
    for index, instance in enumerate(instances):
        poster = _decode(index, instance, preprocessing, measured)
        posters.append(poster)
        pixels += poster.size[0] * poster.size[1]
        if pixels > _MOST_PIXELS:
            raise DataError(
                f"the posters have more than {_MOST_PIXELS:,} px in all",
                remedy="send fewer or smaller posters a request",
            )
    return posters


def _decode(index: int, instance: Instance, preprocessing: Preprocessing, measured: bool) -> Poster:
    try:
        image = decode(instance.image)
    except InvalidImage as error:
        raise InvalidInstance(index, error.message, error.remedy) from error
    height, width = image.shape[:2]
    attributes = measure(image) if measured else None
    return Poster(instance, (width, height), attributes, resize(image, preprocessing))
