"""What the server tells Prometheus, beside KServe's own four latency histograms."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
from prometheus_client import REGISTRY, Counter, Histogram, Info, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from marquee.engine import Prediction
from serving.prediction_log import PredictionLog

_BINS = 20
"""Of the histogram of probabilities: each is a series for every genre."""
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5)

_ENDPOINTS = ("predict", "explain", "infer", "grpc")
_OUTCOMES = ("ok", "refused", "unauthorized", "overloaded", "left", "failed")

# A series more for each, which nobody reads.
disable_created_metrics()

_REQUESTS = Counter(
    "marquee_requests", "Requests by how they ended.", ["endpoint", "outcome", "model_version"]
)
_STAGES = Histogram(
    "marquee_stage_seconds", "Seconds by stage of a request.", ["stage"], buckets=_SECONDS
)
_BATCHES = Histogram("marquee_batch_posters", "Posters a run.", buckets=(1, 2, 4, 8, 16, 32, 64))
_BUILD = Info("marquee_build", "What is served, and by what.")


class ServerMetrics(Collector):
    """The figures of one server; a process has one.

    Args:
        model_version: The bundle's version.
        genres: The G genres.
        build: What is served, and by what: name to value.
        waiting: Tells how many posters are admitted and not answered.
        records: The prediction log, if there is one.
    """

    def __init__(
        self,
        model_version: str,
        genres: Sequence[str],
        build: dict[str, str],
        waiting: Callable[[], int],
        records: PredictionLog | None,
    ) -> None:
        self._genres = tuple(genres)
        self._waiting = waiting
        self._records = records
        self._counts = np.zeros((len(genres), _BINS), dtype=np.int64)
        self._sums = np.zeros(len(genres))
        self._rows = np.arange(len(genres))
        # Bound once: looking a label up costs more than counting.
        stages = ("queue", "decode", "infer", "log", "explain")
        self._stages = {name: _STAGES.labels(name) for name in stages}
        self._requests = cache(lambda *labels: _REQUESTS.labels(*labels, model_version))
        # From a series that begins with the first failure Prometheus sees no increase.
        for labels in product(_ENDPOINTS, _OUTCOMES):
            self._requests(*labels)
        _BUILD.info(build | {"model_version": model_version})
        REGISTRY.register(self)

    def request(self, endpoint: str, outcome: str) -> None:
        """Count a request."""
        self._requests(endpoint, outcome).inc()

    def stage(self, name: str, seconds: float) -> None:
        """Count the time of a stage: `queue`, `decode`, `infer`, `log` or `explain`."""
        self._stages[name].observe(seconds)

    def run(self, posters: int, seconds: float, waits: Sequence[float]) -> None:
        """Count a run of the model.

        Args:
            posters: How many it had.
            seconds: How long it took.
            waits: How long each poster had waited, in seconds.
        """
        _BATCHES.observe(posters)
        self.stage("infer", seconds)
        for wait in waits:
            self.stage("queue", wait)

    def predicted(self, predictions: Sequence[Prediction]) -> None:
        """Count each genre's probabilities."""
        for prediction in predictions:
            values = np.fromiter(prediction.probabilities.values(), float, len(self._genres))
            self._counts[self._rows, np.minimum((values * _BINS).astype(int), _BINS - 1)] += 1
            self._sums += values

    def collect(self) -> Iterator[Metric]:
        """Give what is counted here or elsewhere, whenever Prometheus asks."""
        yield self._probabilities()
        yield GaugeMetricFamily(
            "marquee_queue_posters",
            "Posters admitted and not yet answered.",
            value=self._waiting(),
        )
        if self._records is not None:
            yield from _of_log(self._records)

    def _probabilities(self) -> Metric:
        """One histogram a genre; Prometheus' own would cost each poster ten times more."""
        family = HistogramMetricFamily(
            "marquee_probability", "Calibrated probabilities by genre.", labels=["genre"]
        )
        bounds = [*(f"{(number + 1) / _BINS:g}" for number in range(_BINS - 1)), "+Inf"]
        for genre, counts, total in zip(self._genres, self._counts, self._sums, strict=True):
            buckets = list(zip(bounds, map(float, counts.cumsum()), strict=True))
            family.add_metric([genre], buckets, float(total))
        return family


def _of_log(log: PredictionLog) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "marquee_prediction_log_records",
        "Prediction records by what became of them.",
        labels=["outcome"],
    )
    family.add_metric(["written"], log.written)
    family.add_metric(["dropped"], log.dropped)
    yield family
    yield GaugeMetricFamily(
        "marquee_prediction_log_spooled_bytes",
        "Bytes of records that wait on this machine for their storage.",
        value=log.spooled_bytes,
    )
