"""ConvNeXt-Tiny by transfer learning: larger, and more accurate on photographs."""

from torch import nn
from torchvision.models import ConvNeXt_Tiny_Weights, convnext_tiny

from components.train.architectures import Architecture
from components.train.head import EvidenceHead
from components.train.model import PosterModel
from components.train.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_backbone
from components.train.settings import TrainSettings

CHANNELS = 768


def build(genres: int, settings: TrainSettings, weights: str) -> PosterModel:
    """Build ConvNeXt-Tiny's convolutions under our head.

    Args:
        genres: Number of genres.
        settings: The training's settings.
        weights: As in `load_backbone`.

    Returns:
        The model.
    """
    backbone: nn.Sequential = load_backbone(
        lambda: convnext_tiny().features,
        ConvNeXt_Tiny_Weights.IMAGENET1K_V1,
        weights,
        settings.seed,
    )
    head = EvidenceHead(CHANNELS, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(backbone, head, IMAGENET_MEAN, IMAGENET_STD)


ARCHITECTURE = Architecture(
    build=build,
    defaults=TrainSettings(
        height=240,
        width=160,
        epochs=60,
        patience=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=1e-2,
        dropout=0.5,
        fine_tune_stages=2,
        backbone_rate=0.33,
    ),
)
