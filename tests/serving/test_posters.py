"""The posters of a request, before they are predicted."""

import asyncio
import contextlib
from contextlib import ExitStack

import pytest
from leftovers import is_freed

from marquee.endpoint import Instance, InvalidInstance
from serving.batching import Overloaded
from serving.bodies import Bodies
from serving.fetch import FetchSettings, PosterFetcher, UrlRefused
from serving.posters import fetched
from serving.refusals import TooLarge


class Fetcher(PosterFetcher):
    """Gives as many bytes as the URL says."""

    def __init__(self):
        super().__init__(FetchSettings(hosts=("image.tmdb.org",)))
        self.was_ended = False

    async def fetch(self, url):
        if url == "slow":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.was_ended = True
                raise
        if url == "gone":
            raise UrlRefused("the host sent nothing", remedy="send the file")
        return bytes(int(url))


def instances(*urls):
    return [Instance(image=b"sent"), *(Instance(url=url) for url in urls)]


async def complete(bodies, *urls, fetcher=None):
    async with fetched(fetcher or Fetcher(), bodies, instances(*urls)) as found:
        with pytest.raises(Overloaded), bodies.hold(bodies.max_bytes):
            pass
        return [len(instance.image) for instance in found]


def test_what_is_fetched_counts_as_held_until_the_request_is_answered():
    bodies = Bodies(100)
    with ExitStack() as others:
        for _ in range(3):
            others.enter_context(bodies.hold(100))
        assert asyncio.run(complete(bodies, "60", "40")) == [4, 60, 40]
        others.enter_context(bodies.hold(100))


def test_a_request_may_not_have_more_by_url_than_in_its_body():
    bodies = Bodies(100)
    with pytest.raises(TooLarge):
        asyncio.run(complete(bodies, "60", "41"))
    with bodies.hold(100):
        pass


def test_a_poster_that_cannot_be_had_is_named():
    with pytest.raises(InvalidInstance, match="instance 2: the host sent nothing"):
        asyncio.run(complete(Bodies(100), "60", "gone"))


def test_one_that_cannot_be_had_ends_the_others():
    fetcher = Fetcher()
    with pytest.raises(InvalidInstance, match="instance 2"):
        asyncio.run(complete(Bodies(100), "slow", "gone", fetcher=fetcher))
    assert fetcher.was_ended
    with fetcher.reserved(64):
        pass


async def fetch_all(fetcher, posters):
    async with fetched(fetcher, Bodies(1000), instances(*["1"] * posters)) as found:
        return len(found)


def test_more_than_can_be_fetched_come_again_later():
    fetcher = Fetcher()
    with fetcher.reserved(60):
        assert asyncio.run(fetch_all(fetcher, 4)) == 5
        with pytest.raises(Overloaded):
            asyncio.run(fetch_all(fetcher, 5))
    assert asyncio.run(fetch_all(fetcher, 65)) == 66


def test_a_poster_that_cannot_be_had_leaves_nothing_in_memory():
    async def fail(payload):
        with contextlib.suppress(InvalidInstance):
            async with fetched(Fetcher(), Bodies(100), instances("60", "gone", "slow")):
                raise AssertionError(payload)

    assert is_freed(fail)
