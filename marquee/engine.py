"""The engine: runs a bundle, for evaluation, `marquee predict` and the server alike."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from marquee.bundle import Bundle
from marquee.decision import decide
from marquee.errors import DataError
from marquee.processes import cpus

OUTPUTS: tuple[str, ...] = ("logits", "embedding", "maps")

QUICK_SECONDS = 0.005
"""A model that takes no longer for a poster on one thread is quick, and runs on one.

Threads that share so little wait for each other, and under load for a CPU as well: on two of them
the custom CNN takes .6 instead of .4 CPU ms a poster (benchmarks/engines.py, int8).
"""

HEAVY_BYTES = 32_000_000
"""A slow model whose file is larger is heavy: it gives up the few per cent more posters that lanes
bring, for its weights would be in memory twice (VGG16 in fp32: benchmarks/serving.py)."""


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


Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]
"""Computes some outputs, by name, for posters [N, H, W, 3]."""


class Runtime(Protocol):
    """Has read a model file, and makes it ready to run."""

    def open(
        self, outputs: Sequence[str], threads: int, *, lanes: int = 1, batch: int | None = None
    ) -> Run:
        """Make the part of a model ready that computes some outputs.

        Args:
            outputs: Their names.
            threads: CPU threads a run.
            lanes: How many runs may go on side by side; more wait.
            batch: The posters of each run; any number without it.
        """


class _OpenVino:
    def __init__(self, file: Path) -> None:
        from marquee import openvino_core

        self._openvino = openvino_core
        # Read once: later the file may be gone, or another's.
        self._model = openvino_core.CORE.read_model(file)

    def open(
        self, outputs: Sequence[str], threads: int, *, lanes: int = 1, batch: int | None = None
    ) -> Run:
        part = self._openvino.part(self._model, outputs, batch)
        options = self._openvino.options(threads, lanes)
        compiled = self._openvino.CORE.compile_model(part, "CPU", options)
        # A request is not to be used by two threads at once.
        idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(lanes):
            idle.put(compiled.create_infer_request())

        def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
            request = idle.get()
            try:
                values = request.infer(images, share_inputs=True)
            finally:
                idle.put(request)
            return {name: values[name] for name in outputs}

        return run


class _OnnxRuntime:
    """Has a session for each number of threads; runs side by side need no more."""

    def __init__(self, file: Path) -> None:
        self._model = file.read_bytes()
        self._sessions: dict[int, Any] = {}

    def open(
        self, outputs: Sequence[str], threads: int, *, lanes: int = 1, batch: int | None = None
    ) -> Run:
        session = self._sessions.get(threads) or self._session(threads)
        self._sessions[threads] = session
        names = list(outputs)
        return lambda images: dict(zip(names, session.run(names, {"image": images}), strict=True))

    def _session(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the CPUs that decode the next posters.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            self._model, options, providers=["CPUExecutionProvider"]
        )


RUNTIMES: dict[str, Callable[[Path], Runtime]] = {
    "openvino": _OpenVino,
    "onnxruntime": _OnnxRuntime,
}
"""What a bundle's `engine` names: reads a model file.

Each is imported when it is asked for: they take 10 MB and more.
"""


class Engine:
    """Runs a bundle's model.

    A quick model runs on one thread, and its posters share a run. A slow one has as many lanes as
    there are CPUs for this process: several posters are run side by side, each on one thread, for
    threads that share a poster wait for each other, the more so the more else there is to do. A
    slow model's lone poster gets all threads. That takes the weights twice, so a heavy model has
    one lane, and each of its posters gets all threads.

    Args:
        bundle: A verified bundle.
        precision: One of its variants; its default without it.
        threads: CPU threads of every run, in one lane; without it, as described.

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
        file = bundle.model_file(self.precision)
        self._runtime = RUNTIMES[bundle.info.engine](file)
        self._runs: dict[tuple[Any, ...], Run] = {}
        self._opening = threading.Lock()
        self._threads = threads
        self.is_quick = self._poster_seconds() <= QUICK_SECONDS
        """Whether a poster takes no more than some ms on one thread."""
        if not self.is_quick:
            self._runs.clear()  # it is never run that way again
        is_heavy = file.stat().st_size > HEAVY_BYTES
        self._cpus = cpus()  # asked once: with another number the model would be made ready again
        self.lanes = 1 if self.is_quick or is_heavy or threads else self._cpus
        """How many posters are run side by side."""
        self._several = ThreadPoolExecutor(self.lanes, "lane")

    def _poster_seconds(self) -> float:
        size = self.bundle.info.preprocessing
        blank = np.zeros((1, size.height, size.width, 3), np.uint8)
        run = self._run(self.prediction_outputs, 1)
        seconds = []
        for _ in range(2):  # the first run is slow
            start = time.perf_counter()
            run(blank)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def infer(
        self,
        images: NDArray[np.uint8],
        outputs: Sequence[str] = ("logits", "embedding"),
        *,
        crowded: bool = False,
    ) -> dict[str, NDArray[Any]]:
        """Run the model.

        Args:
            images: Preprocessed posters [N, H, W, 3].
            outputs: Which to compute.
            crowded: Whether other threads have posters for the other lanes.

        Returns:
            The outputs by name: `logits` [N, G], `embedding` [N, 64], `maps` [N, G, h, w], and
            `era` [N, E] if the bundle predicts eras.
        """
        few = self.prediction_outputs
        wanted = few if set(outputs) <= set(few) else self.outputs
        if self.is_quick or self._threads:
            found = self._run(wanted, self._threads or 1)(images)
        elif len(images) == 1 and not crowded:
            found = self._alone()(images)
        else:
            found = self._side_by_side(wanted, images)
        return {name: found[name] for name in outputs}

    def _side_by_side(
        self, outputs: Sequence[str], images: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        # In one lane, the model of a poster that is alone: another would be another copy.
        run = self._alone() if self.lanes == 1 else self._run(outputs, 1, lanes=self.lanes, batch=1)
        if len(images) == 1:
            return run(images)
        found = list(self._several.map(run, images[:, np.newaxis]))
        return {name: np.concatenate([one[name] for one in found]) for name in outputs}

    def _alone(self) -> Run:
        """Give the slow model that a lone poster is run by, on all CPUs."""
        return self._run(self.outputs, self._cpus, batch=1)

    def _run(self, outputs: Sequence[str], threads: int, **more: int) -> Run:
        key = (tuple(outputs), threads, *more.values())
        with self._opening:
            if key not in self._runs:
                self._runs[key] = self._runtime.open(outputs, threads, **more)
            return self._runs[key]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Give calibrated probabilities [N, G] of preprocessed posters [N, H, W, 3]."""
        return self.bundle.info.calibration.probabilities(self.infer(images)["logits"])

    def predict(self, images: NDArray[np.uint8], *, crowded: bool = False) -> list[Prediction]:
        """Predict the genres of preprocessed posters.

        Args:
            images: [N, H, W, 3].
            crowded: As of `infer`.

        Returns:
            N predictions.
        """
        return self.predictions(self.infer(images, self.prediction_outputs, crowded=crowded))

    @property
    def prediction_outputs(self) -> tuple[str, ...]:
        """The outputs that a prediction is made from."""
        return ("logits", "embedding", *(["era"] if self.bundle.info.eras else []))

    @property
    def outputs(self) -> tuple[str, ...]:
        """All outputs that the model has."""
        maps = ["maps"] if self.bundle.info.explanation == "maps" else []
        return (*self.prediction_outputs, *maps)

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
