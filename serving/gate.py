"""The gate before all routes: access, size, load, and what is noted of each request."""

import json
import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

from opentelemetry.trace import Span
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from marquee.endpoint import MODEL_NAME
from serving.batching import Overloaded
from serving.bodies import Bodies
from serving.metrics import ServerMetrics
from serving.refusals import (
    REFUSALS,
    UNAUTHORIZED,
    NotFound,
    TooLarge,
    failure,
    json_response,
    outcome,
    refusal,
)
from serving.routes import ENDPOINTS, Handler
from serving.tokens import Tokens
from serving.tracing import Tracing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]
Application = Callable[[Scope, Receive, Send], Any]

_LINES_PER_SECOND = 20
_PROTECTED = ("/v1/models/", "/v2/models/", "/v2/repository/")
_VERSIONS = f"/v2/models/{MODEL_NAME}/versions/"

logger = logging.getLogger(__name__)


class Gate:
    """An ASGI application before another one, which it leaves what does no work.

    Args:
        app: Answers whatever is not POST.
        version: The model's; the v2 protocol may name it in a path.
        tokens: Who may use the model; anybody without it.
        bodies: Reads bodies.
        handlers: Answer POST to their paths; nothing else does.
        check_load: Raises `Overloaded` if one poster more would wait for too long.
        metrics: Counts requests.
        tracing: Traces them, if that is asked for.
    """

    def __init__(
        self,
        app: Application,
        *,
        version: str,
        tokens: Tokens | None,
        bodies: Bodies,
        handlers: Mapping[str, Handler],
        check_load: Callable[[], None],
        metrics: ServerMetrics,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._version = version
        self._tokens = tokens
        self._bodies = bodies
        self._handlers = handlers
        self._check_load = check_load
        self._metrics = metrics
        self._tracing = tracing
        self._log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope = self._without_version(scope)
        try:
            with self._span(scope) as span:
                answer = await self._answer(Request(scope, receive)) or self._app
                await answer(scope, receive, note)
                if span:
                    span.set_attribute("http.response.status_code", status)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    def refusal_at_once(self, scope: Scope) -> Response | None:
        """Refuse a request that would wait for too long, before anything is made of it.

        In an overload most requests are such, and what they cost is lost for the others.

        Args:
            scope: The request's.

        Returns:
            The answer; None if the request goes on.
        """
        if scope["method"] != "POST" or scope["path"] not in ENDPOINTS or self._tracing:
            return None
        try:
            self._check_load()
        except Overloaded as error:
            headers = Headers(scope=scope)
            is_too_large = _length(headers) > self._bodies.max_bytes
            if is_too_large or not self._may_pass(scope, headers):
                return None
            self._note(scope, 503, 0.0)
            return _busy(error.seconds)
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint = ENDPOINTS.get(scope["path"])
        if endpoint:
            self._metrics.request(endpoint, outcome(status))
            self._log.note(scope, status, seconds)

    def _without_version(self, scope: Scope) -> Scope:
        """Take the version out of a path if it is the one that is served: KServe knows none."""
        prefix = _VERSIONS + self._version
        path = scope["path"]
        if path != prefix and not path.startswith(prefix + "/"):
            return scope
        return {**scope, "path": f"/v2/models/{MODEL_NAME}{path[len(prefix) :]}"}

    def _span(self, scope: Scope) -> AbstractContextManager[Span | None]:
        if self._tracing is None or scope["path"] not in ENDPOINTS:
            return nullcontext()
        return self._tracing.request(scope["method"], scope["path"], Headers(scope=scope))

    async def _answer(self, request: Request) -> Response | None:
        """Answer a request, or leave it to the application."""
        try:
            refused = self._refused(request)
            if refused or request.method != "POST":
                return refused
            handler = self._handlers.get(request.scope["path"])
            if handler is None:
                raise _nothing_here(request, f"POST to {', '.join(self._handlers)}")
            async with self._bodies.read(request) as body:
                return await handler(request.headers, body)
        except REFUSALS as error:
            return refusal(error)
        except Exception:
            logger.exception("a request failed")
            return failure()

    def _refused(self, request: Request) -> Response | None:
        path = request.scope["path"]
        if not self._may_pass(request.scope, request.headers):
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}  # its body is not read
            return json_response({"error": UNAUTHORIZED}, 401, headers)
        if path.startswith(_VERSIONS):
            raise _nothing_here(request, f"use {_VERSIONS}{self._version}, or leave it out")
        if _length(request.headers) > self._bodies.max_bytes:
            raise TooLarge(self._bodies.max_bytes)
        if path in ENDPOINTS:
            self._check_load()  # before a body is read or parsed
        return None

    def _may_pass(self, scope: Scope, headers: Headers) -> bool:
        if self._tokens is None or not scope["path"].startswith(_PROTECTED):
            return True
        if scope["method"] == "GET":  # readiness and metadata, which Kubernetes asks for
            return True
        return self._tokens.allows(headers.get("authorization"))


def _nothing_here(request: Request, remedy: str) -> NotFound:
    path = request.scope["path"][:200]
    return NotFound(f"nothing answers {request.method} {path}", remedy=remedy)


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


@lru_cache
def _busy(seconds: int) -> Response:
    """Give what a crowd is answered, thousands of times a second: it is made once."""
    return refusal(Overloaded(seconds))


class AccessLog:
    """A line a request, as JSON; under load some, which say how many they stand for."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._skipped = 0

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """Note a request.

        Args:
            scope: The request's.
            status: The answer's.
            seconds: How long it took.
        """
        if not logger.isEnabledFor(logging.INFO):
            return
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > _LINES_PER_SECOND:
            self._skipped += 1
            return
        client = scope.get("client") or ("",)
        line = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": client[0],
        }
        if self._skipped:
            line["skipped"] = self._skipped
            self._skipped = 0
        logger.info("%s", json.dumps(line), extra={"fields": line})
