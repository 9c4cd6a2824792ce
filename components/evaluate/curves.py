"""Curves of the report: few enough points to draw, taken from all posters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from marquee.metrics import BINS, precision_by_coverage

_RECALLS = np.linspace(0.025, 1, 40)
_SHARES = np.linspace(0.02, 1, 50)

Points = list[list[float]]
"""Pairs of x and y."""


def precision_recall(labels: NDArray[Any], scores: NDArray[Any]) -> Points:
    """Give one genre's precision at rising recall.

    Args:
        labels: [N] of zeros and ones.
        scores: [N].

    Returns:
        Pairs of recall and precision, each at the highest threshold that reaches the recall; none
        if no poster has the genre.
    """
    if not labels.any():
        return []
    precision, recall, _ = precision_recall_curve(labels, scores)
    # From the highest threshold down; the first point has no poster at all.
    precision, recall = precision[-2::-1], recall[-2::-1]
    places = np.searchsorted(recall, _RECALLS - 1e-9)
    return _pairs(recall[places], precision[places])


def reliability(labels: NDArray[Any], probabilities: NDArray[Any]) -> list[dict[str, float]]:
    """Compare probabilities with what came true, over all genres together.

    Args:
        labels: [N, G] of zeros and ones.
        probabilities: [N, G] in 0..1.

    Returns:
        For each of `BINS` equal bins in which a probability falls: the mean probability, the share
        that came true, and how many there are.
    """
    flat, came_true = probabilities.ravel(), labels.ravel()
    bins = np.minimum((flat * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    said, true = (np.bincount(bins, weights=values, minlength=BINS) for values in (flat, came_true))
    return [
        {
            "probability": round(float(said[n] / counts[n]), 5),
            "came_true": round(float(true[n] / counts[n]), 5),
            "count": int(counts[n]),
        }
        for n in np.flatnonzero(counts)
    ]


def coverage_curve(labels: NDArray[Any], probabilities: NDArray[Any]) -> Points:
    """Give the top-1 precision while less and less certain posters are added.

    Args:
        labels: [N, G] of zeros and ones.
        probabilities: [N, G] in 0..1.

    Returns:
        Pairs of the share of the posters and the precision among them.
    """
    shares, precisions = precision_by_coverage(labels, probabilities)
    places = np.unique(np.searchsorted(shares, _SHARES - 1e-9))
    return _pairs(shares[places], precisions[places])


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    return np.round(np.stack([x, y], axis=1), 5).tolist()
