"""What each strategy makes of the training posters, and what that does to each genre.

All start from one number a poster: the mean over its genres of 1 / sqrt(frequency). The square root
lifts rare genres without making one poster stand for a hundred, and the mean keeps a common genre
(Drama) from riding along with a rare one. `class_weights` multiplies the loss by it, `sampler`
draws posters by it, `oversample` repeats them by it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.balance.posters import DISPUTED
from marquee.settings import BalanceSettings


@dataclass(frozen=True)
class Emphasis:
    """What a strategy gives N training posters and G genres."""

    weights: NDArray[np.float32]
    """How much each poster counts in the loss or the draw [N], mean 1."""
    repeats: NDArray[np.uint8]
    """How often an epoch shows each poster [N]."""
    class_weights: NDArray[np.float32]
    """What a positive label weighs in the loss [G], a negative one being 1."""

    @property
    def counts(self) -> NDArray[np.float64]:
        """How much of an epoch each poster is [N]."""
        return self.weights.astype(np.float64) * self.repeats


def label_weights(statuses: NDArray[np.int8], settings: BalanceSettings) -> NDArray[np.float32]:
    """Say how much each label of training posters counts in the loss.

    Args:
        statuses: [N, G], places in `STATUSES`.
        settings: What to do with disputed labels.

    Returns:
        [N, G] of 0..1.
    """
    disputed = np.isin(statuses, DISPUTED)
    value = {"keep": 1.0, "mask": 0.0, "weigh": settings.disagreement_weight}
    return np.where(disputed, value[settings.disagreement], 1.0).astype(np.float32)


def emphases(
    labels: NDArray[np.int8], counted: NDArray[np.float32], settings: BalanceSettings
) -> dict[str, Emphasis]:
    """Work every strategy out, to choose one and compare it with the others.

    Args:
        labels: Of the training posters [N, G].
        counted: How much each label counts [N, G].
        settings: Caps and seed.

    Returns:
        Strategy to what it gives.
    """
    weights, commonest = _poster_weights(labels, counted, settings.rare_below)
    plain, once = np.ones(len(labels), np.float32), np.ones(len(labels), np.uint8)
    equal = np.ones(labels.shape[1], np.float32)
    mean_one = (weights / weights.mean()).astype(np.float32)
    positive = _class_weights(labels, counted, settings.rare_below)
    repeats = _repeats(weights / commonest, settings)
    return {
        "none": Emphasis(plain, once, equal),
        "class_weights": Emphasis(mean_one, once, positive),
        "sampler": Emphasis(mean_one, once, equal),
        "oversample": Emphasis(plain, repeats, equal),
    }


def _poster_weights(
    labels: NDArray[np.int8], counted: NDArray[np.float32], rare_below: int
) -> tuple[NDArray[np.float64], float]:
    """Give the mean of 1 / sqrt(frequency) of each poster's genres [N], and the commonest's."""
    present = labels * counted
    # A poster all of whose genres are masked is weighed as if none were.
    present = np.where(present.any(axis=1, keepdims=True), present, labels).astype(np.float64)
    frequency = np.maximum(present.mean(axis=0), max(rare_below, 1) / len(labels))
    weights = (present / np.sqrt(frequency)).sum(axis=1) / present.sum(axis=1)
    return weights, float(1 / np.sqrt(frequency.max()))


def _class_weights(
    labels: NDArray[np.int8], counted: NDArray[np.float32], rare_below: int
) -> NDArray[np.float32]:
    """Weigh positives by sqrt(negatives / positives) of each genre [G]."""
    positives = (labels * counted).sum(axis=0)
    negatives = counted.sum(axis=0) - positives
    known = np.maximum(positives, np.float32(max(rare_below, 1)))
    return np.sqrt(negatives.clip(1.0) / known).astype(np.float32)


def _repeats(factors: NDArray[np.float64], settings: BalanceSettings) -> NDArray[np.uint8]:
    """Round factors to whole repeats, up as often as their fractions say, and cap them.

    The idea is that of repeat factor sampling (Gupta, Dollar & Girshick, LVIS: A Dataset for Large
    Vocabulary Instance Segmentation, 2019), with the mean over labels in place of the maximum.
    """
    capped = factors.clip(1, settings.oversample_cap)
    chance = np.random.default_rng(settings.seed).random(len(factors))
    return (np.floor(capped) + (chance < capped % 1)).astype(np.uint8)


def effects(
    labels: NDArray[np.int8],
    counted: NDArray[np.float32],
    emphasis: Emphasis,
    genres: tuple[str, ...],
) -> dict[str, Any]:
    """Measure what a strategy does to each genre in training.

    Args:
        labels: Of the training posters [N, G].
        counted: How much each label counts [N, G].
        emphasis: What the strategy gives.
        genres: The names of the G genres.

    Returns:
        `epoch`, the posters that an epoch shows; `effective`, how many posters that count alike
        would vary as much; and for each genre `share`, the part of its weight in the loss that is
        on posters that have it, `positives`, the weight of those, and `effective`. The effective
        number is Kish's, (sum w)^2 / sum w^2 (L. Kish, Survey Sampling, 1965).
    """
    counts, present = emphasis.counts, counted * labels
    positives = counts @ present
    pull = positives * emphasis.class_weights
    negatives = counts @ counted - positives
    share = pull / np.maximum(pull + negatives, 1e-12)
    effective = _kish(positives, counts**2 @ present**2)
    return {
        "epoch": int(emphasis.repeats.sum()),
        "effective": round(float(_kish(counts.sum(), (counts**2).sum())), 1),
        "genres": {
            genre: {
                "share": round(float(share[g]), 4),
                "positives": round(float(pull[g]), 1),
                "effective": round(float(effective[g]), 1),
            }
            for g, genre in enumerate(genres)
        },
    }


def _kish(total: Any, squares: Any) -> NDArray[np.float64]:
    """Give (sum w)^2 / sum w^2; 0 where there is nothing."""
    return np.divide(total**2, squares, out=np.zeros_like(squares), where=squares > 0)
