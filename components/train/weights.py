"""Weights on disk and in buckets, always as safetensors: never pickle."""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from marquee import storage
from marquee.errors import DataError, UsageError

TORCHVISION = "torchvision"
RANDOM = "random"


def load_tensors(uri: str) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Args:
        uri: A file or URI.

    Returns:
        Tensors by name.

    Raises:
        UsageError: There is no such file.
        DataError: It is no safetensors file.
    """
    try:
        return load(storage.read_bytes(uri))
    except FileNotFoundError:
        raise UsageError(
            f"there are no weights at {uri}",
            remedy=f"check --weights: a file, a URI, {TORCHVISION} or {RANDOM}",
        ) from None
    except SafetensorError as error:
        raise DataError(
            f"{uri} is no safetensors file ({error})", remedy="convert it; pickles are not read"
        ) from None


def digest(module: torch.nn.Module) -> str:
    """Name a module's weights by their sha256 (64 hex digits)."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
