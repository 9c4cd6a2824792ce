"""VGG16 by transfer learning: its ImageNet convolutions under our head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from components.train.architectures import Architecture
from components.train.head import EvidenceHead
from components.train.model import PosterModel
from components.train.pretrained import load_backbone
from components.train.settings import TrainSettings

MEAN = (123.68, 116.779, 103.939)
STD = (1.0, 1.0, 1.0)
"""The original network (and torchvision's IMAGENET1K_FEATURES) takes 0..255 minus the mean."""

CHANNELS = 2048
"""Of all that the head sees: 512 of block 5, 512 of block 4's maxima, 512 of its averages, and 256
maxima and 256 averages of block 3."""

_TO_BLOCK_3, _BLOCK_4, _BLOCK_5 = slice(0, 16), slice(16, 23), slice(24, 30)
"""Their layers in torchvision's `features`, from one max-pool to the next."""


class Block4(nn.Module):
    """Block 4, beside block 3: what block 5 goes on with, and what the head sees of both.

    Genre shows in texture, colour and type as much as in objects, and the lower blocks know of
    those. They are pooled to the places of block 5, so that the evidence maps have one grid.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.block_4 = layers[_BLOCK_4]

    def forward(self, third: Tensor) -> Tensor:
        """Give [N, 1536, h/4, w/4] of block 3's [N, 256, h, w]; 512 are block 5's input."""
        fourth = self.block_4(third)
        pooled = (
            F.max_pool2d(fourth, 2),
            F.avg_pool2d(fourth, 2),
            F.max_pool2d(third, 4),
            F.avg_pool2d(third, 4),
        )
        return torch.cat(pooled, dim=1)


class Block5(nn.Module):
    """Block 5, beside what it was made from.

    Its max-pool is left out: it would halve the evidence maps in both directions.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.block_5 = layers[_BLOCK_5]

    def forward(self, lower: Tensor) -> Tensor:
        """Give [N, 2048, h, w] of the lower blocks' [N, 1536, h, w]."""
        return torch.cat([self.block_5(lower[:, :512]), lower], dim=1)


def build(genres: int, settings: TrainSettings, weights: str) -> PosterModel:
    """Build VGG16's convolutional base under our head.

    Args:
        genres: Number of genres.
        settings: The training's settings.
        weights: As in `load_backbone`.

    Returns:
        The model; its feature map is a sixteenth of the input in height and width.
    """
    layers = load_backbone(
        lambda: vgg16(weights=None).features,
        VGG16_Weights.IMAGENET1K_FEATURES,
        weights,
        settings.seed,
    )
    backbone = nn.Sequential(layers[_TO_BLOCK_3], Block4(layers), Block5(layers))
    head = EvidenceHead(CHANNELS, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(backbone, head, MEAN, STD)


ARCHITECTURE = Architecture(
    build=build,
    defaults=TrainSettings(
        height=256,
        width=176,
        epochs=60,
        patience=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=1e-1,
        dropout=0.8,
        ema=0.995,
        positive_power=0.0,
        mirror=True,
        crop=0.3,
        fine_tune_epochs=8,
        backbone_rate=0.33,
        fine_tune_patience=8,
        default_precision="int8",
    ),
)
