"""Backbones that learnt on ImageNet: built, and given their weights."""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import WeightsEnum

from components.train.weights import RANDOM, TORCHVISION, load_tensors
from marquee.errors import DataError, InfrastructureError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of the colours (0..255), as torchvision's networks expect them."""

_PREFIX = "features."


def load_backbone(
    build: Callable[[], nn.Sequential], published: WeightsEnum, weights: str, seed: int
) -> nn.Sequential:
    """Build the convolutional part of a network of torchvision's, and load its weights.

    Args:
        build: Gives it with random weights.
        published: The weights that torchvision downloads.
        weights: `torchvision` (downloaded), `random`, or the file or URI of a safetensors file
            with torchvision's names `features.*`.
        seed: Chooses the random weights.

    Returns:
        The stages of the convolutional part.

    Raises:
        DataError: The weights are not this network's.
        InfrastructureError: They could not be downloaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build()
    if weights == RANDOM:
        return backbone
    found = _download(published) if weights == TORCHVISION else load_tensors(weights)
    tensors = {
        name.removeprefix(_PREFIX): value.float() if value.is_floating_point() else value
        for name, value in found.items()
        if name.startswith(_PREFIX)
    }
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(
            f"{weights} does not hold the convolutional weights of {type(published).__name__} "
            f"({str(error).splitlines()[1:2]})",
            remedy="give a safetensors file with torchvision's names features.*, or torchvision",
        ) from None
    return backbone


def _download(published: WeightsEnum) -> dict[str, torch.Tensor]:
    try:
        return dict(published.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise InfrastructureError(
            f"could not download {published} ({error})",
            remedy="give a safetensors file with --weights, or try the plumbing with random ones",
        ) from error
