"""The routes that cost work, answered without a web framework's share of the time.

FastAPI and KServe's own handlers take longer for a request than the custom CNN takes for its
poster. They still answer everything else, CloudEvents among it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError
from serving import v2
from serving.batching import Overloaded
from serving.kserve_api import (
    EXPLAIN_SECONDS,
    INFERENCE_CONTENT_LENGTH_HEADER,
    PREDICT_SECONDS,
    InvalidInput,
    ModelNotFound,
)
from serving.predictor import PosterGenreModel


class TooLarge(DataError):
    """A request's body has more bytes than are allowed.

    Args:
        limit: How many are, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the request has more than {limit / 1e6:g} MB", remedy="send fewer or smaller posters"
        )


PREDICT = f"/v1/models/{MODEL_NAME}:predict"
EXPLAIN = f"/v1/models/{MODEL_NAME}:explain"
INFER = f"/v2/models/{MODEL_NAME}/infer"
ENDPOINTS = {PREDICT: "predict", EXPLAIN: "explain", INFER: "infer"}
"""What costs work, by path, with its name in the metrics."""

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLarge, 413),
    (DataError, 400),
    (InvalidInput, 400),
    (ModelNotFound, 404),
)
REFUSALS: tuple[type[Exception], ...] = (*(kind for kind, _ in _STATUS), Overloaded)
"""What is answered with a reason; any other exception is a failure of ours."""

Handler = Callable[[Request], Awaitable[Response]]


def handlers(model: PosterGenreModel) -> dict[str, Handler]:
    """Give the routes of a model, by path; all take POST.

    Args:
        model: The loaded model.
    """

    async def predict(request: Request) -> Response:
        with PREDICT_SECONDS.time():
            return json_response(await model.predict(_parse(await request.body())))

    async def explain(request: Request) -> Response:
        with EXPLAIN_SECONDS.time():
            return json_response(await model.explain(_parse(await request.body())))

    async def infer(request: Request) -> Response:
        length = request.headers.get(INFERENCE_CONTENT_LENGTH_HEADER)
        infer_request = v2.read_request(await request.body(), length, MODEL_NAME)
        with PREDICT_SECONDS.time():
            response = await model.predict(infer_request)
        content, json_length = response.to_rest()
        if json_length is None:
            return json_response(content)
        headers = {INFERENCE_CONTENT_LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    return {PREDICT: predict, EXPLAIN: explain, INFER: infer}


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body is no JSON ({error})", remedy="see the documentation") from None


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
    if isinstance(error, Overloaded):
        return json_response({"error": str(error)}, 503, {"Retry-After": str(error.seconds)})
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return json_response({"error": str(error)}, status)


def failure() -> Response:
    """Answer after a fault of ours, and keep the reason to ourselves."""
    return json_response({"error": "the server failed; its log says why"}, 500)
