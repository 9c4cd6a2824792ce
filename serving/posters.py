"""The posters of a request: fetched if need be, decoded, measured, and made the model's input."""

import asyncio
import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.endpoint import Instance, InvalidInstance
from marquee.errors import InvalidImage
from marquee.images import Attributes, Preprocessing, decode, measure, resize
from serving.batching import Overloaded
from serving.fetch import PosterFetcher, UrlRefused

_MOST_FETCHES = 64
"""Posters being fetched for all requests together; each may hold its file in memory."""


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


async def fetch_all(fetcher: PosterFetcher | None, instances: list[Instance]) -> list[Instance]:
    """Fetch the posters that a request names by URL.

    Args:
        fetcher: Fetches; without it no URL is allowed.
        instances: What was sent.

    Returns:
        The instances, each with its image.

    Raises:
        InvalidInstance: One poster cannot be had; its index is named.
        Overloaded: Too many posters are being fetched.
    """
    places = [index for index, instance in enumerate(instances) if instance.url]
    if not places:
        return instances
    if fetcher is None:
        raise InvalidInstance(
            places[0], "this server fetches no posters", 'send "image": {"b64": "..."}'
        )
    # A request of more than that is served when nobody else fetches.
    if fetcher.fetching and fetcher.fetching + len(places) > _MOST_FETCHES:
        raise Overloaded(1)
    images = await asyncio.gather(
        *(fetcher.fetch(str(instances[index].url)) for index in places), return_exceptions=True
    )
    fetched = list(instances)
    for index, image in zip(places, images, strict=True):
        if isinstance(image, UrlRefused):
            raise InvalidInstance(index, image.message, image.remedy) from image
        if isinstance(image, BaseException):
            raise image
        fetched[index] = dataclasses.replace(instances[index], image=image)
    return fetched


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
    """
    return [
        _decode(index, instance, preprocessing, measured)
        for index, instance in enumerate(instances)
    ]


def _decode(index: int, instance: Instance, preprocessing: Preprocessing, measured: bool) -> Poster:
    try:
        image = decode(instance.image)
    except InvalidImage as error:
        raise InvalidInstance(index, error.message, error.remedy) from error
    height, width = image.shape[:2]
    attributes = measure(image) if measured else None
    return Poster(instance, (width, height), attributes, resize(image, preprocessing))
