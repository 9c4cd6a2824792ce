"""Our own network, trained from scratch: small residual blocks on a 2:3 input."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from components.train.model import PosterModel
from components.train.settings import TrainSettings

WIDTHS: tuple[int, ...] = (32, 64, 128, 256)
"""Channels of the stages; each stage halves height and width."""

MEAN = (127.5, 127.5, 127.5)
STD = (63.75, 63.75, 63.75)

DEFAULTS = TrainSettings(
    height=192,
    width=128,
    epochs=20,
    patience=8,
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=5e-2,
    dropout=0.3,
)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, at half the height and width.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, h, w] to [N, outputs, h / 2, w / 2]."""
        return torch.relu(self.branch(features) + self.shortcut(features))


def build(genres: int, settings: TrainSettings, weights: str) -> PosterModel:
    """Build the network with random weights.

    Args:
        genres: Number of genres.
        settings: The training's settings.
        weights: Ignored: this network starts from scratch.

    Returns:
        The model.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(inplace=True),
    )
    blocks = [ResidualBlock(inputs, outputs) for inputs, outputs in pairwise(WIDTHS)]
    backbone = nn.Sequential(stem, *blocks)
    return PosterModel(backbone, WIDTHS[-1], genres, settings.dropout, MEAN, STD)
