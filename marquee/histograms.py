"""Histograms of values in 0..1, compared and resampled: drift and rollouts are judged by them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]
"""Counts [..., bins] of equal bins over 0..1; any leading axes."""


def bins_of(values: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """Tell into which of equal bins over 0..1 values fall; what lies outside is in the end bins."""
    return np.clip((np.asarray(values) * bins).astype(np.int64), 0, bins - 1)


def coarsen(counts: Counts, bins: int) -> Counts:
    """Join neighbouring bins.

    Args:
        counts: [..., n * bins].
        bins: How many there are to be.
    """
    return counts.reshape(*counts.shape[:-1], bins, -1).sum(axis=-1)


def mean(counts: Counts) -> NDArray[np.float64]:
    """Give the means of histograms [...]; NaN of empty ones."""
    middles = (np.arange(counts.shape[-1]) + 0.5) / counts.shape[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((counts @ middles) / counts.sum(axis=-1))


def deviation(counts: Counts) -> NDArray[np.float64]:
    """Give the standard deviations of histograms [...]; NaN of empty ones."""
    middles = (np.arange(counts.shape[-1]) + 0.5) / counts.shape[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (counts @ middles**2) / counts.sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(squares - mean(counts) ** 2, 0.0)))


def cumulated(counts: Counts) -> NDArray[np.float64]:
    """Give the distribution functions of histograms at the bins' upper ends [..., bins]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.cumsum(counts, axis=-1) / counts.sum(axis=-1, keepdims=True))


def wasserstein(first: Counts, second: Counts) -> NDArray[np.float64]:
    """Give the Wasserstein-1 distances of histograms [...]: the area between their distributions.

    It is how far values had to move on average, in 0..1, to turn one into the other.
    """
    area = np.abs(cumulated(first) - cumulated(second)).sum(axis=-1)
    return np.asarray(area / first.shape[-1])


def kolmogorov(first: Counts, second: Counts) -> NDArray[np.float64]:
    """Give the greatest distances of the distribution functions of histograms [...]."""
    return np.asarray(np.abs(cumulated(first) - cumulated(second)).max(axis=-1))


def resample(counts: Counts, times: int, random: np.random.Generator) -> Counts:
    """Draw histograms of as many values again (the bootstrap of binned values).

    Args:
        counts: [..., bins], none of them empty.
        times: How often.
        random: Where chance comes from.

    Returns:
        [times, ..., bins].
    """
    totals = counts.sum(axis=-1)
    shares = counts / totals[..., np.newaxis]
    return random.multinomial(totals, shares, size=(times, *totals.shape))
