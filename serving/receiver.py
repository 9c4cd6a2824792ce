"""Prediction records for clusters that use KServe's own payload logger (`spec.predictor.logger`).

KServe's agent posts the body of each v1 request and of its answer as CloudEvents (`pkg/logger` of
kserve/kserve 0.21): the types are `org.kubeflow.serving.inference.request` and `.response`, both
have the same `id`, and the attributes `source`, `namespace`, `inferenceservicename`, `component`
and `endpoint` tell whose they are. Several workers post them, so a response may come first; one
that is not 200 is never posted; and nothing that is refused here is sent again.
"""

import asyncio
import json
import logging
import reprlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from cloudevents.http import CloudEvent, from_http
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from marquee.endpoint import MOST_GENRES, InvalidInstance, parse_request
from marquee.errors import DataError, InvalidImage
from marquee.images import Attributes, decode, measure
from marquee.processes import cpus
from marquee.records import PredictionRecord
from serving.bodies import Bodies, check_json
from serving.http_protocol import BoundedHttpProtocol
from serving.listener import listen, url_of
from serving.prediction_log import PredictionLog
from serving.refusals import REFUSALS, refusal
from serving.tally import Tally

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
_OWNER = ("source", "namespace", "inferenceservicename", "component", "endpoint")

MAX_AGE_SECONDS = 60.0
"""How long a request waits for its response, or the other way round."""

CAPACITY = 10_000
"""Posters whose other half may be awaited; about 50 MB."""

MAX_BYTES = 48_000_000
"""The largest event: the server's largest request is 32 MB, and base64 around it adds a third."""

_MOST_POSTERS = 1_000
_LONGEST_NAME = 300
_GRACE_SECONDS = 10
_STRUCTURED = "application/cloudevents+json"
_BINARY = {"ce-specversion", "ce-id", "ce-type", "ce-source"}

logger = logging.getLogger(__name__)

Key = tuple[str, ...]


@dataclass(frozen=True)
class AskedPoster:
    """What a request tells of a poster; its bytes are not kept."""

    film_id: str | None
    client_id: str | None
    width: int
    height: int
    attributes: Attributes


@dataclass(frozen=True)
class AnsweredPoster:
    """What a response tells of a poster."""

    prediction_id: str
    model_version: str
    probabilities: dict[str, float]
    genres: list[str]
    unsure: bool
    era: str
    era_source: str


@dataclass(frozen=True)
class Asked:
    """A request."""

    time: datetime
    posters: list[AskedPoster]


@dataclass(frozen=True)
class Answered:
    """A response."""

    time: datetime
    posters: list[AnsweredPoster]


def read_event(headers: Mapping[str, str], body: bytes) -> tuple[Key, Asked | Answered]:
    """Read a CloudEvent of KServe's logger.

    Args:
        headers: Of the HTTP request that brought it, in lower case.
        body: Of the same.

    Returns:
        What a request and its response have in common, and what the event says.

    Raises:
        DataError: It is no CloudEvent, of another kind, or says nothing of predictions.
    """
    event = _parse_event(headers, body)
    key = tuple(_name(name, event.get(name) or "") for name in (*_OWNER, "id"))
    when = _time(event["time"])
    match event["type"]:
        case str(kind) if kind == REQUEST:
            return key, Asked(when, _asked_posters(event.data))
        case str(kind) if kind == RESPONSE:
            return key, Answered(when, _answered_posters(event.data))
    raise DataError(
        f"the event's type is {_short(event['type'])}", remedy=f"send {REQUEST} and {RESPONSE}"
    )


def _parse_event(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    is_structured = headers.get("content-type", "").startswith(_STRUCTURED)
    if not is_structured and not headers.keys() >= _BINARY:
        raise DataError(
            "this is no CloudEvent",
            remedy=f"send the headers {', '.join(sorted(_BINARY))}, or {_STRUCTURED}",
        )
    check_json(body)
    try:
        return from_http(headers, body, json.loads)
    except Exception as error:
        # The library raises a dozen types for damaged events, some of which quote all of the body.
        raise DataError(
            f"the event cannot be read ({type(error).__name__}: {str(error)[:200]})",
            remedy="see the CloudEvents specification, version 1.0; its data must be JSON",
        ) from None


def _time(value: Any) -> datetime:
    try:
        when = datetime.fromisoformat(value)
        if when.tzinfo is None:
            raise ValueError("no time zone")
        return when.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"the event's time is {_short(value)}",
            remedy="give RFC 3339, such as 2026-01-31T12:00:00Z",
        ) from None


