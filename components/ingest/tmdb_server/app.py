"""The server's HTTP face: routes, access, faults and the log."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from components.ingest.tmdb_server import answers
from components.ingest.tmdb_server.answers import Answer, Refused
from components.ingest.tmdb_server.catalogue import Catalogue
from components.ingest.tmdb_server.faults import Fault, Faults, RateLimit, Spell
from components.ingest.tmdb_server.films import POSTER_WIDTHS
from components.ingest.tmdb_server.options import Options
from components.ingest.tmdb_server.posters import DrawingFailed, PosterStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API, IMAGES = "/3/", "/t/p/"
_LIMIT_SECONDS = 1
_SPELL_SECONDS = 2
_SECRET = re.compile(r"(api_key=)[^&]*")
_PAGE = b"<!doctype html><title>Welcome</title><p>Sign in to the network to go on."


class RequestLog:
    """Counts requests, and writes a line of JSON for each.

    Args:
        path: The file to append to; None for no file.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self._stream = path.open("a", buffering=1, encoding="utf-8") if path else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream:
            self._stream.close()

    def note(self, request: web.Request, status: int | None, fault: str | None) -> None:
        """Note a request before its answer leaves.

        Args:
            request: The request.
            status: The answer's HTTP status; None if it gets no answer.
            fault: What befell it: one of `faults.KINDS`, `throttle` or `rate limit`.
        """
        route = request.match_info.route
        self.counts[route.name or "unknown"] += 1
        if fault:
            self.counts[fault] += 1
        if self._stream:
            entry = {
                "time": round(time.time(), 3),
                "method": request.method,
                "path": _SECRET.sub(r"\1...", request.path_qs),
                "status": status,
                "fault": fault,
            }
            self._stream.write(json.dumps(entry) + "\n")


class Service:
    """Answers requests.

    Args:
        options: How to treat clients.
        catalogue: The films.
        posters: Where their posters come from.
        log: What is told of each request.
    """

    def __init__(
        self, options: Options, catalogue: Catalogue, posters: PosterStore, log: RequestLog
    ) -> None:
        self._options = options
        self._catalogue = catalogue
        self._posters = posters
        self._log = log
        self._faults = Faults(options.faults, options.seed)
        self._limit = RateLimit(options.rate_limit)
        self._spell = Spell(options.throttle_seconds)

    def application(self) -> web.Application:
        """Make the application that aiohttp serves."""
        app = web.Application(middlewares=[self._receive])
        app.add_routes(
            [
                web.get("/t/p/{size}/{path}", self._image, name="image"),
                web.get("/3/discover/movie", self._discover, name="discover"),
                web.get("/3/movie/changes", self._changes, name="changes"),
                web.get(r"/3/movie/{id:\d{1,18}}", self._movie, name="movie"),
                web.get("/3/configuration", self._configuration, name="configuration"),
                web.get("/3/genre/movie/list", self._genres, name="genres"),
                web.get("/3/find/{id}", self._find, name="find"),
                web.get("/title.basics.tsv.gz", self._titles, name="titles"),
                web.route("*", "/{path:.*}", self._unknown),
            ]
        )
        return app

    @web.middleware
    async def _receive(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Decide what befalls a request, and answer it."""
        is_api = request.path.startswith(API)
        if not is_api and not request.path.startswith(IMAGES):
            return self._noted(request, await self._answer(request, handler))
        now = time.monotonic()
        if self._spell.refuses(now):
            return self._noted(request, _refusal(25, _SPELL_SECONDS), "throttle")
        if is_api and not self._limit.admits(now):
            return self._noted(request, _refusal(25, _LIMIT_SECONDS), "rate limit")
        fault = self._faults.draw(f"{request.method} {request.path_qs}")
        if fault:
            return await self._fail(fault, request, handler)
        return self._noted(request, await self._answer(request, handler))

    def _noted(
        self, request: web.Request, response: web.Response, fault: str | None = None
    ) -> web.Response:
        self._log.note(request, response.status, fault)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.Response:
        try:
            if request.path.startswith(API):
                self._check_access(request)
            response = await handler(request)
        except Refused as refused:
            return _refusal(refused.code)
        except DrawingFailed:
            return _refusal(9)
        assert isinstance(response, web.Response)
        return response

    def _check_access(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.query.get("api_key", "")
        if not token.strip() or self._options.token not in (None, token.strip()):
            raise Refused(7)

    async def _fail(self, fault: Fault, request: web.Request, handler: Handler) -> web.Response:
        if fault.kind == "5xx":
            return self._noted(request, _refusal(fault.code, fault.retry_after), fault.kind)
        if fault.kind == "type":
            return self._noted(request, web.Response(body=_PAGE, content_type="text/html"), "type")
        if fault.kind == "truncate":
            response = await self._answer(request, handler)
            return await _truncate(request, self._noted(request, response, "truncate"))
        self._log.note(request, None, fault.kind)
        await asyncio.sleep(self._options.hold)
        return _hang_up(request)

    async def _image(self, request: web.Request) -> web.Response:
        size, path = request.match_info["size"], f"/{request.match_info['path']}"
        if size not in POSTER_WIDTHS or not self._catalogue.may_hold(path):
            raise Refused(34)
        data = self._posters.kept(path, size)
        if data is None:
            poster = self._catalogue.poster(path)
            if poster is None:
                raise Refused(34)
            data = await self._posters.draw(poster, size)
        return web.Response(body=data, content_type="image/jpeg")

    async def _discover(self, request: web.Request) -> web.Response:
        return _json(answers.discover(self._catalogue, request.query))

    async def _changes(self, request: web.Request) -> web.Response:
        return _json(answers.changes(self._catalogue, request.query))

    async def _movie(self, request: web.Request) -> web.Response:
        film = self._catalogue.by_tmdb_id(int(request.match_info["id"]))
        if film is None:
            raise Refused(34)
        return _json(answers.details(film, request.query))

    async def _configuration(self, request: web.Request) -> web.Response:
        return _json(answers.configuration(f"{request.scheme}://{request.host}/t/p"))

    async def _genres(self, request: web.Request) -> web.Response:
        return _json(answers.genre_list())

    async def _find(self, request: web.Request) -> web.Response:
        return _json(answers.find(self._catalogue, request.match_info["id"], request.query))

    async def _titles(self, request: web.Request) -> web.Response:
        data = await self._posters.titles(self._options.films)
        return web.Response(body=data, content_type="application/gzip")

    async def _unknown(self, request: web.Request) -> web.Response:
        raise Refused(34)


def _json(answer: Answer, status: int = 200) -> web.Response:
    return web.json_response(answer, status=status)


def _refusal(code: int, retry_after: int | None = None) -> web.Response:
    response = _json(answers.error(code), answers.ERRORS[code][0])
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


async def _truncate(request: web.Request, whole: web.Response) -> web.Response:
    """Announce the whole answer, send half of it and hang up."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    return _hang_up(request)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.close()
    return web.Response()
