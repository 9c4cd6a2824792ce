"""The routes that cost work, answered without a web framework's share of the time.

FastAPI and KServe's own handlers take longer for a request than the custom CNN takes for its
poster. They still answer everything that is not POST.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError
from serving import v2
from serving.bodies import check_json
from serving.kserve_api import (
    EXPLAIN_SECONDS,
    INFERENCE_CONTENT_LENGTH_HEADER,
    PREDICT_SECONDS,
    DataPlane,
)
from serving.predictor import PosterGenreModel
from serving.refusals import json_response

PREDICT = f"/v1/models/{MODEL_NAME}:predict"
EXPLAIN = f"/v1/models/{MODEL_NAME}:explain"
INFER = f"/v2/models/{MODEL_NAME}/infer"
ENDPOINTS = {PREDICT: "predict", EXPLAIN: "explain", INFER: "infer"}
"""What costs work, by path, with its name in the metrics."""

Handler = Callable[[Headers, bytes], Awaitable[Response]]
"""Answers a request, given its headers and its body."""


def handlers(model: PosterGenreModel, dataplane: DataPlane) -> dict[str, Handler]:
    """Give the routes of a model, by path; all take POST.

    Args:
        model: The loaded model.
        dataplane: Reads and writes CloudEvents.
    """

    def version_1(work: Callable[[Any], Awaitable[Any]], seconds: Any) -> Handler:
        async def handle(headers: Headers, body: bytes) -> Response:
            with seconds.time():
                if event := _event_headers(headers):
                    return await _answer_event(dataplane, work, event, body)
                return json_response(await work(_parse(body)))

        return handle

    async def infer(headers: Headers, body: bytes) -> Response:
        length = headers.get(INFERENCE_CONTENT_LENGTH_HEADER)
        infer_request = v2.read_request(body, length, MODEL_NAME)
        with PREDICT_SECONDS.time():
            response = await model.predict(infer_request)
        content, json_length = response.to_rest()
        if json_length is None:
            return json_response(content)
        lengths = {INFERENCE_CONTENT_LENGTH_HEADER: str(json_length)}
        return Response(content, headers=lengths, media_type="application/octet-stream")

    return {
        PREDICT: version_1(model.predict, PREDICT_SECONDS),
        EXPLAIN: version_1(model.explain, EXPLAIN_SECONDS),
        INFER: infer,
    }


def _parse(body: bytes) -> Any:
    check_json(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body is no JSON ({error})", remedy="see the documentation") from None


_BINARY = {"ce-id", "ce-source", "ce-specversion", "ce-type"}
_STRUCTURED = "application/cloudevents+json"


def _event_headers(headers: Headers) -> dict[str, str] | None:
    """Give the headers of a CloudEvent as KServe compares them; None if it is no such event."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _STRUCTURED or set(headers) >= _BINARY:
        return {**headers, "content-type": kind}
    return None


async def _answer_event(
    dataplane: DataPlane,
    work: Callable[[Any], Awaitable[Any]],
    headers: dict[str, str],
    body: bytes,
) -> Response:
    """Answer a CloudEvent with one, as KServe does."""
    document, attributes = _read_event(dataplane, headers, body)
    answer = await work(document)
    content, more = dataplane.encode(MODEL_NAME, answer, headers, attributes)
    return Response(content, headers=more)


def _read_event(
    dataplane: DataPlane, headers: dict[str, str], body: bytes
) -> tuple[Any, dict[str, Any]]:
    check_json(body)
    try:
        # Whatever its type says: of other types KServe does not read the body.
        return dataplane.decode(body, headers | {"content-type": "application/json"})
    except Exception as error:
        # The library raises a dozen types for damaged events.
        raise DataError(
            f"the CloudEvent cannot be read ({type(error).__name__}: {str(error)[:200]})",
            remedy="see the CloudEvents specification, version 1.0; its data must be JSON",
        ) from None