def _name(where: str, value: Any) -> str:
    """Take short, plain text: it becomes a key in memory, or a value in a file."""
    if isinstance(value, str) and len(value) <= _LONGEST_NAME and value.isprintable():
        return value
    raise DataError(
        f"{where} is {_short(value)}", remedy=f"give text of up to {_LONGEST_NAME} characters"
    )


def _short(value: Any) -> str:
    return reprlib.repr(value)


def _asked_posters(document: Any) -> list[AskedPoster]:
    posters = []
    for index, instance in enumerate(parse_request(document, _MOST_POSTERS)):
        if not instance.image:
            raise InvalidInstance(index, "its image was not sent with it", "send it as base64")
        try:
            image = decode(instance.image)
        except InvalidImage as error:
            raise InvalidInstance(index, error.message, error.remedy) from None
        height, width = image.shape[:2]
        posters.append(
            AskedPoster(instance.film_id, instance.client_id, width, height, measure(image))
        )
    return posters


def _answered_posters(document: Any) -> list[AnsweredPoster]:
    predictions = document.get("predictions") if isinstance(document, dict) else None
    if not isinstance(predictions, list) or not predictions:
        raise DataError(
            "the response has no predictions",
            remedy="log a predictor that answers KServe's v1 protocol",
        )
    return [_answered_poster(index, prediction) for index, prediction in enumerate(predictions)]


def _answered_poster(index: int, document: Any) -> AnsweredPoster:
    match document:
        case {
            "prediction_id": str(prediction_id),
            "model_version": str(model_version),
            "probabilities": dict(probabilities),
            "genres": list(genres),
            "unsure": bool(unsure),
            "era": {"value": str(era), "source": str(era_source)},
        } if _are_genres(genres, probabilities):
            where = f"prediction {index}"
            return AnsweredPoster(
                prediction_id=_name(where, prediction_id),
                model_version=_name(where, model_version),
                probabilities={_name(where, name): p for name, p in probabilities.items()},
                genres=[_name(where, genre) for genre in genres],
                unsure=unsure,
                era=_name(where, era),
                era_source=_name(where, era_source),
            )
    raise DataError(
        f"prediction {index} is not what Marquee's endpoint answers",
        remedy="log the predictor itself, not a transformer that changes its answers",
    )


def _are_genres(genres: list[Any], probabilities: dict[Any, Any]) -> bool:
    few = 0 < len(genres) <= MOST_GENRES and len(probabilities) <= MOST_GENRES
    return few and all(map(_is_probability, probabilities.values()))


def _is_probability(value: Any) -> bool:
    return type(value) in (float, int) and 0 <= value <= 1


def join(asked: Asked, answered: Answered) -> list[PredictionRecord]:
    """Build records of a request and its response.

    Args:
        asked: The request.
        answered: The response.

    Returns:
        A record for each poster; the embedding is not known, and empty.

    Raises:
        DataError: They do not have the same number of posters.
    """
    if len(asked.posters) != len(answered.posters):
        raise DataError(
            f"a request of {len(asked.posters)} posters has {len(answered.posters)} predictions",
            remedy="give each request an id of its own (the header Ce-Id, if clients send it)",
        )
    seconds = (answered.time - asked.time).total_seconds()
    return [
        PredictionRecord(
            time=answered.time,
            film_id=poster.film_id,
            client_id=poster.client_id,
            width=poster.width,
            height=poster.height,
            **asdict(poster.attributes),
            **asdict(answer),
            embedding=[],
            latency_ms=1000 * max(0.0, seconds),
            outcome="ok",
        )
        for poster, answer in zip(asked.posters, answered.posters, strict=True)
    ]


@dataclass(frozen=True)
class _Half:
    content: Asked | Answered
    arrival: float


