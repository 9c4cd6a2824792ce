"""OpenVINO, with the one core of this process; imported only for models that it runs.

Each core gives its thread a stack for signals, and takes it away when it goes; the second to go
puts the first one's back, and the next signal ends the process (openvino 2026.4.1). So there is
one, for good.
"""

import sys
from collections.abc import Sequence
from typing import Any

# The converter reports each import to Google Analytics, and nothing here converts.
sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

CORE = openvino.Core()


def options(threads: int, lanes: int = 1) -> dict[str, Any]:
    """Say how a model shall be run.

    Args:
        threads: CPU threads a run.
        lanes: How many runs go on side by side.
    """
    return {
        # Its default computes in bf16 where the processor can, whatever the model says.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads * lanes,
        "NUM_STREAMS": lanes,
        # The threads that decode the next posters run on the same CPUs.
        "ENABLE_CPU_PINNING": False,
    }


def part(model: Any, outputs: Sequence[str], batch: int | None = None) -> Any:
    """Give the part of a model that computes some outputs.

    Args:
        model: The model; it stays as it is.
        outputs: Their names.
        batch: The posters a run, which makes it quicker; any number without it.
    """
    found = openvino.Model([model.output(name) for name in outputs], model.get_parameters())
    if batch is None:
        return found
    found = found.clone()
    shape = found.input(0).partial_shape
    shape[0] = batch
    found.reshape(shape)
    return found
