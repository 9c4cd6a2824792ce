"""The architectures: each is a file here that holds an `ARCHITECTURE`.

A file is imported when its architecture is asked for: its names can be listed without torch.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.train.settings import TrainSettings
from marquee.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from components.train.model import PosterModel

NAMES: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a network is built and trained."""

    build: "Callable[[int, TrainSettings, str], PosterModel]"
    """Takes the number of genres, the settings, and where pretrained weights come from
    (`torchvision`, `random`, a file or a URI)."""
    defaults: TrainSettings
    """What it was found to train best with."""
    fine_tuned_from: int | None = None
    """The first stage of a pretrained backbone that fine-tuning trains; None for a network that
    starts from scratch."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training."""

    name: str
    frozen: int
    """How many stages of the backbone do not train; what they make of posters is cached."""
    settings: TrainSettings


def architecture(name: str) -> Architecture:
    """Look an architecture up.

    Args:
        name: One of `NAMES`.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in NAMES:
        raise UsageError(f"unknown architecture {name!r}", remedy=f"use one of: {', '.join(NAMES)}")
    found: Architecture = importlib.import_module(f"{__name__}.{name}").ARCHITECTURE
    return found


def phases(name: str, model: "PosterModel", settings: TrainSettings) -> list[Phase]:
    """List the phases in which an architecture is trained.

    Args:
        name: The architecture.
        model: Its model.
        settings: The training's settings.
    """
    tuned_from = architecture(name).fine_tuned_from
    if tuned_from is None:
        return [Phase(name="network", frozen=0, settings=settings)]
    found = [Phase(name="head", frozen=len(model.backbone), settings=settings)]
    if settings.fine_tune_epochs:
        found.append(Phase(name="last block", frozen=tuned_from, settings=settings.fine_tuning()))
    return found


def parameter_groups(part: "nn.Module", phase: Phase) -> list[dict[str, Any]]:
    """Give the optimizer's groups of what a phase trains.

    Kernels and matrices decay; biases and normalisation are left alone.

    Args:
        part: The part of the network that trains.
        phase: The phase.

    Returns:
        Groups with `params`, `weight_decay`, and `scale`, the share of the learning rate.
    """
    trained = [weight for weight in part.parameters() if weight.requires_grad]
    groups = [
        {
            "params": [weight for weight in trained if (weight.ndim > 1) == kernels],
            "weight_decay": decay,
            "scale": 1.0,
        }
        for kernels, decay in ((True, phase.settings.weight_decay), (False, 0.0))
    ]
    return [group for group in groups if group["params"]]
