"""The architectures by name. A further one is a file here and a line below."""

from collections.abc import Callable
from dataclasses import dataclass

import components.train.architectures.custom_cnn as custom_cnn
import components.train.architectures.vgg16 as vgg16
from components.train.model import PosterModel
from components.train.settings import TrainSettings
from marquee.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a network is built and trained.

    `build` takes the number of genres, the settings, and where pretrained weights come from
    (`torchvision`, `random`, a file or a URI).
    """

    build: Callable[[int, TrainSettings, str], PosterModel]
    defaults: TrainSettings
    frozen_backbone: bool
    """The backbone is not trained: its features are computed once and cached."""


ARCHITECTURES: dict[str, Architecture] = {
    "custom_cnn": Architecture(
        build=custom_cnn.build, defaults=custom_cnn.DEFAULTS, frozen_backbone=False
    ),
    "vgg16": Architecture(build=vgg16.build, defaults=vgg16.DEFAULTS, frozen_backbone=True),
}


def architecture(name: str) -> Architecture:
    """Look an architecture up.

    Args:
        name: Such as `vgg16`.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in ARCHITECTURES:
        raise UsageError(
            f"unknown architecture {name!r}", remedy=f"use one of: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
