"""The engine: runs a bundle, for evaluation, `marquee predict` and the server alike."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.bundle import Bundle
from marquee.decision import decide
from marquee.errors import DataError
from marquee.processes import cpus

OUTPUTS: tuple[str, ...] = ("logits", "embedding", "maps")

QUICK_SECONDS = 0.005
"""A model that takes no longer for a poster is quick: it is run on one thread.

Threads that share so little wait for each other, and under load for a CPU as well: on two of them
the custom CNN takes .6 instead of .4 CPU ms a poster (benchmarks/engines.py, int8).
"""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one poster."""

    probabilities: dict[str, float]
    """Every genre of the bundle's label set, in its order."""
    genres: list[str]
    """The chosen genres, the most probable first; never empty."""
    unsure: bool
    """No probability reached its threshold; the most probable genre stands in."""
    embedding: NDArray[np.float32]
    """64 numbers that place the poster among others."""
    era: str | None = None
    """The most probable era; None if the model does not predict it."""


Run = Callable[[Sequence[str], NDArray[np.uint8]], Sequence[NDArray[Any]]]
"""Computes the named outputs for posters [N, H, W, 3]."""


class _OpenVino:
    """Compiles a graph for each choice of outputs: one that has all of them computes all."""

    def __init__(self, file: Path, threads: int) -> None:
        from marquee import openvino_core

        self._openvino = openvino_core
        # Read once: later the file may be gone, or another's.
        self._model = openvino_core.CORE.read_model(file)
        self._options = openvino_core.options(threads)
        self._graphs: dict[tuple[str, ...], Any] = {}
        self._compiling = threading.Lock()
        self._turn = threading.Lock()  # a graph is not to be run by two threads at once

    def __call__(self, outputs: Sequence[str], images: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        graph = self._graph(tuple(outputs))
        with self._turn:
            values = graph(images)
        return [values[name] for name in outputs]

    def _graph(self, outputs: tuple[str, ...]) -> Any:
        with self._compiling:
            if outputs not in self._graphs:
                part = self._openvino.part(self._model, outputs)
                compiled = self._openvino.CORE.compile_model(part, "CPU", self._options)
                self._graphs[outputs] = compiled
            return self._graphs[outputs]


def _onnx_runtime(file: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the CPUs that decode the next posters.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda outputs, images: session.run(list(outputs), {"image": images})


RUNTIMES: dict[str, Callable[[Path, int], Run]] = {
    "openvino": _OpenVino,
    "onnxruntime": _onnx_runtime,
}
"""What a bundle's `engine` names: opens a model file, to be run on so many threads.

Each is imported when it is asked for: they take 10 MB and more.
"""


class Engine:
    """Runs a bundle's model.

    Args:
        bundle: A verified bundle.
        precision: One of its variants; its default without it.
        threads: CPU threads; without it one for a quick model, else as many as there are CPUs for
            this process.

    Raises:
        DataError: The bundle has no such precision, or wants an engine that is not here.
    """

    def __init__(
        self, bundle: Bundle, precision: str | None = None, threads: int | None = None
    ) -> None:
        self.bundle = bundle
        self.precision = precision or bundle.info.precision
        if bundle.info.engine not in RUNTIMES:
            raise DataError(
                f"the bundle wants the engine {bundle.info.engine!r}",
                remedy=f"this Marquee has {', '.join(RUNTIMES)}; use a newer one",
            )
        self._run = self._open(threads or 1)
        if threads is None and cpus() > 1 and self._poster_seconds() > QUICK_SECONDS:
            self._run = self._open(cpus())

    def _open(self, threads: int) -> Run:
        runtime = RUNTIMES[self.bundle.info.engine]
        return runtime(self.bundle.model_file(self.precision), threads)

    def _poster_seconds(self) -> float:
        size = self.bundle.info.preprocessing
        blank = np.zeros((1, size.height, size.width, 3), np.uint8)
        seconds = []
        for _ in range(2):  # the first run is slow
            start = time.perf_counter()
            self.predict(blank)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def infer(
        self, images: NDArray[np.uint8], outputs: Sequence[str] = ("logits", "embedding")
    ) -> dict[str, NDArray[Any]]:
        """Run the model.

        Args:
            images: Preprocessed posters [N, H, W, 3].
            outputs: Which to compute.

        Returns:
            The outputs by name: `logits` [N, G], `embedding` [N, 64], `maps` [N, G, h, w], and
            `era` [N, E] if the bundle predicts eras.
        """
        values = self._run(outputs, images)
        return dict(zip(outputs, values, strict=True))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Give calibrated probabilities [N, G] of preprocessed posters [N, H, W, 3]."""
        return self.bundle.info.calibration.probabilities(self.infer(images)["logits"])

    def predict(self, images: NDArray[np.uint8]) -> list[Prediction]:
        """Predict the genres of preprocessed posters.

        Args:
            images: [N, H, W, 3].

        Returns:
            N predictions.
        """
        return self.predictions(self.infer(images, self.prediction_outputs))

    @property
    def prediction_outputs(self) -> tuple[str, ...]:
        """The outputs that a prediction is made from."""
        return ("logits", "embedding", *(["era"] if self.bundle.info.eras else []))

    def predictions(self, outputs: Mapping[str, NDArray[Any]]) -> list[Prediction]:
        """Turn the model's outputs into predictions.

        Args:
            outputs: At least `prediction_outputs` of N posters, as `infer` gives them.

        Returns:
            N predictions.
        """
        info = self.bundle.info
        eras = [info.eras[number] for number in outputs["era"].argmax(axis=1)] if info.eras else []
        probabilities = info.calibration.probabilities(outputs["logits"])
        chosen, unsure = decide(probabilities, info.thresholds)
        return [
            Prediction(
                probabilities={
                    genre: float(value)
                    for genre, value in zip(info.genres, probabilities[n], strict=True)
                },
                genres=[info.genres[g] for g in np.argsort(-probabilities[n]) if chosen[n, g]],
                unsure=bool(unsure[n]),
                embedding=outputs["embedding"][n],
                era=eras[n] if eras else None,
            )
            for n in range(len(probabilities))
        ]
