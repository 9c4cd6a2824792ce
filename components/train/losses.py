"""What a training minimises, and the labels and weights that go into it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from components.train.data import Regimen, Subset
from components.train.settings import TrainSettings
from marquee.eras import ERAS

UNKNOWN = -1
"""The number of an era that nobody knows."""


@dataclass(frozen=True)
class Batch:
    """What B posters are to be, and how much that counts."""

    labels: Tensor
    """[B, G] in 0..1."""
    weights: Tensor
    """How much each label counts [B, G]: its own weight times its poster's."""
    eras: Tensor
    """Numbers of eras [B]; `UNKNOWN` where there is none."""


class Targets:
    """The labels and weights of the N training posters.

    Args:
        subset: The posters.
        regimen: What the strategy of balancing gives them.
        device: Where batches go.
    """

    def __init__(self, subset: Subset, regimen: Regimen, device: torch.device) -> None:
        numbers = {era: number for number, era in enumerate(ERAS)}
        eras = subset.frame["era"].map(numbers).fillna(UNKNOWN).to_numpy(np.int64)
        self._device = device
        self._labels = torch.from_numpy(subset.labels)
        self._weights = torch.from_numpy(subset.label_weights * regimen.weights[:, None])
        self._eras = torch.from_numpy(eras)
        self.positives = torch.from_numpy(regimen.positives).to(device)
        """What a positive label of each genre counts [G], a negative one being 1."""

    def counted(self, rows: NDArray[np.int64]) -> float:
        """Give how much all labels of some posters count together."""
        return max(float(self._weights[torch.from_numpy(rows)].sum()), 1e-6)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Give the labels and weights of some posters."""
        chosen = torch.from_numpy(rows)
        columns = (self._labels, self._weights, self._eras)
        return Batch(*(column[chosen].to(self._device) for column in columns))


def loss_of(outputs: Tensor, batch: Batch, positives: Tensor, settings: TrainSettings) -> Tensor:
    """Add the losses of all labels, each counting as much as it and its poster do.

    Args:
        outputs: The logits of G genres [B, G], and of the eras beside them if they are predicted.
        batch: Labels and weights.
        positives: What a positive label of each genre counts [G].
        settings: The kind of loss.

    Returns:
        A scalar: the sum over posters and labels. Eras, if predicted, count `era_weight` times as
        much as a poster's genres together.
    """
    genres = batch.labels.shape[1]
    smoothing = settings.label_smoothing
    labels = batch.labels * (1 - smoothing) + smoothing / 2
    positives = positives**settings.positive_power
    losses = LOSSES[settings.loss](outputs[:, :genres], labels, positives, settings)
    total = (losses * batch.weights).sum()
    if settings.era_weight:
        eras = F.cross_entropy(
            outputs[:, genres:], batch.eras, ignore_index=UNKNOWN, reduction="sum"
        )
        total = total + settings.era_weight * genres * eras
    return total


def _cross_entropy(
    logits: Tensor, labels: Tensor, positives: Tensor, settings: TrainSettings
) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=positives, reduction="none"
    )


def _asymmetric(
    logits: Tensor, labels: Tensor, positives: Tensor, settings: TrainSettings
) -> Tensor:
    """Let easy negatives count little: many of them are labels that somebody forgot.

    The asymmetric loss (T. Ridnik et al., Asymmetric Loss For Multi-Label Classification, 2021):
    a positive costs -(1 - p)^g+ log p; a negative -q^g- log(1 - q), q = max(p - clip, 0).
    """
    chances = torch.sigmoid(logits)
    shifted = (chances - settings.asymmetric_clip).clamp(min=0)
    positive = (1 - chances) ** settings.gamma_positive * F.logsigmoid(logits)
    negative = shifted**settings.gamma_negative * torch.log((1 - shifted).clamp(min=1e-8))
    return -(labels * positives * positive + (1 - labels) * negative)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, TrainSettings], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "asymmetric": _asymmetric,
}
"""By the names of `TrainSettings.loss`: from logits and labels [B, G] to losses [B, G]."""


def mix(
    inputs: Tensor, batch: Batch, alpha: float, random: np.random.Generator
) -> tuple[Tensor, Batch]:
    """Blend each poster with another of its batch (H. Zhang et al., mixup, 2018).

    Args:
        inputs: [B, ...].
        batch: Its labels and weights.
        alpha: The share of a poster is drawn from Beta(alpha, alpha).
        random: Where chance comes from.

    Returns:
        The blended inputs, labels and weights; a blended poster has no era.
    """
    share = float(random.beta(alpha, alpha))
    other = torch.from_numpy(random.permutation(len(inputs))).to(inputs.device)

    def blend(values: Tensor) -> Tensor:
        values = values.float()
        return share * values + (1 - share) * values[other]

    eras = torch.full_like(batch.eras, UNKNOWN)
    weights = blend(batch.weights)
    # A label that does not count must not colour the one that it is blended with.
    labels = blend(batch.labels * batch.weights) / weights.clamp(min=1e-12)
    return blend(inputs), Batch(labels, weights, eras)
