"""Deals requests to a stable model server and a canary, and counts.

Run `python -m components.rollout.splitter --port PORT --control PORT`. Requests to the first port
are passed on to one of two servers of this machine, by HAProxy where it is installed and from this
process otherwise; the second port, on loopback only, is for the
rollout: `PUT /routes` says where to, `GET /traffic?since=S&until=S` (Unix times) what came of it.
"""

import argparse
import asyncio
import contextlib
import ctypes
import random
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from marquee.errors import InfrastructureError

_KEPT_SECONDS = 900
"""How long traffic is remembered: longer than any rollout looks away."""
_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
    ]
)
"""Headers that are about one connection, not about the request."""
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 120.0
_END_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_HAPROXY = """\
global
    stats socket {admin} mode 600 level admin
    log {log} format raw local0
    maxconn 4096
defaults
    mode http
    log global
    # HAProxy's own timers count whole ms, of which a quick model takes one or two.
    log-format "%s %ST %[date(0,us),sub(txn.begun)] %rc"
    # A request that reached no server may go to another one; one that did is never sent twice.
    retries 2
    option redispatch 1
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 60s
frontend users
    bind 127.0.0.1:{port}
    http-request set-var(txn.begun) date(0,us)
    default_backend models
backend models
    balance roundrobin
    option forwardfor
    server stable 127.0.0.1:1 weight 100 disabled
    server canary 127.0.0.1:1 weight 0 disabled
"""


@dataclass(frozen=True, kw_only=True)
class Routes:
    """Where requests go."""

    stable: str
    """Such as http://127.0.0.1:8081."""
    canary: str = ""
    percent: int = 0
    """Of the requests, to the canary."""


@dataclass
class Second:
    """What was answered in one second, by side."""

    second: int
    stable: list[tuple[bool, float]] = field(default_factory=list)
    """For each request whether it failed, and its milliseconds."""
    canary: list[tuple[bool, float]] = field(default_factory=list)


class Tally:
    """What was answered lately, second by second."""

    def __init__(self) -> None:
        self._seconds: deque[Second] = deque(maxlen=_KEPT_SECONDS)

    def count(self, canary: bool, failed: bool, milliseconds: float) -> None:
        """Count an answer."""
        now = int(time.time())
        if not self._seconds or self._seconds[-1].second != now:
            self._seconds.append(Second(now))
        side = self._seconds[-1].canary if canary else self._seconds[-1].stable
        side.append((failed, milliseconds))

    def between(self, since: float, until: float) -> dict[str, list[tuple[bool, float]]]:
        """Give what was answered in a stretch of time, by side.

        A second counts once it is over, so that it belongs to one stretch only.
        """
        seen = [item for item in self._seconds if since <= item.second + 1 < until]
        return {
            side: [entry for item in seen for entry in getattr(item, side)]
            for side in ("stable", "canary")
        }


class Plane(Protocol):
    """What passes requests on."""

    async def start(self, port: int) -> None:
        """Listen; until it is told where to, requests are answered 503."""
        ...

    async def route(self, routes: Routes) -> None:
        """Pass requests on from now on as told."""
        ...

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        ...

    async def stop(self) -> None:
        """Listen no more."""
        ...


