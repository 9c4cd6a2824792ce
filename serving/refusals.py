"""What is answered where a request is refused, and how that is counted."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from marquee.errors import DataError
from serving.batching import Overloaded

FAILED = "the server failed; its log says why"
"""All that a client is told of a fault of ours."""

UNAUTHORIZED = "no valid access token: send Authorization: Bearer TOKEN"

CLIENT_LEFT = 499
"""As nginx has it; nobody is there to read it."""


class TooLarge(DataError):
    """A request's body has more bytes than are allowed.

    Args:
        limit: How many are, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the request has more than {limit / 1e6:g} MB",
            remedy="send fewer or smaller posters a request",
        )


class TooSlow(DataError):
    """A request's body did not arrive in time.

    Args:
        seconds: How long it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the request did not arrive within {seconds:g} s",
            remedy="send fewer posters a request",
        )


class NotFound(DataError):
    """Nothing of that name or at that path is here."""


_TABLE: tuple[tuple[type[Exception], int], ...] = (
    (TooLarge, 413),
    (TooSlow, 408),
    (NotFound, 404),
    (DataError, 400),
    (Overloaded, 503),
    (ClientDisconnect, CLIENT_LEFT),
)
"""Exceptions with their HTTP statuses; the first that fits counts."""

REFUSALS: tuple[type[Exception], ...] = tuple(kind for kind, _ in _TABLE)
"""What is answered with a reason; any other exception is a failure of ours."""

_OUTCOMES = {401: "unauthorized", CLIENT_LEFT: "left", 503: "overloaded"}


def status_of(error: Exception) -> int:
    """Give the HTTP status for an exception.

    Args:
        error: Any exception.
    """
    return next((status for kind, status in _TABLE if isinstance(error, kind)), 500)


def outcome(status: int) -> str:
    """Name how a request ended, for the metrics.

    Args:
        status: The status of HTTP.
    """
    if status < 400:
        return "ok"
    return _OUTCOMES.get(status, "refused" if status < 500 else "failed")


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON.

    Args:
        document: Plain values.
        status: The HTTP status.
        headers: Further headers.
    """
    content = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, "application/json")


def refusal(error: Exception) -> Response:
    """Answer with a reason.

    Args:
        error: One of `REFUSALS`.
    """
    headers = {}
    if isinstance(error, Overloaded):
        # The connection stays: a crowd that had to connect again would cost more than its bodies.
        headers["Retry-After"] = str(error.seconds)
    elif isinstance(error, TooLarge | TooSlow | NotFound):
        # Else the rest of the body would still be read, which costs what the limit saves.
        headers["Connection"] = "close"
    return json_response({"error": str(error)}, status_of(error), headers)


def failure() -> Response:
    """Answer after a fault of ours, and keep the reason to ourselves."""
    return json_response({"error": FAILED}, 500)
