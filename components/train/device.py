"""Where a network runs and in which precision."""

import contextlib
import os

import torch


def pick_device() -> torch.device:
    """Take the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Give the context in which forward passes run.

    Args:
        device: Where the network runs.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the processor computes in it.
    """
    if precision == "bf16" or (precision == "auto" and computes_in_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def computes_in_bf16(device: torch.device) -> bool:
    """Tell whether bf16 is native there; emulated it would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def cpu_count() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))
