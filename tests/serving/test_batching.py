"""Micro-batching: what shares a run, what waits, and what is refused."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from leftovers import is_freed

from serving.batching import Batcher, Overloaded, Pace
from serving.pools import EventLoop, Threads

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Model:
    """Gives each poster its brightness back, when it is let."""

    def __init__(self):
        self.runs = []
        self.crowded = []
        self.seconds = 0.0
        self.may_run = threading.Event()
        self.may_run.set()
        self.began = threading.Event()

    def __call__(self, images, *, crowded):
        self.crowded.append(crowded)
        self.began.set()
        assert self.may_run.wait(10)
        time.sleep(self.seconds)
        self.runs.append(len(images))
        if images.max() == 255:
            raise ValueError("too bright")
        return [int(image.max()) for image in images]


def image(brightness):
    return SimpleNamespace(pixels=np.full_like(IMAGE, brightness))


class AtOnce:
    """A pool that takes no time."""

    workers = 1

    def submit(self, work, *arguments):
        done = Future()
        done.set_result(work(*arguments))
        return done


AT_ONCE = AtOnce()


async def ask(batcher, *posters, prepare=None, pool=AT_ONCE):
    """Ask for posters that are prepared, or will be."""
    found = await batcher.predict(len(posters), prepare or (lambda: posters), pool)
    assert found.posters == posters
    assert found.begun <= found.prepared <= found.predicted
    return found.predictions


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make(model):
    batchers = []

    def make(**changes):
        settings = {"max_batch": 4, "run_seconds": 0.0, "max_wait": 0.0, "queue_seconds": 1.0}
        settings |= {
            "lanes": 1,
            "observe": lambda *run: None,
        } | changes
        batchers.append(Batcher(model, **settings))
        return batchers[-1]

    yield make
    model.may_run.set()
    for batcher in batchers:
        batcher.close()


async def while_one_runs(model, batcher, *requests):
    """Ask for posters while the model is busy with one; give the answers."""
    model.may_run.clear()
    first = asyncio.create_task(ask(batcher, image(0)))
    await asyncio.to_thread(model.began.wait, 10)
    tasks = [asyncio.create_task(ask(batcher, *images)) for images in requests]
    await asyncio.sleep(0)
    model.may_run.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_shares_a_run_and_all_get_their_own_answers(model, make):
    requests = [[image(1)], [image(2), image(3)], [image(4)], [image(5), image(6)]]
    answers = asyncio.run(while_one_runs(model, make(), *requests))
    assert answers == [[1], [2, 3], [4], [5, 6]]
    assert model.runs == [1, 4, 2]


def test_a_lone_poster_waits_for_nobody(model, make):
    batcher = make(max_wait=100.0)
    assert asyncio.run(asyncio.wait_for(ask(batcher, image(7)), 10)) == [7]


@pytest.fixture
def threads():
    with Threads(2, "test") as threads:
        yield threads


def test_a_run_waits_for_posters_on_their_way(model, make, threads):
    batcher = make(max_wait=100.0, max_batch=2)
    may_come = threading.Event()
    late = image(2)

    def prepare():
        assert may_come.wait(10)
        return (late,)

    async def two():
        second = asyncio.create_task(ask(batcher, late, prepare=prepare, pool=threads))
        await asyncio.sleep(0)
        first = asyncio.create_task(ask(batcher, image(1)))
        await asyncio.sleep(0.05)
        assert model.runs == []
        may_come.set()
        return [await first, await second]

    assert asyncio.run(asyncio.wait_for(two(), 10)) == [[1], [2]]
    assert model.runs == [2]


def test_a_run_does_not_wait_for_ever(make, threads):
    batcher = make(max_wait=0.01)
    may_come = threading.Event()

    async def one():
        late = asyncio.create_task(
            batcher.predict(1, lambda: may_come.wait(10) and [image(2)], threads)
        )
        await asyncio.sleep(0)
        try:
            return await ask(batcher, image(1))
        finally:
            late.cancel()
            may_come.set()

    assert asyncio.run(asyncio.wait_for(one(), 10)) == [1]


def test_what_cannot_be_prepared_fails_alone_and_nobody_waits_for_it(model, make):
    batcher = make(max_wait=100.0)

    def damaged():
        raise ValueError("damaged")

    async def both():
        with pytest.raises(ValueError, match="damaged"):
            await batcher.predict(1, damaged, AT_ONCE)
        return await ask(batcher, image(1))

    assert asyncio.run(asyncio.wait_for(both(), 10)) == [1]


def test_a_failed_run_fails_its_posters_only(model, make):
    batcher = make(max_batch=1)
    bad, good = asyncio.run(while_one_runs(model, batcher, [image(255)], [image(1)]))
    assert isinstance(bad, ValueError)
    assert good == [1]


def test_a_client_that_has_gone_does_not_trouble_the_others(model, make):
    batcher = make()

    async def gone():
        model.may_run.clear()
        first = asyncio.create_task(ask(batcher, image(1)))
        second = asyncio.create_task(ask(batcher, image(2)))
        await asyncio.to_thread(model.began.wait, 10)
        second.cancel()
        first.cancel()
        third = asyncio.create_task(ask(batcher, image(3)))
        await asyncio.sleep(0)
        model.may_run.set()
        return await third

    assert asyncio.run(gone()) == [3]


def test_runs_are_observed(model, make):
    seen = []
    batcher = make(observe=lambda *run: seen.append(run))
    asyncio.run(while_one_runs(model, batcher, [image(1), image(2)]))
    assert [posters for posters, _, _ in seen] == [1, 2]
    assert all(seconds > 0 for _, seconds, _ in seen)
    assert [len(waits) for _, _, waits in seen] == [1, 2]


def test_more_than_can_wait_is_refused_and_served_later(model, make):
    batcher = make(max_batch=2)
    with batcher.admit(4), batcher.admit(2):
        assert batcher.admitted == 6
        with pytest.raises(Overloaded, match="try again in 1 s"), batcher.admit(1):
            pass
        with pytest.raises(Overloaded):
            batcher.check()
    assert batcher.admitted == 0
    batcher.check()


def test_a_request_larger_than_the_queue_is_served_when_nothing_else_is(model, make):
    batcher = make(max_batch=2)
    with batcher.admit(50), pytest.raises(Overloaded), batcher.admit(1):
        pass
    with batcher.admit(1), pytest.raises(Overloaded), batcher.admit(50):
        pass


def test_a_fast_model_may_have_a_longer_queue(model, make):
    batcher = make(max_batch=2, queue_seconds=60)
    asyncio.run(ask(batcher, image(1)))
    with batcher.admit(6):
        batcher.check(50)


def test_a_model_whose_pace_is_known_has_its_queue_from_the_start(model, make):
    batcher = make(run_seconds=0.04)
    with batcher.admit(50):
        batcher.check(50)
        with pytest.raises(Overloaded, match="try again in 1 s"):
            batcher.check(51)


@pytest.mark.parametrize("fails", [False, True])
def test_slow_preparing_makes_the_queue_shorter(make, fails):
    batcher = make(max_batch=2, queue_seconds=0.4)

    def slow():
        time.sleep(0.1)
        return 1 / (not fails)

    with contextlib.suppress(ZeroDivisionError):
        batcher.prepare(2, slow, AT_ONCE)
    with batcher.admit(3):
        batcher.check(1)
        with pytest.raises(Overloaded, match="try again in 1 s"):
            batcher.check(6)


def test_two_threads_prepare_twice_as_many(make, threads):
    batcher = make(queue_seconds=0.4)
    batcher.prepare(1, lambda: time.sleep(0.1), threads)
    with batcher.admit(4):
        batcher.check(2)
        with pytest.raises(Overloaded):
            batcher.check(5)


def test_a_client_that_has_gone_is_not_prepared(make, threads):
    batcher = make()
    may_go_on, prepared = threading.Event(), []

    async def gone():
        busy = [
            asyncio.create_task(batcher.predict(1, lambda: may_go_on.wait(10), threads))
            for _ in "ab"
        ]
        late = asyncio.create_task(batcher.predict(1, lambda: prepared.append(1), threads))
        await asyncio.sleep(0.05)
        for task in (*busy, late):
            task.cancel()
        await asyncio.gather(*busy, late, return_exceptions=True)
        may_go_on.set()

    asyncio.run(gone())
    threads.shutdown()
    assert prepared == []
    assert batcher._coming == 0


@pytest.mark.parametrize("how", ["alone", "on a thread", "on the event loop"])
@pytest.mark.parametrize("where", ["prepared", "run"])
def test_what_fails_leaves_nothing_in_memory(make, threads, where, how):
    batcher = make()
    pool = EventLoop() if how == "on the event loop" else threads

    async def fail(payload):
        poster = image(255)
        poster.payload = payload

        def prepare():
            assert payload
            return [poster] if where == "run" else [poster][1]

        with pytest.raises((IndexError, ValueError)) as raised:
            await (
                batcher.predict_alone(prepare, threads)
                if how == "alone"
                else batcher.predict(1, prepare, pool)
            )
        del raised

    assert is_freed(fail)


def pace_of(*work):
    pace = Pace()
    for posters, seconds in work:
        pace.add(posters, seconds)
    return pace.seconds


def test_a_pause_of_one_run_hardly_counts():
    quick = [(2, 0.002)] * 2000
    assert pace_of(*quick, (1, 0.1)) == pytest.approx(0.001, rel=0.3)


def test_what_has_become_slow_is_known_within_seconds():
    assert pace_of(*[(2, 0.002)] * 2000, *[(1, 0.1)] * 30) == pytest.approx(0.1, rel=0.5)


def test_one_huge_poster_hardly_counts():
    assert pace_of(*[(1, 0.001)] * 2000, (1, 5.0)) < 0.003


def test_what_has_become_quick_again_is_known_within_seconds():
    assert pace_of(*[(1, 5.0)] * 20, *[(1, 0.001)] * 3000) == pytest.approx(0.001, rel=0.5)


def test_no_time_tells_nothing():
    assert pace_of((4, 0.0)) == 0.0
    assert pace_of((4, 0.0), (1, 0.1)) == pytest.approx(0.1)


@pytest.mark.parametrize("posters", [1, 2, 3])
def test_lanes_run_side_by_side_and_know_whether_there_is_a_poster_for_each(model, make, posters):
    batcher = make(lanes=2, max_batch=1)
    model.may_run.clear()

    async def several():
        with batcher.admit(posters):
            tasks = [asyncio.create_task(ask(batcher, image(n))) for n in range(posters)]
            while len(model.crowded) < min(posters, 2):
                await asyncio.sleep(0.01)
            assert model.runs == []
            model.may_run.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(asyncio.wait_for(several(), 10)) == [[n] for n in range(posters)]
    assert model.crowded == [posters >= 2] * posters


def test_the_queue_is_as_long_as_all_lanes_allow(model, make):
    batcher = make(lanes=2, max_batch=1, queue_seconds=0.5)
    model.seconds = 0.1

    async def crowd():
        with batcher.admit(4):
            await asyncio.gather(*(ask(batcher, image(0)) for _ in range(4)))

    asyncio.run(crowd())
    with batcher.admit(1):
        batcher.check(8)  # .05 s each, two at a time
        with pytest.raises(Overloaded):
            batcher.check(10)


async def alone_beside(batcher, arrives):
    """Tell whether a poster is alone, with another request that may have arrived just now."""

    async def another():
        with batcher.admit(1):
            await asyncio.sleep(0.01)

    with batcher.admit(1):
        tasks = [asyncio.create_task(another())] if arrives else []
        is_alone = await batcher.is_alone()
        await asyncio.gather(*tasks)
    return is_alone


@pytest.mark.parametrize("arrives", [True, False])
def test_a_poster_is_alone_if_nothing_else_has_arrived(make, arrives):
    assert asyncio.run(alone_beside(make(), arrives)) is not arrives


@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_a_poster_that_is_alone_is_noted_like_others(model, make, threads, where):
    seen = []
    batcher = make(observe=lambda *run: seen.append(run))
    poster = image(7)
    if where == "on the loop":
        found = batcher.predict_here(lambda: [poster], AT_ONCE)
    else:
        found = asyncio.run(batcher.predict_alone(lambda: [poster], threads))
    assert model.crowded == [False]
    assert (found.posters, found.predictions) == ([poster], [7])
    [(posters, seconds, waits)] = seen
    assert (posters, len(waits)) == (1, 1)
    assert waits == [0.0] if where == "on the loop" else 0 < waits[0] < 1
    assert seconds > 0
    assert model.runs == [1]