class Joiner:
    """Keeps requests and responses until their other half comes, within bounds.

    Args:
        capacity: How many posters may wait; beyond it the oldest half goes.
        seconds: How long a half waits.
        clock: Gives the seconds of now.
    """

    def __init__(
        self,
        capacity: int = CAPACITY,
        seconds: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        self._halves: dict[Key, _Half] = {}
        self._lock = threading.Lock()
        self.waiting = 0
        """Posters whose other half is awaited."""
        self.unanswered = Tally("%d requests without a response so far (%s)")
        self.unasked = Tally("%d responses without a request so far (%s)")

    def add(self, key: Key, content: Asked | Answered) -> list[PredictionRecord]:
        """Take one half.

        Args:
            key: What it has in common with the other half.
            content: The half.

        Returns:
            The records, if the other half was there already.

        Raises:
            DataError: The two do not fit each other; both are gone.
        """
        with self._lock:
            self._expire()
            other = self._take(key)
            match content, other:
                case Asked(), Answered():
                    return join(content, other)
                case Answered(), Asked():
                    return join(other, content)
            if other is not None:
                self._give_up(other, "their id was used again")
            self._halves[key] = _Half(content, self._clock())
            self.waiting += len(content.posters)
            while self.waiting > self._capacity:
                self._give_up_oldest("too many wait")
        return []

    def expire(self) -> None:
        """Give up what has waited for too long."""
        with self._lock:
            self._expire()

    def close(self) -> None:
        """Give up all that waits."""
        with self._lock:
            while self._halves:
                self._give_up_oldest("the receiver ends")

    def _expire(self) -> None:
        limit = self._clock() - self._seconds
        while self._halves and next(iter(self._halves.values())).arrival < limit:
            self._give_up_oldest(f"none came in {self._seconds:g} s")

    def _give_up_oldest(self, reason: str) -> None:
        content = self._take(next(iter(self._halves)))
        if content is not None:
            self._give_up(content, reason)

    def _take(self, key: Key) -> Asked | Answered | None:
        half = self._halves.pop(key, None)
        if half is None:
            return None
        self.waiting -= len(half.content.posters)
        return half.content

    def _give_up(self, content: Asked | Answered, reason: str) -> None:
        tally = self.unanswered if isinstance(content, Asked) else self.unasked
        tally.add(1, reason)


class Receiver:
    """The HTTP service: `POST /` takes an event, `GET /` tells that it runs and what it counted.

    Args:
        records: Where the records go.
        max_bytes: The largest event.
    """

    def __init__(self, records: PredictionLog, max_bytes: int = MAX_BYTES) -> None:
        self._records = records
        self._bodies = Bodies(max_bytes)
        self._joiner = Joiner()
        self._refused = Tally("%d events refused so far (%s)")
        # Not more than cores: a large poster takes 150 MB while it is decoded, and more as PNG.
        self._threads = ThreadPoolExecutor(cpus(), "receive")
        self.app = Starlette(
            routes=[
                Route("/", self._post, methods=["POST"]),
                Route("/", self._status, methods=["GET"]),
            ]
        )

    def close(self) -> None:
        """Count what still waits for its other half."""
        self._threads.shutdown()
        self._joiner.close()

    async def _post(self, request: Request) -> Response:
        try:
            async with self._bodies.read(request) as body:
                headers = dict(request.headers)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._threads, self._take, headers, body)
        except REFUSALS as error:
            self._refused.add(1, str(error))
            return refusal(error)
        # KServe's agent takes every status but 200 for a failure.
        return Response(status_code=200)

    def _take(self, headers: dict[str, str], body: bytes) -> None:
        self._records.put(self._joiner.add(*read_event(headers, body)))

    async def _status(self, request: Request) -> Response:
        self._joiner.expire()
        return JSONResponse(
            {
                "records_written": self._records.written,
                "records_dropped": self._records.dropped,
                "spooled_bytes": self._records.spooled_bytes,
                "events_refused": self._refused.count,
                "posters_waiting": self._joiner.waiting,
                "requests_without_response": self._joiner.unanswered.count,
                "responses_without_request": self._joiner.unasked.count,
            }
        )


def receive(records_uri: str, host: str, port: int, announce: Callable[[str], object]) -> None:
    """Take events until SIGTERM or SIGINT; what was joined by then is written.

    Args:
        records_uri: The folder of prediction records.
        host: The address to listen on.
        port: The port; 0 for any free one.
        announce: Gets one line when the receiver is ready.

    Raises:
        InfrastructureError: The address cannot be listened on.
    """
    with listen(host, port) as listener, PredictionLog(records_uri) as records:
        receiver = Receiver(records)
        config = uvicorn.Config(
            receiver.app,
            http=BoundedHttpProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        announce(f"the receiver is ready at {url_of(listener)}, for spec.predictor.logger.url")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            receiver.close()
