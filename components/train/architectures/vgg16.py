"""VGG16 by transfer learning: its ImageNet convolutions, frozen, under our head."""

import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from components.train.head import EvidenceHead
from components.train.model import PosterModel
from components.train.settings import TrainSettings
from components.train.weights import RANDOM, TORCHVISION, load_tensors
from marquee.errors import DataError, InfrastructureError

MEAN = (123.68, 116.779, 103.939)
STD = (1.0, 1.0, 1.0)
"""The original network (and torchvision's IMAGENET1K_FEATURES) takes 0..255 minus the mean."""

CHANNELS = 512
LAST_BLOCK = 24
"""Its first layer."""


def build(genres: int, settings: TrainSettings, weights: str) -> PosterModel:
    """Build VGG16's convolutional base under our head.

    Args:
        genres: Number of genres.
        settings: The training's settings.
        weights: `torchvision` (downloaded), `random`, or the file or URI of a safetensors file
            with torchvision's names `features.*`.

    Returns:
        The model.

    Raises:
        DataError: The weights are not VGG16's.
        InfrastructureError: They could not be downloaded.
    """
    backbone = _features(settings.seed)
    if weights == TORCHVISION:
        backbone.load_state_dict(_download())
    elif weights != RANDOM:
        _load(backbone, weights)
    head = EvidenceHead(CHANNELS, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(backbone, head, MEAN, STD)


def _features(seed: int) -> nn.Sequential:
    """VGG16's layers up to the last ReLU, with random weights from a seed.

    The last max-pool is left out: it would halve the evidence maps in both directions.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*list(vgg16(weights=None).features)[:-1])


def _download() -> dict[str, torch.Tensor]:
    try:
        state = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise InfrastructureError(
            f"could not download VGG16's weights ({error})",
            remedy="give a safetensors file with --weights, or try the plumbing with random ones",
        ) from error
    return _strip(dict(state))


def _load(backbone: nn.Module, uri: str) -> None:
    try:
        backbone.load_state_dict(_strip(load_tensors(uri)))
    except RuntimeError as error:
        raise DataError(
            f"{uri} does not hold VGG16's convolutional weights ({str(error).splitlines()[1:2]})",
            remedy="give a safetensors file with the keys features.0.weight to features.28.bias",
        ) from None


def _strip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "features."
    return {
        name.removeprefix(prefix): value.float()
        for name, value in state.items()
        if name.startswith(prefix)
    }
