"""Both splitters deal requests as told, and count what became of them."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web
from helpers import require_tool

from components.rollout.splitter import AsyncioPlane, HaproxyPlane, Routes, Tally
from marquee.processes import free_port


def haproxy(tally, folder):
    require_tool("haproxy")
    return HaproxyPlane(tally, folder)


PLANES = {"HAProxy": haproxy, "ours": lambda tally, _: AsyncioPlane(tally)}


@pytest.fixture(params=PLANES)
def split(request, tmp_path):
    """Give the name of a model server to each answer, and what was counted."""
    tally = Tally()

    def run(routes_of, requests=60, **servers):
        return asyncio.run(
            _run(PLANES[request.param](tally, tmp_path), routes_of, requests, servers)
        )

    async def _run(plane, routes_of, requests, servers):
        runners, urls = [], {}
        for name, handler in servers.items():
            urls[name], runner = await serve(handler)
            runners.append(runner)
        port = free_port()
        await plane.start(port)
        await plane.route(routes_of(urls))
        begun = time.time()
        async with aiohttp.ClientSession() as users:
            answers = [await ask(users, port) for _ in range(requests)]
        await asyncio.sleep(0.2)
        await plane.stop()
        for runner in runners:
            await runner.cleanup()
        return answers, tally.between(begun - 1, time.time() + 2)

    return run


async def serve(handler):
    app = web.Application()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return f"http://127.0.0.1:{port}", runner


async def ask(users, port):
    async with users.post(f"http://127.0.0.1:{port}/", data=b"poster") as answer:
        return answer.status, await answer.text()


def saying(text, status=200, seconds=0.0):
    async def handler(request):
        await request.read()
        await asyncio.sleep(seconds)
        return web.Response(text=text, status=status)

    return handler


def both(percent):
    return lambda urls: Routes(stable=urls["stable"], canary=urls["canary"], percent=percent)


@pytest.mark.parametrize(("percent", "low", "high"), [(0, 0, 0), (25, 5, 27), (100, 60, 60)])
def test_the_canary_gets_its_share(split, percent, low, high):
    answers, counted = split(both(percent), stable=saying("stable"), canary=saying("canary"))
    assert {status for status, _ in answers} == {200}
    mine = sum(text == "canary" for _, text in answers)
    assert low <= mine <= high
    assert (len(counted["stable"]), len(counted["canary"])) == (60 - mine, mine)


def test_who_fails_is_known(split):
    answers, counted = split(both(50), stable=saying("fine"), canary=saying("broken", status=500))
    failed = sum(status == 500 for status, _ in answers)
    assert 0 < failed < 60
    assert sum(fault for fault, _ in counted["canary"]) == len(counted["canary"]) == failed
    assert not any(fault for fault, _ in counted["stable"])


def test_nobody_notices_a_server_that_is_gone(split):
    answers, counted = split(
        lambda urls: Routes(
            stable=urls["stable"], canary=f"http://127.0.0.1:{free_port()}", percent=30
        ),
        stable=saying("stable"),
    )
    assert {status for status, _ in answers} == {200}
    assert counted["canary"]
    assert all(fault for fault, _ in counted["canary"])


def test_times_are_finer_than_a_millisecond(split):
    _, counted = split(both(50), stable=saying("quick"), canary=saying("slow", seconds=0.02))
    quick, slow = ([ms for _, ms in counted[side]] for side in ("stable", "canary"))
    assert any(ms % 1 for ms in quick)
    assert min(slow) >= 19.9
    assert sorted(quick)[len(quick) // 2] < 15
