"""Bodies are read within bounds."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from marquee.errors import DataError
from serving.batching import Overloaded
from serving.bodies import Bodies, check_json
from serving.refusals import TooLarge, TooSlow


def request(*messages):
    """A request whose body comes in these parts; after them nothing comes."""
    coming = list(messages)

    async def receive():
        if not coming:
            await asyncio.Event().wait()
        return coming.pop(0)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def part(size, more=True):
    return {"type": "http.request", "body": bytes(size), "more_body": more}


async def read(bodies, *messages):
    async with bodies.read(request(*messages)) as body:
        return body


def test_a_body_comes_in_parts():
    assert asyncio.run(read(Bodies(100), part(60), part(40, more=False))) == bytes(100)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([part(60), part(41, more=False)], TooLarge),
        ([part(60)], TooSlow),
        ([part(60), {"type": "http.disconnect"}], ClientDisconnect),
    ],
    ids=["too large", "too slow", "its client left"],
)
def test_what_does_not_come_whole_is_refused_and_let_go(messages, error):
    bodies = Bodies(100, seconds=0.05)

    async def twenty():
        for _ in range(20):
            with pytest.raises(error):
                await read(bodies, *messages)
        return await read(bodies, part(100, more=False))

    assert len(asyncio.run(twenty())) == 100


def test_all_bodies_together_are_bounded():
    bodies = Bodies(100)

    async def many():
        with bodies.hold(100), bodies.hold(100):
            async with (
                bodies.read(request(part(100, more=False))),
                bodies.read(request(part(90, more=False))),
            ):
                with pytest.raises(Overloaded):
                    await read(bodies, part(11, more=False))
                with pytest.raises(Overloaded), bodies.hold(11):
                    pass
                assert len(await read(bodies, part(10, more=False))) == 10

    asyncio.run(many())


def test_what_is_held_is_bounded_each_by_itself():
    with pytest.raises(TooLarge, match="more than 0"), Bodies(100).hold(101):
        pass


def test_json_that_grows_when_it_is_parsed():
    check_json(b"[" + b"0," * 49_998 + b"0]")
    for body in (b"[" + b"0," * 50_000 + b"0]", b"[" * 50_001, b'{"a":' * 50_001):
        with pytest.raises(DataError, match="more than 50,000 values"):
            check_json(body)
