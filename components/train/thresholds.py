"""After training: calibrate each genre's probability, and choose from where on it counts."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from marquee.decision import Calibration
from marquee.metrics import Labels

_GRID = np.round(np.arange(0.02, 0.97, 0.01), 2)
_FEWEST = 2
"""With fewer positives or negatives a genre is not calibrated."""
_SCALE_PULL = 20.0
"""How strongly the genres' scales are drawn together: the curvature that it adds to the loss."""
_THRESHOLD_PULL = 200
"""Positives at which labels say as much of a threshold as calibrated probabilities do."""


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> Calibration:
    """Fit Platt scaling on the validation split, the scales drawn to their mean.

    A genre's scale is uncertain where its positives are few, and then leans on the other genres'.
    A genre with next to no positives or negatives, or whose logits do not rise with its label,
    keeps the plain sigmoid.

    Args:
        logits: [N, G].
        labels: [N, G] of zeros and ones.

    Returns:
        The calibration.
    """
    scale, shift = np.ones(labels.shape[1]), np.zeros(labels.shape[1])
    positives = labels.sum(axis=0)
    known = np.flatnonzero(np.minimum(positives, len(labels) - positives) >= _FEWEST)
    if known.size:
        fitted = _fit(logits[:, known].astype(np.float64), labels[:, known])
        rises = fitted[0] > 0
        scale[known[rises]], shift[known[rises]] = fitted[:, rises]
    return Calibration(scale=tuple(scale.tolist()), shift=tuple(shift.tolist()))


def _fit(logits: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Find the scales and shifts [2, K] of K genres with the least logistic loss and pull."""

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, shift = weights.reshape(2, -1)
        scores = logits * scale + shift
        error = expit(scores) - labels
        apart = scale - scale.mean()
        value = (np.logaddexp(0, scores) - labels * scores).sum() + _SCALE_PULL / 2 * apart @ apart
        slope = (error * logits).sum(axis=0) + _SCALE_PULL * apart
        return value, np.concatenate([slope, error.sum(axis=0)])

    start = np.repeat([1.0, 0.0], logits.shape[1])
    found: NDArray[np.float64] = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return found.reshape(2, -1)


def choose_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.float32]
) -> tuple[float, ...]:
    """Choose the thresholds that serve each genre's F1 on the validation split.

    A genre's best threshold on few positives is mostly luck, so it is drawn towards the one that
    would be best if the probabilities were true: t = (n * own + k * promised) / (n + k), n
    positives, k = 200.

    Args:
        probabilities: Calibrated [N, G].
        labels: [N, G] of zeros and ones.

    Returns:
        G thresholds in 0..1.
    """
    return tuple(
        round(_threshold(probabilities[:, g], labels[:, g]), 4) for g in range(labels.shape[1])
    )


def _threshold(probabilities: NDArray[np.float64], labels: NDArray[np.float32]) -> float:
    positives = float(labels.sum())
    promised = _promised(probabilities)
    if not positives:
        return promised
    own = _peak(probabilities, labels)
    return (positives * own + _THRESHOLD_PULL * promised) / (positives + _THRESHOLD_PULL)


def _promised(probabilities: NDArray[np.float64]) -> float:
    """Give half of the best F1 that true probabilities would reach.

    Source: Lipton, Elkan, Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1
    Measure" (2014).
    """
    falling = np.sort(probabilities)[::-1]
    chosen = np.arange(1, len(falling) + 1)
    best = (2 * falling.cumsum() / (chosen + falling.sum())).max()
    return float(best / 2)


def _peak(probabilities: NDArray[np.float64], labels: NDArray[np.float32]) -> float:
    """Find the middle of the highest stretch of the F1 curve, smoothed over its neighbours."""
    chosen = probabilities >= _GRID[:, None]
    curve = 2 * (chosen @ labels) / (chosen.sum(axis=1) + labels.sum())
    smooth = np.convolve(np.pad(curve, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    best = np.flatnonzero(smooth >= smooth.max() - 1e-12)
    return float(_GRID[best[len(best) // 2]])
