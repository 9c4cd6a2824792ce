"""The event loop as a pool."""

import asyncio

import pytest

from serving.pools import EventLoop


def test_work_is_done_in_turns_with_all_else():
    done = []

    async def crowd():
        pool = EventLoop()
        jobs = [pool.submit(done.append, number) for number in range(3)]
        assert done == []
        for rounds in (1, 2, 3):
            await asyncio.sleep(0)
            assert done == [*range(rounds)]
        return [job.done() for job in jobs]

    assert asyncio.run(crowd()) == [True] * 3


def test_what_is_cancelled_is_not_done_and_delays_nobody_for_ever():
    done = []

    async def one_has_gone():
        pool = EventLoop()
        first, _, third = [pool.submit(done.append, number) for number in range(3)]
        await asyncio.sleep(0)
        assert not first.cancel()
        assert third.cancel()
        last = pool.submit(done.append, 3)
        await asyncio.wait_for(asyncio.wrap_future(last), 10)

    asyncio.run(one_has_gone())
    assert done == [0, 1, 3]


def test_a_failure_is_its_own():
    async def first_fails():
        pool = EventLoop()
        first, second = pool.submit(int, "x"), pool.submit(int, "7")
        with pytest.raises(ValueError, match="'x'"):
            await asyncio.wrap_future(first)
        return await asyncio.wrap_future(second)

    assert asyncio.run(first_fails()) == 7


def test_work_may_bring_more():
    done = []

    async def more():
        pool = EventLoop()
        pool.submit(lambda: pool.submit(done.append, 2))
        await asyncio.sleep(0)
        assert done == []
        await asyncio.sleep(0)

    asyncio.run(more())
    assert done == [2]
