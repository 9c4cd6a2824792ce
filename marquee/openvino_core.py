"""OpenVINO, with the one core of this process; imported only for models that it runs.

Each core gives its thread a stack for signals, and takes it away when it goes; the second to go
puts the first one's back, and the next signal ends the process (openvino 2026.4.1). So there is
one, for good.
"""

import sys
from typing import Any

# The converter reports each import to Google Analytics, and nothing here converts.
sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

CORE = openvino.Core()


def options(threads: int) -> dict[str, Any]:
    """Say how a model shall be run on so many threads."""
    return {
        # Its default computes in bf16 where the processor can, whatever the model says.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # The threads that decode the next posters run on the same CPUs.
        "ENABLE_CPU_PINNING": False,
    }


def part(model: Any, outputs: tuple[str, ...]) -> Any:
    """Give the part of a model that computes the named outputs."""
    return openvino.Model([model.output(name) for name in outputs], model.get_parameters())
