"""The model behind the endpoint: posters in, genres out."""

import asyncio
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.bundle import load
from marquee.endpoint import MODEL_NAME, Instance, InvalidInstance, answer, parse_request
from marquee.engine import Engine, Prediction
from marquee.errors import InvalidImage
from marquee.images import Attributes, Preprocessing, decode, measure, resize
from marquee.records import PredictionRecord
from serving import v2
from serving.kserve_api import InferRequest, Model
from serving.prediction_log import PredictionLog

_BATCH = 8
"""Posters a run of the model: more would gain little, and cost memory by the request's size."""


@dataclass(frozen=True)
class _Poster:
    instance: Instance
    size: tuple[int, int]
    attributes: Attributes
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Predicted:
    poster: _Poster
    prediction: Prediction
    prediction_id: str


class PosterGenreModel(Model):
    """Serves one bundle under KServe's name for it, `poster-genre`.

    Args:
        bundle_uri: The bundle.
        records: Where predictions are recorded; nowhere without it.
    """

    def __init__(self, bundle_uri: str, records: PredictionLog | None = None) -> None:
        super().__init__(MODEL_NAME)
        self._bundle_uri = bundle_uri
        self._records = records
        # Not more than cores: a large poster takes 200 MB while it is decoded.
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "predict")

    def load(self) -> bool:
        """Verify and open the bundle, and run it once so that the first request is not slow.

        Returns:
            True: it is ready.

        Raises:
            DataError: The bundle is missing, damaged, or newer than this code.
        """
        # Not `self.engine`: that is KServe's flag for models that start an engine of their own.
        self._runner = Engine(load(self._bundle_uri))
        size = self._preprocessing
        self._runner.predict(np.zeros((1, size.height, size.width, 3), np.uint8))
        self.ready = True
        return self.ready

    @property
    def version(self) -> str:
        """The version of the bundle that is served."""
        return self._runner.bundle.version

    @property
    def _preprocessing(self) -> Preprocessing:
        return self._runner.bundle.info.preprocessing

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the v2 inputs."""
        return v2.input_types()

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the v2 outputs."""
        return v2.output_types(len(self._runner.bundle.info.genres))

    async def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        """Answer a request of either protocol.

        Args:
            payload: The parsed JSON (v1) or an `InferRequest` (v2).
            headers: The request's headers.

        Returns:
            The answer of the same protocol.

        Raises:
            DataError: The request is malformed.
            InvalidInstance: One poster cannot be answered; its index is named.
        """
        # On a thread: KServe runs handlers on the event loop, which must stay free.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._respond, payload, time.perf_counter()
        )

    def _respond(self, payload: Any, arrival: float) -> Any:
        if isinstance(payload, InferRequest):
            return v2.answer(payload, self._answers(v2.parse_request(payload), arrival))
        return {"predictions": self._answers(parse_request(payload), arrival)}

    def _answers(self, instances: list[Instance], arrival: float) -> list[dict[str, Any]]:
        posters = [self._decode(index, instance) for index, instance in enumerate(instances)]
        predicted = [
            _Predicted(poster, prediction, str(uuid.uuid4()))
            for start in range(0, len(posters), _BATCH)
            for poster, prediction in self._run(posters[start : start + _BATCH])
        ]
        if self._records is not None:
            self._records.put(self._record(predicted, arrival))
        return [
            answer(item.poster.instance, item.prediction, item.prediction_id, self.version)
            for item in predicted
        ]

    def _decode(self, index: int, instance: Instance) -> _Poster:
        try:
            image = decode(instance.image)
        except InvalidImage as error:
            raise InvalidInstance(index, error.message, error.remedy) from error
        pixels = resize(image, self._preprocessing)
        height, width = image.shape[:2]
        return _Poster(instance, (width, height), measure(image), pixels)

    def _run(self, posters: list[_Poster]) -> list[tuple[_Poster, Prediction]]:
        predictions = self._runner.predict(np.stack([poster.pixels for poster in posters]))
        return list(zip(posters, predictions, strict=True))

    def _record(self, predicted: list[_Predicted], arrival: float) -> list[PredictionRecord]:
        now = datetime.now(UTC)
        latency_ms = (time.perf_counter() - arrival) * 1000
        return [self._record_one(item, now, latency_ms) for item in predicted]

    def _record_one(self, item: _Predicted, now: datetime, latency_ms: float) -> PredictionRecord:
        instance, prediction = item.poster.instance, item.prediction
        era, era_source = instance.era(prediction.era)
        width, height = item.poster.size
        return PredictionRecord(
            prediction_id=item.prediction_id,
            time=now,
            model_version=self.version,
            film_id=instance.film_id,
            client_id=instance.client_id,
            probabilities=prediction.probabilities,
            genres=prediction.genres,
            unsure=prediction.unsure,
            era=era,
            era_source=era_source,
            width=width,
            height=height,
            **asdict(item.poster.attributes),
            embedding=prediction.embedding.tolist(),
            latency_ms=latency_ms,
            outcome="ok",
        )
