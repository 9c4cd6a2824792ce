"""The training loop: plain PyTorch, the same for a whole network and for a head on features."""

import copy
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from components.train.device import autocast
from components.train.settings import TrainSettings
from marquee.errors import InfrastructureError
from marquee.metrics import macro_map

logger = logging.getLogger(__name__)

_WARM_UP = 0.1
"""Share of all steps over which the learning rate rises."""
_CLIP = 1.0
"""Largest norm of a step's gradient."""


@dataclass(frozen=True)
class Batch:
    """Inputs of B posters with labels [B, G], label weights [B, G] and poster weights [B]."""

    inputs: Tensor
    labels: Tensor
    label_weights: Tensor
    weights: Tensor


@dataclass
class History:
    """What happened in each epoch; the learning curves."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def weighted_loss(
    logits: Tensor, batch: Batch, positives: Tensor, label_smoothing: float
) -> Tensor:
    """Binary cross-entropy, each label counting as much as it and its poster do.

    Args:
        logits: [B, G].
        batch: Labels and weights.
        positives: Weight of each genre's positives [G].
        label_smoothing: Share of certainty taken from the labels.

    Returns:
        A scalar.
    """
    labels = batch.labels * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=positives, reduction="none"
    )
    counted = batch.label_weights * batch.weights[:, None]
    return (losses * counted).sum() / counted.sum().clamp(min=1e-6)


def fit(
    module: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    steps_per_epoch: int,
    score_validation: Callable[[nn.Module], NDArray[np.float32]],
    validation_labels: NDArray[np.float32],
    positives: Tensor,
    settings: TrainSettings,
) -> History:
    """Train until the validation mAP stops rising, and keep the best weights.

    Args:
        module: Maps a batch's inputs to logits; holds the best weights afterwards.
        batches: Gives the batches of an epoch.
        steps_per_epoch: How many those are.
        score_validation: Gives the logits [N, G] of the validation split by a module like this one.
        validation_labels: [N, G].
        positives: Weight of each genre's positives [G].
        settings: Epochs, patience, learning rate and so on.

    Returns:
        The learning curves.

    Raises:
        InfrastructureError: The loss is no longer a number.
    """
    device = next(module.parameters()).device
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        _parameter_groups(trainable, settings.weight_decay), lr=settings.learning_rate
    )
    average = AveragedModel(module, avg_fn=_moving_average(settings.ema), use_buffers=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, _cosine(settings.epochs * steps_per_epoch)
    )
    positives = positives.to(device)
    history = History()
    best_score, best_state = -math.inf, copy.deepcopy(module.state_dict())
    for epoch in range(settings.epochs):
        module.train()
        total = 0.0
        for batch in batches(epoch):
            with autocast(device, settings.precision):
                logits = module(batch.inputs)
            loss = weighted_loss(logits.float(), batch, positives, settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trainable, _CLIP)
            optimizer.step()
            schedule.step()
            average.update_parameters(module)
            total += loss.item()
        average.eval()
        score = macro_map(validation_labels, score_validation(average.module))
        _record(history, epoch, total / steps_per_epoch, score, float(schedule.get_last_lr()[0]))
        if score > best_score:
            best_score, best_state = score, copy.deepcopy(average.module.state_dict())
            history.best_epoch = epoch
        elif epoch - history.best_epoch >= settings.patience:
            logger.info("train: no better validation mAP for %d epochs", settings.patience)
            break
    module.load_state_dict(best_state)
    module.eval()
    return history


def _parameter_groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels; biases and normalisation are left alone."""
    return [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": decay},
        {"params": [item for item in parameters if item.ndim <= 1], "weight_decay": 0.0},
    ]


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Average exponentially, over few steps at first; a decay of 0 follows the weights."""

    def average(kept: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not kept.is_floating_point():
            return current
        count = int(updates)
        return torch.lerp(current, kept, min(decay, (1 + count) / (10 + count)))

    return average


def _record(history: History, epoch: int, loss: float, score: float, rate: float) -> None:
    if not math.isfinite(loss):
        raise InfrastructureError(
            f"the loss is {loss} in epoch {epoch + 1}",
            remedy="lower train.learning_rate, or set train.precision to fp32",
        )
    history.epochs.append(
        {"epoch": epoch + 1, "loss": loss, "validation_macro_map": score, "learning_rate": rate}
    )
    logger.info("train: epoch %d, loss %.4f, validation mAP %.4f", epoch + 1, loss, score)


def _cosine(steps: int) -> Callable[[int], float]:
    """Rise linearly, then fall along a cosine to zero."""
    warm = max(1, int(_WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return factor
