"""Reduced precision: smaller variants of an exported model, kept if they predict as well.

`int8`: the backbone's kernels and feature maps as 8-bit integers, their ranges measured on training
posters. The head stays in fp32, so the evidence maps still add up to the logits.

`bf16`: the weights in half the space. They are widened when the model is loaded, so it is no
faster: onnxruntime has no bf16 convolution for CPUs (1.31: NOT_IMPLEMENTED for Conv, Gemm and
MatMul), and OpenVINO is told to compute in fp32, as not every processor can in bf16.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from marquee.bundle import DEFAULT_ENGINE, FULL_PRECISION, MODEL_FILE
from marquee.decision import Calibration
from marquee.engine import RUNTIMES, Runtime
from marquee.metrics import macro_map
from marquee.processes import cpus

logger = logging.getLogger(__name__)

LARGEST_LOSS = 0.005
"""Macro mAP that a variant may lose on the validation split."""
LARGEST_GAP = 1e-3
"""By how much evidence maps and bias may miss a logit."""

_BACKBONE = "/backbone/"
"""What the names of the backbone's nodes begin with: the exporter takes them from `PosterModel`."""
_QUANTISED = ("Conv", "Relu", "Clip", "MaxPool", "Gemm", "MatMul")
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_BATCH = 8
_TIMED = 10
"""Runs of each model, the quickest of which tells its speed."""

Posters = Iterable[NDArray[np.uint8]]
"""Preprocessed posters [B, H, W, 3], batch by batch."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A variant that was tried, beside full precision."""

    precision: str
    kept: bool
    loss: float
    """Macro mAP that it loses on the validation split; negative if it gains."""
    difference: float
    """Mean |dp| over posters and genres, p being the calibrated probability."""
    gap: float
    """Largest difference between a logit and its evidence maps plus bias; 0 without maps."""
    speed: float
    """How many times as fast it runs a poster on this machine, in the default engine."""
    size: float
    """Its file's share of the full one's."""

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "left out"
        return (
            f"{self.precision} {verdict}: macro mAP {-self.loss:+.4f} (at most {LARGEST_LOSS} may "
            f"be lost), mean |dp| {self.difference:.4f}, maps off by {self.gap:.1g}, "
            f"{self.speed:.2f} times as fast, {self.size:.0%} of the size"
        )


@dataclass(frozen=True)
class Reduced:
    """What became of the wanted precisions."""

    attempts: tuple[Attempt, ...]

    @property
    def variants(self) -> dict[str, str]:
        """Precision to model file, full precision first, for `BundleInfo.variants`."""
        kept = [attempt.precision for attempt in self.attempts if attempt.kept]
        return {FULL_PRECISION: MODEL_FILE, **{name: _file_name(name) for name in kept}}

    def default(self, asked: str) -> str:
        """Give the precision asked for if there is one, else full precision.

        One that was tried and not kept is worth a warning.
        """
        if asked in self.variants:
            return asked
        if asked in (attempt.precision for attempt in self.attempts):
            logger.warning("train: the bundle runs in %s: %s was not kept", FULL_PRECISION, asked)
        return FULL_PRECISION


def reduce_precision(
    folder: Path,
    wanted: Sequence[str],
    calibration_posters: Posters,
    validation_posters: Callable[[], Posters],
    labels: NDArray[np.float32],
    logits: NDArray[np.float32],
    calibration: Calibration,
) -> Reduced:
    """Write reduced-precision variants beside `model.onnx`, and remove those that lose too much.

    Thresholds and calibration are the full model's, for all variants.

    Args:
        folder: Holds `model.onnx`; gets `model.int8.onnx` and `model.bf16.onnx`.
        wanted: Names in `VARIANTS`.
        calibration_posters: Training posters that show int8 the range of each feature map; some
            hundred are enough. Read once, one poster at a time.
        validation_posters: Gives the N validation posters, anew for each variant.
        labels: Of the validation posters [N, G].
        logits: What the full model says of them [N, G].
        calibration: Turns logits into probabilities.

    Returns:
        What was tried and what was kept.
    """
    full = folder / MODEL_FILE
    attempts = []
    for precision in wanted:
        reduced = folder / _file_name(precision)
        VARIANTS[precision](full, reduced, calibration_posters)
        attempt = _compare(
            precision, full, reduced, validation_posters(), labels, logits, calibration
        )
        logger.info("train: %s", attempt)
        if not attempt.kept:
            reduced.unlink()
        attempts.append(attempt)
    return Reduced(tuple(attempts))


