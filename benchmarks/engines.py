"""ONNX Runtime and OpenVINO on the same bundle, with no server around them.

Run `python -m benchmarks.engines [--bundle BUNDLE]... [--rounds 5]` after `make peers`; without
`--bundle` it makes bundles from drawn posters. All engines run in `.tools/openvino`, in turn, on
decoded posters. OpenVINO's precision is set explicitly: its default computes in bf16 where the
processor can, whatever the model says. ONNX Runtime runs through `marquee.engine`.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bundles import bundles
from benchmarks.posters import read_posters
from benchmarks.results import FILE, record
from benchmarks.running import ROOT
from marquee.bundle import FULL_PRECISION, Bundle, load
from marquee.engine import Engine
from marquee.images import preprocess

_PYTHON = ROOT / ".tools/openvino/bin/python"
_POSTERS = 64
_BATCHES = (1, 8)
_THREADS = (1, 2)
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Of OpenVINO, by precision; what an int8 model does not quantise is computed in fp32."""

Run = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]
"""Turns preprocessed posters [N, H, W, 3] into logits [N, G]."""


@dataclass
class Timing:
    """What an engine took, a figure a turn, by batch size."""

    engine: str
    precision: str
    threads: int
    difference: float
    """Mean difference of a probability from ONNX Runtime's in fp32."""
    seconds: dict[int, list[float]] = field(default_factory=dict)
    """A poster."""
    cpu_seconds: dict[int, list[float]] = field(default_factory=dict)
    """A poster."""

    def row(self) -> list[str | float]:
        """Give the row of the table."""
        cells: list[str | float] = [self.engine, self.precision, str(self.threads)]
        for batch in _BATCHES:
            seconds, cpu = median(self.seconds[batch]), median(self.cpu_seconds[batch])
            cells += [f"{1 / seconds:.1f}", f"{seconds * 1000:.1f}", f"{cpu * 1000:.1f}"]
        return [*cells, f"{self.difference:.4f}"]


def engines(bundle: Bundle, threads: int) -> dict[tuple[str, str], Run]:
    """Open a bundle in every engine and precision."""
    found: dict[tuple[str, str], Run] = {}
    for precision, file in bundle.info.variants.items():
        found["ONNX Runtime", precision] = _onnxruntime(bundle, precision, threads)
        if precision != "bf16":
            found["OpenVINO", precision] = _openvino(bundle.folder / file, precision, threads)
    found["OpenVINO", "bf16"] = _openvino(bundle.model_file(FULL_PRECISION), "bf16", threads)
    return found


def _onnxruntime(bundle: Bundle, precision: str, threads: int) -> Run:
    engine = Engine(bundle, precision, threads)
    return lambda posters: engine.infer(posters)["logits"]


def _openvino(model: Path, precision: str, threads: int) -> Run:
    import openvino  # type: ignore[import-not-found]

    core = openvino.Core()
    whole = core.read_model(model)
    # As `Engine.infer` by default: evidence maps are not computed unless asked for.
    wanted = [whole.output(name) for name in ("logits", "embedding")]
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(openvino.Model(wanted, whole.get_parameters()), "CPU", options)
    return lambda posters: compiled(posters)[0]


def measure(bundle: Bundle, rounds: int, seconds: float) -> list[Timing]:
    """Let all engines run in turn, for some seconds each."""
    posters = np.stack(
        [preprocess(file, bundle.info.preprocessing) for file in read_posters(_POSTERS)[0]]
    )
    runs = {
        (*name, threads): run
        for threads in _THREADS
        for name, run in engines(bundle, threads).items()
    }
    probabilities = bundle.info.calibration.probabilities
    pieces = np.split(posters, _POSTERS // max(_BATCHES))
    said = {
        name: probabilities(np.concatenate([run(piece) for piece in pieces]))
        for name, run in runs.items()
    }
    wanted = said["ONNX Runtime", FULL_PRECISION, 1]
    timings = {name: Timing(*name, float(np.abs(said[name] - wanted).mean())) for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            for batch in _BATCHES:
                elapsed, cpu = _turn(run, posters, batch, seconds)
                timings[name].seconds.setdefault(batch, []).append(elapsed)
                timings[name].cpu_seconds.setdefault(batch, []).append(cpu)
    return list(timings.values())


def _turn(run: Run, posters: NDArray[np.uint8], batch: int, seconds: float) -> tuple[float, float]:
    run(posters[:batch])
    done, started, cpu = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        first = done % (len(posters) - batch + 1)
        run(posters[first : first + batch])
        done += batch
    return elapsed / done, (time.process_time() - cpu) / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", action="append", default=[], dest="bundles")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        timings = measure(load(arguments.measure), arguments.rounds, arguments.seconds)
        print(json.dumps([timing.row() for timing in timings]))
        return
    if not _PYTHON.exists():
        raise SystemExit("OpenVINO is not installed: run `make peers`")
    with tempfile.TemporaryDirectory(prefix="bundles-") as scratch:
        for bundle in bundles(arguments.bundles, Path(scratch)):
            command = [str(_PYTHON), "-m", "benchmarks.engines", "--measure", str(bundle.folder)]
            command += ["--rounds", str(arguments.rounds), "--seconds", str(arguments.seconds)]
            said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            heads = [
                f"{what}, batch {n}" for n in _BATCHES for what in ("posters/s", "ms", "CPU ms")
            ]
            size = bundle.info.preprocessing
            record(
                f"Engines: {bundle.info.architecture}",
                f"python -m benchmarks.engines --bundle BUNDLE --rounds {arguments.rounds}",
                ["", "precision", "threads", *heads, "mean difference"],
                json.loads(said.stdout.splitlines()[-1]),
                f"Input {size.height}x{size.width}, decoded before; ms and CPU ms are a poster's; "
                f"medians of {arguments.rounds} interleaved turns. The last column is the mean "
                "difference of a probability from ONNX Runtime's in fp32, over "
                f"{_POSTERS} posters.",
                arguments.results,
            )


if __name__ == "__main__":
    main()
