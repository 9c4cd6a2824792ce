"""How well scores rank posters by genre, whatever became frequent meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.statistics import average_precision
from monitoring.temporal.trends import Interval

RESAMPLES = 300
FEWEST_TESTED = 50
"""An era of fewer test films is said to be too few."""
FEWEST_POSITIVES = 10
"""A genre that fewer films of a slice have tells nothing of it."""

_Z = 1.96

Labels = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Figures of some films, averaged over genres; each in 0..1, with its 95 % interval."""

    films: int
    precision: Interval
    """Average precision (macro mAP), with genres as frequent as they are among these films."""
    prevalence: float
    """What the same would be without looking: the mean share of films with a genre."""
    fixed_precision: Interval
    """Average precision, were each genre as frequent as on the films of all slices together."""
    area: Interval
    """Area under the ROC curve: how often a film with a genre is ranked above one without. .5 is
    guessing, and how frequent genres are plays no part."""


def frequent_genres(labels: Labels, slices: Sequence[NDArray[np.int64]]) -> list[int]:
    """Give the genres that enough films of every slice have, and enough do not.

    Args:
        labels: [N, G].
        slices: Row numbers of each slice.

    Returns:
        Their numbers, rising; none without slices.
    """
    if not slices:
        return []
    having = np.array([labels[rows].sum(axis=0) for rows in slices])
    sizes = np.array([[len(rows)] for rows in slices])
    fewest = np.minimum(having, sizes - having).min(axis=0)
    return [int(g) for g in np.flatnonzero(fewest >= FEWEST_POSITIVES)]


def resampled_areas(labels: Labels, scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Give the macro area under the ROC curve of films, and of `RESAMPLES` resamples of them.

    The same seed and number of films give the same resamples: the differences between two models'
    areas on the same films are those of a paired bootstrap.

    Args:
        labels: [n, G].
        scores: [n, G].
        seed: Chooses the resamples.

    Returns:
        [1 + RESAMPLES], the first of the films as they are.
    """
    weights = _weights(len(labels), seed)
    areas = [_area(*_sides(labels[:, g], scores[:, g], weights)) for g in range(labels.shape[1])]
    return np.asarray(np.nanmean(areas, axis=0))


def rank(
    labels: Labels, scores: NDArray[np.float64], prior: NDArray[np.float64], seed: int
) -> Ranking:
    """Judge scores.

    Args:
        labels: [n, G]; of each genre there are films with it and without.
        scores: [n, G], higher for more likely.
        prior: How frequent each genre is to be for `fixed_precision` [G].
        seed: Chooses the resamples of the bootstrap, by film.

    Returns:
        The figures.
    """
    weights = _weights(len(labels), seed)
    precisions, fixed, areas = [], [], []
    for g in range(labels.shape[1]):
        negative, positive = _sides(labels[:, g], scores[:, g], weights)
        own = positive.sum(axis=1) / weights.sum(axis=1)
        precisions.append(average_precision(negative, positive, own))
        fixed.append(average_precision(negative, positive, prior[g]))
        areas.append(_area(negative, positive))
    return Ranking(
        films=len(labels),
        precision=interval(np.nanmean(precisions, axis=0)),
        prevalence=float(labels.mean()),
        fixed_precision=interval(np.nanmean(fixed, axis=0)),
        area=interval(np.nanmean(areas, axis=0)),
    )


def interval(values: NDArray[np.float64]) -> Interval:
    """Give the first value with its normal interval, whose width is the spread of the others.

    Percentiles would lie too high: a film that is drawn twice lifts an average precision.
    """
    half = _Z * float(np.nanstd(values[1:], ddof=1))
    value = float(values[0])
    return value, value - half, value + half


def _weights(films: int, seed: int) -> NDArray[np.float64]:
    """Tell how often each film counts [1 + RESAMPLES, n]: once, and then as chance has it."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(films, np.full(films, 1 / films), size=RESAMPLES)
    return np.concatenate([np.ones((1, films)), drawn])


def _sides(
    labels: Labels, scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count films without and with a genre by score, one bin a distinct score, rising [R, B]."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, having = weights[:, order], labels[order].astype(np.float64)
    negative, positive = (
        np.add.reduceat(ordered * side, starts, axis=1) for side in (1 - having, having)
    )
    return negative, positive


def _area(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = negative.sum(axis=1) * positive.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positive * below).sum(axis=1) / pairs)