class AsyncioPlane:
    """Passes requests on from this process.

    Args:
        tally: Counts them.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._routes: Routes | None = None

    async def start(self, port: int) -> None:
        """Listen."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, auto_decompress=False
        )
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, backlog=1024).start()

    async def route(self, routes: Routes) -> None:
        """Pass requests on from now on as told."""
        self._routes = routes

    async def ended(self) -> None:
        """Wait for ever: it ends with this process."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Listen no more; what is in flight is answered."""
        await self._runner.cleanup()
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        # A slow upload must not hold on to a server that has no traffic any more when it is whole.
        body = await request.read()
        routes = self._routes
        if routes is None:
            return web.json_response({"error": "nothing is served yet"}, status=503)
        canary = bool(routes.canary) and random.uniform(0, 100) < routes.percent
        try:
            return await self._answer(request, body, routes, canary)
        except aiohttp.ClientConnectorError:
            # It has not reached the server, which may have ended just now: another one gets it.
            routes = self._routes or routes
            other = bool(routes.canary) and not canary
            return await self._answer(request, body, routes, other, is_last=True)

    async def _answer(
        self,
        request: web.Request,
        body: bytes,
        routes: Routes,
        canary: bool,
        is_last: bool = False,
    ) -> web.StreamResponse:
        start = time.perf_counter()
        response: web.StreamResponse
        try:
            base = routes.canary if canary else routes.stable
            response = await self._forward(request, body, base)
            failed = response.status >= 500
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failed, status = True, 504 if isinstance(error, TimeoutError) else 502
            reason = f"the model server gave no answer: {type(error).__name__}"
            response = web.json_response({"error": reason}, status=status)
            if isinstance(error, aiohttp.ClientConnectorError) and not is_last:
                self._tally.count(canary, True, 0.0)
                raise
        self._tally.count(canary, failed, (time.perf_counter() - start) * 1000)
        return response

    async def _forward(self, request: web.Request, body: bytes, base: str) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        headers["X-Forwarded-For"] = request.remote or ""
        async with self._session.request(
            request.method,
            base + request.raw_path,
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


class HaproxyPlane:
    """Has HAProxy pass requests on; it is told where to while it runs, and logs each request to us.

    Args:
        tally: Counts them.
        folder: For its configuration and sockets.
    """

    def __init__(self, tally: Tally, folder: Path) -> None:
        self._tally = tally
        self._admin, self._log = folder / "admin.sock", folder / "log.sock"
        self._config = folder / "haproxy.cfg"

    async def start(self, port: int) -> None:
        """Start HAProxy.

        Raises:
            InfrastructureError: It ends at once.
        """
        self._config.write_text(
            _HAPROXY.format(admin=self._admin, log=self._log, port=port), encoding="utf-8"
        )
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _LogReader(self._tally), local_addr=str(self._log), family=socket.AF_UNIX
        )
        self._process = await asyncio.create_subprocess_exec(
            "haproxy", "-q", "-db", "-f", str(self._config), preexec_fn=_die_with_parent
        )
        while not self._admin.exists():
            if self._process.returncode is not None:
                raise InfrastructureError(
                    f"HAProxy ended with {self._process.returncode}",
                    remedy=f"run haproxy -c -f {self._config}",
                )
            await asyncio.sleep(0.02)

    async def route(self, routes: Routes) -> None:
        """Tell HAProxy; the model that gets more is told of first."""
        share = routes.percent if routes.canary else 0
        servers = {"stable": (routes.stable, 100 - share), "canary": (routes.canary, share)}
        for name, (url, weight) in sorted(servers.items(), key=lambda item: -item[1][1]):
            if url:
                address, port = urlsplit(url).hostname, urlsplit(url).port
                moved = f"set server models/{name} addr {address} port {port}"
                await self._command(moved, "changed from", "no need to change")
                await self._command(f"enable server models/{name}")
            await self._command(f"set weight models/{name} {weight}")

    async def _command(self, command: str, *answers: str) -> None:
        """Tell HAProxy something.

        Args:
            command: What.
            answers: What it may say of it; nothing without any.

        Raises:
            InfrastructureError: It says something else.
        """
        reader, writer = await asyncio.open_unix_connection(str(self._admin))
        writer.write(f"{command}\n".encode())
        await writer.drain()
        said = (await reader.read()).decode().strip()
        writer.close()
        if said and not any(answer in said for answer in answers):
            raise InfrastructureError(
                f"HAProxy answers {said!r} to {command!r}", remedy="is it older than 2.2?"
            )

    async def ended(self) -> None:
        """Wait until HAProxy has ended by itself."""
        await self._process.wait()

    async def stop(self) -> None:
        """Let HAProxy answer what is in flight, and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._process.kill()
        self._transport.close()


class _LogReader(asyncio.DatagramProtocol):
    """Counts the lines that HAProxy logs: server, status, microseconds and retries.

    A request that another server had to answer was refused by the first one: `+` says so.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def datagram_received(self, data: bytes, addr: object) -> None:
        server, status, microseconds, retries = data.decode().split()[-4:]
        if server in ("stable", "canary"):
            canary = server == "canary"
            failed = int(status) >= 500 or int(status) < 0
            self._tally.count(canary, failed, float(microseconds) / 1000)
            if retries.startswith("+"):
                self._tally.count(not canary, True, 0.0)


def _die_with_parent() -> None:
    """Have this process, which becomes HAProxy, end when the splitter is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def control(plane: Plane, tally: Tally) -> web.Application:
    """Give what the rollout talks to.

    Args:
        plane: Is told where requests go.
        tally: What became of them.
    """
    routes: list[Routes | None] = [None]

    async def get_routes(_: web.Request) -> web.Response:
        return web.json_response(asdict(routes[0]) if routes[0] else None)

    async def put_routes(request: web.Request) -> web.Response:
        wanted = Routes(**await request.json())
        try:
            await plane.route(wanted)
        except InfrastructureError as error:
            return web.json_response({"error": str(error)}, status=500)
        routes[0] = wanted
        return web.json_response(asdict(wanted))

    async def get_traffic(request: web.Request) -> web.Response:
        since, until = (float(request.query[name]) for name in ("since", "until"))
        return web.json_response(tally.between(since, until))

    app = web.Application()
    app.router.add_get("/routes", get_routes)
    app.router.add_put("/routes", put_routes)
    app.router.add_get("/traffic", get_traffic)
    return app


async def _serve(port: int, control_port: int, haproxy: bool) -> None:
    tally, stopped = Tally(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with tempfile.TemporaryDirectory(prefix="splitter-") as folder:
        plane = HaproxyPlane(tally, Path(folder)) if haproxy else AsyncioPlane(tally)
        await plane.start(port)
        runner = web.AppRunner(control(plane, tally), access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", control_port).start()
        ends = [asyncio.ensure_future(wait) for wait in (stopped.wait(), plane.ended())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await plane.stop()
        await runner.cleanup()


def main() -> None:
    """Run the splitter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument(
        "--haproxy",
        action=argparse.BooleanOptionalAction,
        default=shutil.which("haproxy") is not None,
        help="whether HAProxy passes requests on",
    )
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.control, arguments.haproxy))


if __name__ == "__main__":
    main()
