"""The model behind the endpoint: posters in, genres out."""

import asyncio
import math
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simplejpeg import encode_jpeg

import marquee
from marquee.bundle import Bundle
from marquee.endpoint import (
    MODEL_NAME,
    Instance,
    InvalidInstance,
    answer,
    parse_request,
)
from marquee.engine import Engine, Prediction
from marquee.images import Preprocessing, jpeg_pixels
from marquee.neighbours import Neighbours
from marquee.processes import cpus
from marquee.records import REPLAY_CLIENT, PredictionRecord
from serving import v2
from serving.batching import Batcher, Pace, Predicted
from serving.bodies import Bodies
from serving.explanation import Explainer
from serving.fetch import FetchSettings, PosterFetcher
from serving.kserve_api import InferRequest, Model
from serving.metrics import ServerMetrics
from serving.pools import EventLoop, Threads
from serving.posters import Poster, decode_all, fetched
from serving.prediction_log import PredictionLog
from serving.purged import PurgeMarks
from serving.samples import SampleStore
from serving.settings import ServingSettings
from serving.tracing import Tracing

_WARM_UPS = 3
"""The first run is slow; of the others the quicker one counts."""

_ALONE_PIXELS = 500_000
"""A JPEG file of no more takes a few ms to decode: while it is alone, the event loop does it."""
_CROWD_PIXELS = 100_000
"""A JPEG file of no more takes half a ms: in a crowd, too, as `EventLoop` explains."""

_USUAL_GENRES = 2
"""As many are explained, about, if a request leaves it to the model."""


