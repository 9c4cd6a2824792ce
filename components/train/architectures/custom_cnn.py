"""Our own network, trained from scratch: 3x3 convolutions and max-pooling on a 2:3 input.

Max-pooling finds a motif wherever it stands.
"""

from torch import nn

from components.train.architectures import Architecture
from components.train.head import EvidenceHead, StudyHead
from components.train.model import PosterModel
from components.train.settings import TrainSettings

WIDTHS: tuple[int, ...] = (48, 96, 192)
"""Channels of the stages; each stage halves height and width."""

_STEM = 24

STUDY_WIDTHS: tuple[int, ...] = (64, 128, 256, 512)
"""Channels of the study's four blocks; each halves height and width."""

MEAN = (114.75, 107.1, 102.0)
STD = (70.0, 70.0, 70.0)
"""About those of posters."""


def build(genres: int, settings: TrainSettings, weights: str) -> PosterModel:
    """Build the network with random weights.

    Args:
        genres: Number of genres.
        settings: The training's settings.
        weights: Not used: this network starts from scratch.

    Returns:
        The model; its feature map is a sixteenth of the input in height and width.
    """
    if settings.preset == "study":
        return _study(genres, settings)
    layers: list[nn.Module] = [_convolution(3, _STEM, kernel=5, stride=2)]
    channels = _STEM
    for width in WIDTHS:
        layers += [_convolution(channels, width), nn.MaxPool2d(2)]
        channels = width
    layers.append(_convolution(channels, channels))
    backbone = nn.Sequential(*layers)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    head = EvidenceHead(channels, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(backbone, head, MEAN, STD)


def _study(genres: int, settings: TrainSettings) -> PosterModel:
    """Build the network of the study that Marquee industrialises: no normalisation, no pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for width in STUDY_WIDTHS:
        convolution = nn.Conv2d(channels, width, 3, padding=1)
        layers.append(nn.Sequential(convolution, nn.ReLU(inplace=True), nn.MaxPool2d(2)))
        channels = width
    shrunk = 2 ** len(STUDY_WIDTHS)
    places = (settings.height // shrunk) * (settings.width // shrunk)
    head = StudyHead(channels * places, genres, settings.dropout, settings.era_weight > 0)
    return PosterModel(nn.Sequential(*layers), head, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


ARCHITECTURE = Architecture(
    build=build,
    defaults=TrainSettings(
        height=144,
        width=96,
        epochs=16,
        patience=8,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=5e-2,
        dropout=0.3,
        label_smoothing=0.04,
        ema=0.998,
        default_precision="int8",
    ),
    presets={
        "study": TrainSettings(
            preset="study",
            height=224,
            width=224,
            epochs=50,
            patience=5,
            batch_size=32,
            learning_rate=1e-4,
            weight_decay=0.0,
            dropout=0.5,
        )
    },
    pretrained=False,
)
