"""The gate before all routes: access, size, load, and what is noted of each request."""

import json
import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry.trace import Span
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.batching import Overloaded
from serving.metrics import ServerMetrics
from serving.routes import ENDPOINTS, REFUSALS, Handler, TooLarge, failure, json_response, refusal
from serving.tokens import Tokens
from serving.tracing import Tracing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]
Application = Callable[[Scope, Receive, Send], Any]

_OUTCOMES = {401: "unauthorized", 503: "overloaded"}
_LINES_PER_SECOND = 20
_PROTECTED = ("/v1/models/", "/v2/models/", "/v2/repository/")

logger = logging.getLogger(__name__)


class Gate:
    """An ASGI application before another one.

    Args:
        app: Answers what passes.
        tokens: Who may use the model; anybody without it.
        max_bytes: The largest body.
        handlers: Answer POST to their paths, before `app`.
        check_load: Raises `Overloaded` if one poster more would wait for too long.
        metrics: Counts requests.
        tracing: Traces them, if that is asked for.
    """

    def __init__(
        self,
        app: Application,
        *,
        tokens: Tokens | None,
        max_bytes: int,
        handlers: Mapping[str, Handler],
        check_load: Callable[[], None],
        metrics: ServerMetrics,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._handlers = handlers
        self._check_load = check_load
        self._metrics = metrics
        self._tracing = tracing
        self._log = _AccessLog()

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

        try:
            with self._span(scope) as span:
                await self._pass(scope, receive, note)
                if span:
                    span.set_attribute("http.response.status_code", status)
        finally:
            endpoint = ENDPOINTS.get(scope["path"], "other")
            if endpoint != "other":
                self._metrics.request(endpoint, _outcome(status))
            self._log.note(scope, status, time.perf_counter() - start)

    def _span(self, scope: Scope) -> AbstractContextManager[Span | None]:
        if self._tracing is None or scope["path"] not in ENDPOINTS:
            return nullcontext()
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        return self._tracing.request(scope["method"], scope["path"], headers)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        receive = self._limited(receive)
        handler = self._handlers.get(scope["path"])
        if handler is None or scope["method"] != "POST" or _is_cloudevent(headers):
            await self._app(scope, receive, send)
            return
        response = await _answer(handler, Request(scope, receive))
        await response(scope, receive, send)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        if not self._may_pass(scope, headers):
            return json_response({"error": _UNAUTHORIZED}, 401, {"WWW-Authenticate": "Bearer"})
        if _length(headers) > self._max_bytes:
            # The connection is closed: reading on would cost what the limit saves.
            response = refusal(TooLarge(self._max_bytes))
            response.headers["Connection"] = "close"
            return response
        if scope["path"] in ENDPOINTS:
            try:
                self._check_load()  # before a body is read or parsed
            except Overloaded as error:
                return refusal(error)
        return None

    def _may_pass(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        if self._tokens is None or not scope["path"].startswith(_PROTECTED):
            return True
        if scope["method"] == "GET":  # readiness and metadata, which Kubernetes asks for
            return True
        return self._tokens.allows(headers.get(b"authorization", b"").decode("latin-1"))

    def _limited(self, receive: Receive) -> Receive:
        """Count a body that does not say how long it is."""
        received = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal received
            message: MutableMapping[str, Any] = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise TooLarge(self._max_bytes)
            return message

        return limited


_UNAUTHORIZED = "no valid access token: send the header Authorization: Bearer TOKEN"


def _length(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return _OUTCOMES.get(status, "refused" if status < 500 else "failed")


def _is_cloudevent(headers: dict[bytes, bytes]) -> bool:
    return b"ce-specversion" in headers or headers.get(b"content-type", b"").startswith(
        b"application/cloudevents"
    )


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except REFUSALS as error:
        return refusal(error)
    except ClientDisconnect:
        return failure()  # nobody reads it
    except Exception:
        logger.exception("a request failed")
        return failure()


class _AccessLog:
    """A line a request, as JSON; under load some, which say how many they stand for."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._skipped = 0

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        if not logger.isEnabledFor(logging.INFO) or scope["path"] not in ENDPOINTS:
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
        logger.info("%s", json.dumps(line))
