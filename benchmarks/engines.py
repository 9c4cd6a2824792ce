"""ONNX Runtime and OpenVINO on the same bundle, with no server around them.

Run `python -m benchmarks.engines [--bundle BUNDLE]... [--rounds 5]`; without `--bundle` it makes
bundles from drawn posters. All engines run in one process, in turn, on decoded posters. What a
bundle can ask for runs through `marquee.engine`; OpenVINO computing in bf16 is tried beside it.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
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
from marquee.engine import RUNTIMES, Engine
from marquee.images import preprocess
from marquee.openvino_core import CORE, options, part

_POSTERS = 64
_BATCHES = (1, 8)
_THREADS = (1, 2)
_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

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
    found = {
        (_NAMES[name], precision): _run_by(bundle, name, precision, threads)
        for precision in bundle.info.variants
        for name in RUNTIMES
    }
    return found | {("OpenVINO", "bf16 computed"): _computed_in_bf16(bundle, threads)}


def _run_by(bundle: Bundle, name: str, precision: str, threads: int) -> Run:
    info = dataclasses.replace(bundle.info, engine=name)
    engine = Engine(Bundle(bundle.folder, info), precision, threads)
    return lambda posters: engine.infer(posters)["logits"]


def _computed_in_bf16(bundle: Bundle, threads: int) -> Run:
    whole = CORE.read_model(bundle.model_file(FULL_PRECISION))
    # As `Engine.infer` by default: evidence maps are not computed unless asked for.
    wanted = part(whole, ("logits", "embedding"))
    in_bf16 = options(threads) | {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = CORE.compile_model(wanted, "CPU", in_bf16)
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
    with tempfile.TemporaryDirectory(prefix="bundles-") as scratch:
        for bundle in bundles(arguments.bundles, Path(scratch)):
            command = [sys.executable, "-m", "benchmarks.engines", "--measure", str(bundle.folder)]
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
