"""Where a network runs and in which precision."""

import contextlib

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Give the context in which forward passes run.

    Args:
        device: Where the network runs.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where the processor computes in it.
    """
    precision = resolved(precision, device)
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def resolved(precision: str, device: torch.device) -> str:
    """Name the precision that `auto` stands for on a device; others stand for themselves."""
    if precision != "auto":
        return precision
    return "bf16" if computes_in_bf16(device) else "fp32"


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scale the loss so that small gradients survive in fp16; other precisions need no scaling."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def computes_in_bf16(device: torch.device) -> bool:
    """Tell whether bf16 is native there; emulated it would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