class PosterGenreModel(Model):
    """Serves one bundle under KServe's name for it, `poster-genre`.

    Args:
        bundle: The verified bundle.
        settings: How to serve it.
        records: Where predictions are recorded; nowhere without it.
        tracing: Traces requests; nobody does without it.
        samples: Keeps some of the posters; nobody does without it.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: ServingSettings,
        records: PredictionLog | None,
        tracing: Tracing | None,
        samples: SampleStore | None = None,
    ) -> None:
        super().__init__(MODEL_NAME)
        self._bundle = bundle
        self._settings = settings
        self._records = records
        self.tracing = tracing
        self._samples = samples
        self.bodies = Bodies(int(settings.max_request_mb * 1e6))
        # Not more than cores: a large poster takes 150 MB while it is decoded, and more as PNG.
        self._threads = Threads(cpus(), "decode")
        self._loop = EventLoop()
        self._explain_pace = Pace()
        self._fetcher = (
            PosterFetcher(FetchSettings(hosts=settings.url_hosts)) if settings.url_hosts else None
        )

    def load(self) -> bool:
        """Open the bundle, and run it so that the first request is not slow.

        Returns:
            True: it is ready.

        Raises:
            DataError: The bundle is newer than this code.
        """
        settings = self._settings
        # Not `self.engine`: that is KServe's flag for models that start an engine of their own.
        self._runner = Engine(self._bundle)
        # A slow model gains nothing by batches, and they take memory.
        batch = settings.max_batch if self._runner.is_quick else 1
        self._runner.predict(self._blank(self._runner.lanes))
        run_seconds = self._run_seconds(batch)
        self._neighbours = Neighbours.read(str(self._bundle.folder))
        self._explainer = Explainer(self._runner, self._neighbours)
        # So that the first to ask does not wait.
        for _ in range(2):  # the first one is slow
            start = time.perf_counter()
            heatmaps = self._explainer.explain(self._blank(1)[0]).heatmaps
            seconds = time.perf_counter() - start
        self._learn_to_explain(len(heatmaps), seconds)
        self._prepare([Instance(image=encode_jpeg(self._blank(1)[0]))])()
        self._purged = PurgeMarks(settings.registry)
        self.batcher = Batcher(
            self._runner.predict,
            lanes=self._runner.lanes,
            max_batch=batch,
            run_seconds=run_seconds,
            max_wait=settings.max_wait_ms / 1000,
            queue_seconds=settings.queue_seconds,
            observe=lambda *run: self.metrics.run(*run),
        )
        info = self._bundle.info
        build = {
            "architecture": info.architecture,
            "label_set": info.label_set,
            "engine": info.engine,
            "precision": self._runner.precision,
            "marquee": marquee.__version__,
        }
        self.metrics = ServerMetrics(
            self.version, info.genres, build, lambda: self.batcher.admitted, self._records
        )
        self.ready = True
        return self.ready

    def _run_seconds(self, posters: int) -> float:
        """Warm the model up, and tell how long it takes for so many posters."""
        images = self._blank(posters)
        seconds = []
        for _ in range(_WARM_UPS):
            start = time.perf_counter()
            self._runner.predict(images)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def _blank(self, posters: int) -> NDArray[np.uint8]:
        size = self._preprocessing
        return np.zeros((posters, size.height, size.width, 3), np.uint8)

    async def close(self) -> None:
        """End what runs beside the requests."""
        self.ready = False
        self.batcher.close()
        # Not waited for: what a thread is amid takes seconds, which the records need.
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._fetcher:
            await self._fetcher.close()

    @property
    def version(self) -> str:
        """The version of the bundle that is served."""
        return self._bundle.version

    @property
    def genres(self) -> tuple[str, ...]:
        """The bundle's label set."""
        return self._bundle.info.genres

    @property
    def _preprocessing(self) -> Preprocessing:
        return self._bundle.info.preprocessing

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the v2 inputs."""
        return v2.input_types()

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the v2 outputs."""
        return v2.output_types(len(self.genres))

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
            Overloaded: There is too much to do already.
        """
        if isinstance(payload, InferRequest):
            instances = v2.parse_request(payload, self._settings.max_posters)
            return v2.answer(payload, await self._predictions(instances))
        instances = parse_request(payload, self._settings.max_posters)
        del payload  # base64 besides the files
        return {"predictions": await self._predictions(instances)}

    async def explain(self, payload: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Answer a v1 request with predictions, heatmaps and similar posters.

        Args:
            payload: The parsed JSON.
            headers: The request's headers.

        Returns:
            The answer of `predict`, each prediction with `explanations` and `similar`.

        Raises:
            DataError: The request is malformed.
            InvalidInstance: One poster cannot be answered; its index is named.
            Overloaded: There is too much to do already.
        """
        arrival = time.perf_counter()
        instances = parse_request(payload, self._settings.max_posters)
        del payload
        for index, instance in enumerate(instances):
            self._check_genres(index, instance)
        async with fetched(self._fetcher, self.bodies, instances) as complete:
            with self.batcher.admit(self._posters_to_explain(complete)):
                start = time.perf_counter()
                posters = await self._on_thread(
                    self.batcher.prepare, len(complete), self._prepare(complete), self._threads
                )
                decoded = self._note_stage("decode", start)
                explained = []
                for poster in posters:
                    prediction, more, seconds = await self._on_thread(self._explain, poster)
                    self._learn_to_explain(len(more["explanations"]), seconds)
                    explained.append((prediction, more))
                self._note_stage("explain", decoded)
                predictions = [prediction for prediction, _ in explained]
                answers = self._answers(posters, predictions, arrival)
        given = [entry | more for entry, (_, more) in zip(answers, explained, strict=True)]
        attributions = self._neighbours.attributions if self._neighbours else []
        return {"predictions": given, "attributions": attributions}

    def _posters_to_explain(self, instances: list[Instance]) -> int:
        """Tell what explaining counts as: the posters that could be predicted meanwhile."""
        genres = sum(len(instance.genres) or _USUAL_GENRES for instance in instances)
        seconds = genres * self._explain_pace.seconds
        return max(len(instances), self.batcher.posters_in(seconds))

    def _learn_to_explain(self, genres: int, seconds: float) -> None:
        self._explain_pace.add(genres, seconds / self._threads.workers)

    def _check_genres(self, index: int, instance: Instance) -> None:
        for genre in instance.genres:
            if genre not in self.genres:
                raise InvalidInstance(
                    index, f"unknown genre {genre[:50]!r}", f"use {', '.join(self.genres)}"
                )

    def _explain(self, poster: Poster) -> tuple[Prediction, dict[str, Any], float]:
        start = time.perf_counter()
        asked, film_id = poster.instance.genres, poster.instance.film_id
        explanation = self._explainer.explain(poster.pixels, asked, poster.size)
        prediction = explanation.prediction
        similar = self._explainer.similar(
            prediction.embedding, film_id=film_id, hidden=self._purged()
        )
        more = {"explanations": explanation.documents(), "similar": similar}
        return prediction, more, time.perf_counter() - start

    async def _predictions(self, instances: list[Instance]) -> list[dict[str, Any]]:
        arrival = time.perf_counter()
        async with fetched(self._fetcher, self.bodies, instances) as complete:
            with self.batcher.admit(len(complete)):
                found = await self._predicted(complete)
                self._note_stage("decode", found.begun, found.prepared)
                if self.tracing:
                    self.tracing.stage("predict", found.prepared, found.predicted)
                return self._answers(found.posters, found.predictions, arrival)

    async def _predicted(self, instances: list[Instance]) -> Predicted[Poster]:
        prepare = self._prepare(instances)
        pixels = jpeg_pixels(instances[0].image) if len(instances) == 1 else math.inf
        pool = self._loop if pixels <= _CROWD_PIXELS else self._threads
        if await self.batcher.is_alone():
            if not self._runner.is_quick:
                return await self.batcher.predict_alone(prepare, self._threads)
            if pixels <= _ALONE_PIXELS:
                # Handing it over to another thread and back would take as long as the model.
                return self.batcher.predict_here(prepare, pool)
        return await self.batcher.predict(len(instances), prepare, pool)

    def _prepare(self, instances: list[Instance]) -> Callable[[], list[Poster]]:
        return partial(decode_all, instances, self._preprocessing, self._records is not None)

    async def _on_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        # KServe runs handlers on the event loop, which must stay free.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def _note_stage(self, name: str, start: float, end: float | None = None) -> float:
        """Note a stage of a request, until now if its end is not given; give its end."""
        end = end or time.perf_counter()
        self.metrics.stage(name, end - start)
        if self.tracing:
            self.tracing.stage(name, start, end)
        return end

    def _answers(
        self, posters: Sequence[Poster], predictions: Sequence[Prediction], arrival: float
    ) -> list[dict[str, Any]]:
        self.metrics.predicted(predictions)
        ids = [str(uuid.uuid4()) for _ in posters]
        if self._samples:
            for poster in posters:
                if poster.instance.client_id != REPLAY_CLIENT:
                    self._samples.offer(poster.instance.image)
        if self._records is not None:
            start, now = time.perf_counter(), datetime.now(UTC)
            latency_ms = (start - arrival) * 1000
            self._records.put(
                self._record(*item, now, latency_ms)
                for item in zip(posters, predictions, ids, strict=True)
            )
            self._note_stage("log", start)
        return [
            answer(poster.instance, prediction, name, self.version)
            for poster, prediction, name in zip(posters, predictions, ids, strict=True)
        ]

    def _record(
        self,
        poster: Poster,
        prediction: Prediction,
        prediction_id: str,
        now: datetime,
        latency_ms: float,
    ) -> PredictionRecord:
        assert poster.attributes is not None, "posters are measured where they are recorded"
        era, era_source = poster.instance.era(prediction.era)
        width, height = poster.size
        return PredictionRecord(
            prediction_id=prediction_id,
            time=now,
            model_version=self.version,
            film_id=poster.instance.film_id,
            client_id=poster.instance.client_id,
            probabilities=prediction.probabilities,
            genres=prediction.genres,
            unsure=prediction.unsure,
            era=era,
            era_source=era_source,
            width=width,
            height=height,
            **vars(poster.attributes),
            embedding=prediction.embedding.tolist(),
            latency_ms=latency_ms,
            outcome="ok",
        )
