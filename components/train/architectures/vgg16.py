"""VGG16 by transfer learning: its ImageNet convolutions under our head."""

from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from components.train.architectures import Architecture
from components.train.head import EvidenceHead
from components.train.model import PosterModel
from components.train.pretrained import load_backbone
from components.train.settings import TrainSettings

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
        weights: As in `load_backbone`.

    Returns:
        The model.
    """
    backbone = load_backbone(_features, VGG16_Weights.IMAGENET1K_FEATURES, weights, settings.seed)
    head = EvidenceHead(CHANNELS, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(backbone, head, MEAN, STD)


def _features() -> nn.Sequential:
    """VGG16's layers up to the last ReLU.

    The last max-pool is left out: it would halve the evidence maps in both directions.
    """
    return nn.Sequential(*list(vgg16(weights=None).features)[:-1])


ARCHITECTURE = Architecture(
    build=build,
    fine_tuned_from=LAST_BLOCK,
    defaults=TrainSettings(
        height=240,
        width=160,
        epochs=60,
        patience=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=1e-2,
        dropout=0.5,
    ),
)
