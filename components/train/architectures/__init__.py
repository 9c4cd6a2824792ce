"""The architectures: each is a file here that holds an `ARCHITECTURE`.

A file is imported when its architecture is asked for: its names can be listed without torch.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.train.settings import DEFAULT_PRESET, TrainSettings
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
    presets: Mapping[str, TrainSettings] = field(default_factory=dict)
    """Other ways to build and train it, by the names that `train.preset` takes."""
    pretrained: bool = True
    """Whether its backbone comes with weights; a head is trained on it before it is fine-tuned."""

    def settings(self, preset: str) -> TrainSettings:
        """Look the defaults of a preset up; `default` is what is trained unless asked otherwise.

        Raises:
            UsageError: There is none of this name.
        """
        known = {DEFAULT_PRESET: self.defaults, **self.presets}
        if preset not in known:
            raise UsageError(
                f"train.preset is {preset!r}, which this architecture does not have",
                remedy=f"use one of: {', '.join(known)}",
            )
        return known[preset]


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
    if not architecture(name).pretrained:
        return [Phase(name="network", frozen=0, settings=settings)]
    stages = len(model.backbone)
    found = [Phase(name="head", frozen=stages, settings=settings)]
    if settings.fine_tune_epochs:
        frozen = max(0, stages - settings.fine_tune_stages)
        found.append(Phase(name="fine-tuning", frozen=frozen, settings=settings.fine_tuning()))
    return found


def parameter_groups(part: "nn.Module", phase: Phase) -> list[dict[str, Any]]:
    """Give the optimizer's groups of what a phase trains.

    Kernels and matrices decay; biases and normalisation are left alone. In fine-tuning, what is
    below the head learns more slowly than the head.

    Args:
        part: The part of the network that trains: stages, and the head after them.
        phase: The phase.

    Returns:
        Groups with `params`, `weight_decay`, and `scale`, the share of the learning rate.
    """
    settings = phase.settings
    *stages, head = part.children()
    groups = [
        {
            "params": [weight for weight in _trained(modules) if (weight.ndim > 1) == kernels],
            "weight_decay": decay,
            "scale": scale,
        }
        for modules, scale in ((stages, settings.backbone_rate), ([head], 1.0))
        for kernels, decay in ((True, settings.weight_decay), (False, 0.0))
    ]
    return [group for group in groups if group["params"]]


def _trained(modules: "Sequence[nn.Module]") -> "list[nn.Parameter]":
    return [weight for part in modules for weight in part.parameters() if weight.requires_grad]
