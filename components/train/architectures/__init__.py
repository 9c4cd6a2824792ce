"""The architectures by name. A further one is a file here, a line below and its defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

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
    fine_tuned_from: int | None = None
    """The first stage of a pretrained backbone that fine-tuning trains; None for a network that
    starts from scratch."""


ARCHITECTURES: dict[str, Architecture] = {
    "custom_cnn": Architecture(build=custom_cnn.build),
    "vgg16": Architecture(build=vgg16.build, fine_tuned_from=vgg16.LAST_BLOCK),
}
"""By the names of `components.train.settings.DEFAULTS`."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training."""

    name: str
    frozen: int
    """How many stages of the backbone do not train; what they make of posters is cached."""
    settings: TrainSettings


def phases(name: str, model: PosterModel, settings: TrainSettings) -> list[Phase]:
    """List the phases in which an architecture is trained.

    Args:
        name: The architecture.
        model: Its model.
        settings: The training's settings.
    """
    tuned_from = ARCHITECTURES[name].fine_tuned_from
    if tuned_from is None:
        return [Phase(name="network", frozen=0, settings=settings)]
    found = [Phase(name="head", frozen=len(model.backbone), settings=settings)]
    if settings.fine_tune_epochs:
        found.append(Phase(name="last block", frozen=tuned_from, settings=settings.fine_tuning()))
    return found


def parameter_groups(part: nn.Module, phase: Phase) -> list[dict[str, Any]]:
    """Give the optimizer's groups of what a phase trains.

    Kernels and matrices decay; biases and normalisation are left alone.

    Args:
        part: The part of the network that trains.
        phase: The phase.

    Returns:
        Groups with `params`, `weight_decay`, and `scale`, the share of the learning rate.
    """
    trained = [weight for weight in part.parameters() if weight.requires_grad]
    decays = {True: phase.settings.weight_decay, False: 0.0}
    groups = [
        {"params": [weight for weight in trained if (weight.ndim > 1) == kernels],
         "weight_decay": decay, "scale": 1.0}
        for kernels, decay in decays.items()
    ]  # fmt: skip
    return [group for group in groups if group["params"]]
