"""The training loop: plain PyTorch, the same for a whole network and for a part on cached features.

It runs alike in one process and in many: a step's batch is the same posters, however many
processes share it.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from components.train.checkpoints import Checkpoints
from components.train.data import Inputs, Regimen, Subset, Turn, Turns
from components.train.device import autocast, scaler
from components.train.losses import Targets, loss_of, mix
from components.train.progress import Progress
from components.train.settings import TrainSettings
from components.train.world import World
from marquee.errors import InfrastructureError, Stopped
from marquee.log import progress
from marquee.metrics import macro_map
from marquee.processes import postponed_stop

logger = logging.getLogger(__name__)

_STOP = 2

Watch = Callable[[Sequence[Mapping[str, float]]], None]
"""Is given the learning curves after each epoch, and when a training goes on, in the process that
leads."""


class Diverged(InfrastructureError):
    """The loss is no longer a number."""


class OutOfMemory(InfrastructureError):
    """What is trained does not fit into memory."""


@dataclass
class History:
    """What happened in each epoch; the learning curves."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    """The epoch with the best weights, from 0; -1 is before the first."""
    start_score: float = -math.inf
    """The validation macro mAP before the first."""

    @property
    def best_score(self) -> float:
        """The highest validation macro mAP so far."""
        if self.best_epoch < 0:
            return self.start_score
        return self.epochs[self.best_epoch]["validation_macro_map"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what."""

    module: nn.Module
    """Maps inputs to the logits of genres [B, G], and of eras beside them if it has such a head."""
    groups: list[dict[str, Any]]
    """The optimizer's groups of parameters, each with the share `scale` of the learning rate."""
    train: Subset
    validation: Subset
    train_inputs: Inputs
    validation_inputs: Inputs
    regimen: Regimen


