"""From a model's logits to genres: calibration, thresholds, and the flag `unsure`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """Platt scaling a genre: probability = sigmoid(scale * logit + shift).

    Source: J. Platt, "Probabilistic outputs for support vector machines" (1999).
    """

    scale: tuple[float, ...]
    """G factors."""
    shift: tuple[float, ...]
    """G summands."""

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Turn logits [N, G] into probabilities [N, G] in 0..1."""
        scores = logits.astype(np.float64) * np.array(self.scale) + np.array(self.shift)
        return 0.5 * (1 + np.tanh(scores / 2))


def decide(
    probabilities: NDArray[Any], thresholds: NDArray[Any] | tuple[float, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose each poster's genres; a poster always gets one.

    Args:
        probabilities: [N, G] in 0..1.
        thresholds: G values in 0..1.

    Returns:
        Which genres are chosen [N, G], and whether the choice is unsure [N]: no probability
        reached its threshold, so the most probable genre stands in.
    """
    chosen: NDArray[np.bool_] = np.asarray(probabilities >= np.asarray(thresholds))
    unsure: NDArray[np.bool_] = np.logical_not(np.any(chosen, axis=1))
    chosen[unsure, probabilities[unsure].argmax(axis=1)] = True
    return chosen, unsure
