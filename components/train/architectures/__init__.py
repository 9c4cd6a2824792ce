"""The architectures by name. A further one is a file here, a line below and its defaults."""

from collections.abc import Callable
from dataclasses import dataclass

import components.train.architectures.custom_cnn as custom_cnn
import components.train.architectures.vgg16 as vgg16
from components.train.model import PosterModel
from components.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a network is built and trained.

    `build` takes the number of genres, the settings, and where pretrained weights come from
    (`torchvision`, `random`, a file or a URI).
    """

    build: Callable[[int, TrainSettings, str], PosterModel]
    frozen_backbone: bool
    """The backbone is not trained: its features are computed once and cached."""


ARCHITECTURES: dict[str, Architecture] = {
    "custom_cnn": Architecture(build=custom_cnn.build, frozen_backbone=False),
    "vgg16": Architecture(build=vgg16.build, frozen_backbone=True),
}
"""By the names of `components.train.settings.DEFAULTS`."""