class Trainer:
    """Trains a module until its validation mAP stops rising, and keeps the best weights.

    Args:
        task: What is trained on what; its module holds the best weights afterwards.
        settings: Epochs, patience, learning rate and so on.
        world: The processes that train together.
        checkpoints: Where a training that was stopped goes on from.
        starts_trained: The weights are worth something as they are: an epoch must beat them.
        watch: Follows the learning curves, and is shown them again when a training goes on; what
            it raises ends the training.
        progress: Is told how far it is.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        world: World,
        checkpoints: Checkpoints,
        starts_trained: bool = False,
        watch: Watch | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._watch, self._progress = watch, progress
        self._task, self._settings, self._world = task, settings, world
        self._checkpoints = checkpoints
        self._module = task.module
        self._joined = world.join(task.module)
        self._trainable = [weight for group in task.groups for weight in group["params"]]
        rate = settings.learning_rate
        self._optimizer = torch.optim.AdamW(
            [{**group, "lr": rate * group["scale"]} for group in task.groups], lr=rate, fused=True
        )
        self._turns = Turns(task.regimen, settings.batch_size, settings.accumulate, world)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, _cosine(settings.epochs * self._turns.steps, settings.warm_up)
        )
        self._scaler = scaler(world.device, settings.precision)
        self._average = AveragedModel(
            task.module, multi_avg_fn=_moving_average(settings.ema), use_buffers=True
        )
        self._targets = Targets(task.train, task.regimen, world.device)
        self._history = History()
        self._starts_trained = starts_trained
        self._best: dict[str, Tensor] = copy.deepcopy(task.module.state_dict())
        self._epoch = self._step = 0
        self._loss = 0.0
        self._saved_at = time.monotonic()

    def fit(self) -> History:
        """Train from the newest checkpoint, or from the start.

        Returns:
            The learning curves.

        Raises:
            Stopped: Training was asked to stop; a checkpoint says where.
            Diverged: The loss is no longer a number.
        """
        if self._begin():
            # It may have been killed between the checkpoint and the watch.
            self._show()
        elif self._starts_trained:
            self._history.start_score = self._score(self._module)
        with postponed_stop() as asked_to_stop:
            while self._epoch < self._settings.epochs and not self._waited_enough():
                self.train_epoch(asked_to_stop)
                self._finish_epoch()
                if self._world.highest(int(asked_to_stop())):
                    raise self._stopped(0)
        self._module.load_state_dict(self._best)
        self._module.eval()
        return self._history

    def scores(self, module: nn.Module) -> NDArray[np.float32]:
        """Give the outputs [N, G] of a module like this one for the validation posters."""
        return outputs(
            module, self._task.validation_inputs, len(self._task.validation), self._settings,
            self._world,
        )  # fmt: skip

    def _waited_enough(self) -> bool:
        waited = len(self._history.epochs) - 1 - self._history.best_epoch
        return bool(self._history.epochs) and waited >= self._settings.patience

    @property
    def posters_an_epoch(self) -> int:
        """Posters that an epoch shows, to all processes together."""
        return self._turns.steps * self._turns.size

    def train_epoch(self, asked_to_stop: Callable[[], bool]) -> None:
        """Train for an epoch, or for what is left of it.

        Args:
            asked_to_stop: Tells whether to stop after the present step.

        Raises:
            Stopped: It was asked to; a checkpoint says where.
            Diverged: The loss is no longer a number.
        """
        self._module.train()
        parts = self._turns.parts(self._epoch, self._step)
        name = f"epoch {self._epoch + 1}"
        with (
            progress(name, self._turns.steps) as advance,
            closing(self._task.train_inputs.batches(parts)) as inputs,
        ):
            advance(self._step)
            for step in range(self._step, self._turns.steps):
                first = (step - self._step) * self._settings.accumulate
                self._train_step(step, inputs, parts[first : first + self._settings.accumulate])
                advance(1)
                self._tell(step + 1)
                self._pause(step + 1, asked_to_stop())

    def _tell(self, step: int) -> None:
        if self._progress and self._world.leads:
            share = (self._epoch + step / self._turns.steps) / self._settings.epochs
            self._progress.tell(share, self._history.epochs[-1] if self._history.epochs else {})

    def _pause(self, step: int, asked_to_stop: bool) -> None:
        """Write a checkpoint if it is time; the processes agree on it, and on stopping."""
        due = time.monotonic() - self._saved_at > 60 * self._settings.checkpoint_minutes
        wish = self._world.highest(_STOP if asked_to_stop else int(due))
        if wish:
            self._save(self._epoch, step)
        if wish == _STOP:
            raise self._stopped(step)

    def _stopped(self, step: int) -> Stopped:
        return Stopped(
            f"stopped in epoch {self._epoch + 1}, after step {step} of {self._turns.steps}",
            remedy="run the same command again: it goes on from there",
        )

    def _train_step(
        self, step: int, inputs: Iterator[Tensor], parts: Sequence[Sequence[Turn]]
    ) -> None:
        counted = self._targets.counted(self._turns.rows(self._epoch, step))
        total = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with self._gradients(synchronised=last):
                total += self._backward(next(inputs), part, counted, (step, number))
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._trainable, self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        self._average.update_parameters(self._module)
        self._loss += total

    def _backward(
        self, inputs: Tensor, part: Sequence[Turn], counted: float, place: tuple[int, int]
    ) -> float:
        """Add the gradients of a part of a step; give its share of the step's loss."""
        rows = np.array([turn.row for turn in part])
        batch = self._targets.batch(rows)
        inputs = inputs.to(self._world.device, non_blocking=True)
        if self._settings.mixup:
            seed = [self._settings.seed, self._epoch, *place, self._world.rank]
            inputs, batch = mix(inputs, batch, self._settings.mixup, np.random.default_rng(seed))
        with autocast(self._world.device, self._settings.precision):
            outputs = self._joined(inputs)
        loss = loss_of(outputs.float(), batch, self._targets.positives, self._settings) / counted
        value = float(loss.item())
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} in epoch {self._epoch + 1}, step {place[0] + 1}",
                remedy="lower train.learning_rate, or set train.precision to fp32; the checkpoint "
                "before it is kept",
            )
        # The processes' gradients are averaged, and their shares of the loss are to be added up.
        self._scaler.scale(loss * self._world.size).backward()
        return value

    def _gradients(self, synchronised: bool) -> Any:
        if synchronised or not self._world.grouped:
            return torch.enable_grad()
        return self._joined.no_sync()  # type: ignore[operator]

    def _finish_epoch(self) -> None:
        for module in (self._module, self._average):
            self._world.agree(module)
        self._average.eval()
        score = self._score(self._average.module)
        loss = sum(self._world.gather(self._loss)) / self._turns.steps
        rate = float(self._schedule.get_last_lr()[0])
        number = self._epoch + 1
        self._history.epochs.append(
            {"epoch": number, "loss": loss, "validation_macro_map": score, "learning_rate": rate}
        )
        logger.info("train: epoch %d, loss %.4f, validation mAP %.4f", number, loss, score)
        if score > self._history.best_score:
            self._history.best_epoch = self._epoch
            self._best = copy.deepcopy(self._average.module.state_dict())
        self._epoch, self._step, self._loss = number, 0, 0.0
        self._save(number, 0)
        self._show()

    def _show(self) -> None:
        if self._watch and self._world.leads and self._history.epochs:
            self._watch(self._history.epochs)

    def _score(self, module: nn.Module) -> float:
        labels = self._task.validation.labels
        return macro_map(labels, self.scores(module)[:, : labels.shape[1]])

    def _save(self, epoch: int, step: int) -> None:
        state = {
            "history": vars(self._history),
            "loss": self._world.gather(self._loss),
            "random": self._world.gather(_random_state(self._world.device)),
            "module": self._module.state_dict(),
            "average": self._average.state_dict(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        if self._world.leads:
            self._checkpoints.save(epoch, step, state)
        self._saved_at = time.monotonic()

    def _restore(self) -> bool:
        found = self._checkpoints.newest()
        if found is None:
            return False
        state, rank = found.state, self._world.rank
        self._epoch, self._step = found.epoch, found.step
        self._history = History(**state["history"])
        self._module.load_state_dict(state["module"])
        self._average.load_state_dict(state["average"])
        self._best = state["best"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        if len(state["random"]) == self._world.size:
            self._loss = state["loss"][rank]
            _set_random_state(state["random"][rank], self._world.device)
        else:
            self._loss = sum(state["loss"]) / self._world.size
            logger.warning("train: %d processes go on where %d were", self._world.size,
                           len(state["random"]))  # fmt: skip
        logger.info("train: going on in epoch %d, after step %d", self._epoch + 1, self._step)
        return True

    def _begin(self) -> bool:
        """Go on from the newest checkpoint, all from the same one; tell whether there is one."""
        restored = self._restore()
        places = self._world.gather((self._epoch, self._step))
        if len(set(places)) > 1:
            raise InfrastructureError(
                f"the processes found different checkpoints (epochs and steps: {places})",
                remedy="keep checkpoints where all machines see them: a shared folder or a bucket",
            )
        return restored


def outputs(
    module: nn.Module, inputs: Inputs, length: int, settings: TrainSettings, world: World
) -> NDArray[np.float32]:
    """Give a module's outputs [N, G] for N posters; the processes share the work.

    Args:
        module: The module; it is left in evaluation mode.
        inputs: Its inputs.
        length: N.
        settings: Batch size and precision.
        world: The processes.
    """
    module.eval()
    mine = world.share(np.arange(length)).tolist()
    size = settings.batch_size
    turns = [[Turn(row) for row in mine[n : n + size]] for n in range(0, len(mine), size)]
    with torch.no_grad(), autocast(world.device, settings.precision):
        collected = [
            module(batch.to(world.device)).float().cpu().numpy() for batch in inputs.batches(turns)
        ]
    return world.together(np.concatenate(collected), length)


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


_Tensors = list[Tensor] | tuple[Tensor, ...]


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Average exponentially, over few steps at first; a decay of 0 follows the weights."""

    def average(kept: _Tensors, current: _Tensors, updates: Tensor | int) -> None:
        if not kept[0].is_floating_point():
            torch._foreach_copy_(kept, current)
            return
        count = int(updates)
        torch._foreach_lerp_(kept, current, 1 - min(decay, (1 + count) / (10 + count)))

    return average


def _cosine(steps: int, warm_up: float) -> Callable[[int], float]:
    """Rise linearly, then fall along a cosine to zero."""
    warm = max(1, int(warm_up * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return factor
