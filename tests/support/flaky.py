"""A proxy that stands before a storage emulator and answers every tenth call with 503."""

import asyncio
import threading
from typing import Self

import aiohttp
from aiohttp import web

EVERY = 10


class FlakyProxy:
    """Passes HTTP calls on to another server, all but every tenth.

    Use it as a context manager: `url` is where it listens, `refused` how often it said no.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._calls = 0
        self.refused = 0
        self.url = ""

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # What passes through stays as it is: packed bodies too.
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            application = web.Application(client_max_size=2**30)
            application.router.add_route("*", "/{path:.*}", self._pass)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._calls += 1
        if self._calls % EVERY == 0:
            self.refused += 1
            return web.Response(status=503, text="try again")
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with self._session.request(
            request.method, f"{self._upstream}{request.raw_path}", data=body, headers=headers
        ) as answer:
            kept = {
                k: v.replace(self._upstream, self.url)
                for k, v in answer.headers.items()
                if k.lower() not in ("transfer-encoding", "connection")
                # Of an answer to HEAD it is all that tells the size.
                and (k.lower() != "content-length" or request.method == "HEAD")
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)