def _file_name(precision: str) -> str:
    return MODEL_FILE.replace(".onnx", f".{precision}.onnx")


def _write_int8(full: Path, reduced: Path, posters: Posters) -> None:
    """Quantise the backbone: a scale for each kernel, and one for each feature map.

    A feature map's range is its smallest and largest value. Weights have 7 bits: on processors
    without VNNI the sum of two 8-bit products overflows 16 bits, and a variant that passed here
    would fail there.
    """
    quant_pre_process(full, reduced, skip_optimization=True, skip_symbolic_shape=True)
    names = [node.name for node in onnx.load(reduced).graph.node]
    quantize_static(
        reduced,
        reduced,
        _Reader(posters),
        op_types_to_quantize=list(_QUANTISED),
        nodes_to_exclude=[name for name in names if not name.startswith(_BACKBONE)],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


class _Reader:
    """Hands posters to the quantiser, one at a time: it keeps every feature map of a batch."""

    def __init__(self, posters: Posters) -> None:
        self._posters = _pieces(posters, 1)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        piece = next(self._posters, None)
        return None if piece is None else {"image": piece}


def _write_bf16(full: Path, reduced: Path, posters: Posters) -> None:
    """Store kernels and matrices in bfloat16, each followed by a cast to float32."""
    model = onnx.load(full)
    graph = model.graph
    weights = {node.input[1] for node in graph.node if node.op_type in _WEIGHTED}
    casts = []
    for number, tensor in enumerate(graph.initializer):
        if tensor.name in weights:
            narrow = f"{tensor.name}.bf16"
            wide = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [narrow], [tensor.name], narrow, to=wide))
            graph.initializer[number].CopyFrom(_bfloat16(tensor, narrow))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, reduced)


def _bfloat16(tensor: Any, name: str) -> Any:
    values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()).bfloat16()
    raw = values.view(torch.int16).numpy().tobytes()
    return onnx.helper.make_tensor(name, onnx.TensorProto.BFLOAT16, tensor.dims, raw, raw=True)


VARIANTS: dict[str, Callable[[Path, Path, Posters], None]] = {
    "int8": _write_int8,
    "bf16": _write_bf16,
}
"""How to write each precision: from the full model's file, to the reduced one's, with posters."""


def _compare(
    precision: str,
    full: Path,
    reduced: Path,
    posters: Posters,
    labels: NDArray[np.float32],
    logits: NDArray[np.float32],
    calibration: Calibration,
) -> Attempt:
    runtime = RUNTIMES[DEFAULT_ENGINE](reduced)
    run = runtime.open(("logits",), cpus())
    pieces = _pieces(posters, _BATCH)
    first = next(pieces)
    found = [run(first)["logits"], *(run(piece)["logits"] for piece in pieces)]
    reduced_logits = np.concatenate(found)
    loss = macro_map(labels, logits) - macro_map(labels, reduced_logits)
    change = calibration.probabilities(reduced_logits) - calibration.probabilities(logits)
    gap = _gap(runtime, first) if _has_maps(reduced) else 0.0
    return Attempt(
        precision=precision,
        kept=loss <= LARGEST_LOSS and gap <= LARGEST_GAP,
        loss=loss,
        difference=float(np.abs(change).mean()),
        gap=gap,
        speed=_speed(full, reduced, first[:1]),
        size=reduced.stat().st_size / full.stat().st_size,
    )


def _has_maps(path: Path) -> bool:
    return "maps" in {output.name for output in onnx.load(path).graph.output}


def _gap(runtime: Runtime, posters: NDArray[np.uint8]) -> float:
    """Find how far logits less evidence are from being the same, the bias, for every poster."""
    found = runtime.open(("logits", "maps"), cpus())(posters)
    return float(np.ptp(found["logits"] - found["maps"].sum(axis=(2, 3)), axis=0).max())


def _speed(full: Path, reduced: Path, poster: NDArray[np.uint8]) -> float:
    """Take the processor time of both by turns, so that the machine's other work matters less."""
    runs = [RUNTIMES[DEFAULT_ENGINE](file).open(("logits",), 1) for file in (full, reduced)]
    best = [math.inf, math.inf]
    for _ in range(_TIMED):
        for place, run in enumerate(runs):
            start = time.process_time()
            run(poster)
            best[place] = min(best[place], time.process_time() - start)
    return best[0] / best[1]


def _pieces(batches: Posters, size: int) -> Iterator[NDArray[np.uint8]]:
    """Cut batches into smaller ones, so that memory does not hang on who made them."""
    for batch in batches:
        for start in range(0, len(batch), size):
            yield batch[start : start + size]
