"""Starts a training: in this process, in several of this machine, or in the pods of a TrainJob."""

import os
from typing import Protocol

from components.train.order import Order, Place, TrainReport
from components.train.settings import LaunchSettings, resolve_settings
from marquee.errors import UsageError
from marquee.processes import stoppable
from marquee.settings import Settings


class Trainer(Protocol):
    """A way to train."""

    def train(self, order: Order, settings: Settings) -> TrainReport:
        """Train an architecture and seal its bundle.

        Args:
            order: What is to be trained.
            settings: The settings of this process.

        Returns:
            The report.

        Raises:
            MarqueeError: As `components.train.train.train`; of several processes, what one says
                that did not fail because another had.
        """
        ...


class Alone:
    """Trains in this process."""

    def train(self, order: Order, settings: Settings) -> TrainReport:
        """Train an architecture and seal its bundle."""
        from components.train.train import train as train_here

        with stoppable():
            return train_here(order, settings)


def train(order: Order, settings: Settings, place: Place | None = None) -> TrainReport:
    """Train an architecture where the place and `train.launcher` say.

    Args:
        order: What is to be trained.
        settings: The settings of this process.
        place: On what; this machine without it.

    Returns:
        The report.

    Raises:
        MarqueeError: As `Trainer.train`.
    """
    return trainer(order, settings, place or Place()).train(order, settings)


def trainer(order: Order, settings: Settings, place: Place) -> Trainer:
    """Choose the way to train.

    Args:
        order: What is to be trained.
        settings: The settings of this process.
        place: On what.

    Raises:
        UsageError: This machine cannot do what is asked for.
    """
    launch = LaunchSettings.of(settings)
    if launch.launcher == "trainjob" or (launch.launcher == "auto" and place.task):
        from components.train.trainjob import TrainJob

        return TrainJob(place, launch)
    _check_this_machine(place)
    processes = place.gpus or resolve_settings(order.architecture, settings).processes
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return Alone()
    from components.train.torchrun import Torchrun

    return Torchrun(processes)


def _check_this_machine(place: Place) -> None:
    import torch

    if place.nodes > 1:
        raise UsageError(
            f"this is one machine, not {place.nodes}",
            remedy="leave nodes at 1, or set train.launcher to trainjob where Kubeflow Trainer is",
        )
    if place.gpus > torch.cuda.device_count():
        raise UsageError(
            f"this machine has {torch.cuda.device_count()} GPUs, not {place.gpus}",
            remedy="lower gpus, or set train.launcher to trainjob where Kubeflow Trainer is",
        )
