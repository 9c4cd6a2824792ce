"""After training: calibrate each genre's probability, and choose from where on it counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from marquee.decision import Calibration

_GRID = np.round(np.arange(0.05, 0.96, 0.01), 2)
_SHRINKAGE = 50
"""Positives at which a genre's own threshold counts as much as the common one."""
_FEWEST = 5
"""With fewer positives or negatives a genre is not calibrated."""


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> Calibration:
    """Fit Platt scaling on the validation split.

    A genre with next to no positives or negatives, or whose logits do not rise with its label,
    keeps the plain sigmoid.

    Args:
        logits: [N, G].
        labels: [N, G] of zeros and ones.

    Returns:
        The calibration.
    """
    pairs = [_platt(logits[:, g], labels[:, g]) for g in range(labels.shape[1])]
    scale, shift = zip(*pairs, strict=True)
    return Calibration(scale=tuple(scale), shift=tuple(shift))


def _platt(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> tuple[float, float]:
    positives = labels.sum()
    if min(positives, len(labels) - positives) < _FEWEST:
        return 1.0, 0.0
    fitted = LogisticRegression(C=10.0).fit(logits[:, None].astype(np.float64), labels)
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (scale, shift) if scale > 0 else (1.0, 0.0)


def choose_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.float32]
) -> tuple[float, ...]:
    """Choose the thresholds that serve F1 on the validation split.

    A genre's best threshold on few positives is mostly luck, so it is drawn towards the one that
    serves all genres together: t = (n * own + k * common) / (n + k), n positives, k = 50.

    Args:
        probabilities: Calibrated [N, G].
        labels: [N, G] of zeros and ones.

    Returns:
        G thresholds in 0..1.
    """
    genres = [g for g in range(labels.shape[1]) if labels[:, g].any()]
    curves = np.array([_f1_curve(probabilities[:, g], labels[:, g]) for g in genres])
    common = _peak(curves.mean(axis=0)) if genres else 0.5
    own = dict(zip(genres, (_peak(curve) for curve in curves), strict=True))
    return tuple(
        round(_shrunk(own.get(g, common), common, float(labels[:, g].sum())), 4)
        for g in range(labels.shape[1])
    )


def _shrunk(own: float, common: float, positives: float) -> float:
    return (positives * own + _SHRINKAGE * common) / (positives + _SHRINKAGE)


def _f1_curve(probabilities: NDArray[np.float64], labels: NDArray[np.float32]) -> list[float]:
    return [float(f1_score(labels, probabilities >= t, zero_division=0)) for t in _GRID]


def _peak(curve: Sequence[float] | NDArray[np.float64]) -> float:
    """Find the middle of the highest stretch, after smoothing over its neighbours."""
    smooth = np.convolve(np.pad(curve, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    best = np.flatnonzero(smooth >= smooth.max() - 1e-12)
    return float(_GRID[best[len(best) // 2]])
