"""The tests behind drift, on counts alone: effects with intervals, and p-values.

All of them take arrays with any leading axes, so that hundreds of slices cost no more than one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2_contingency, kstwobign, norm
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from marquee.histograms import kolmogorov, resample, wasserstein

Array = NDArray[Any]
RESAMPLES = 200
_SIDE = 0.025
"""What an interval leaves out on either side: it is one of 95 %."""
_Z = float(norm.ppf(1 - _SIDE))
_MEDIAN = float(np.sqrt(np.pi / 2))
"""How many times the standard error of a mean that of a median is."""
_ROUNDS = 25
"""Newton's steps: it has converged long before."""
_RIDGE = 1e-3
"""Keeps a slope finite where a few posters are told apart without fault."""


class Estimate(NamedTuple):
    """How far something moved: arrays of one shape."""

    effect: Array
    low: Array
    high: Array
    p: Array
    """The chance to see as much if nothing moved (0..1)."""

    def scaled(self, factor: float) -> "Estimate":
        """Give it in another unit."""
        return Estimate(self.effect * factor, self.low * factor, self.high * factor, self.p)


def _single(effect: float, spread: float, p: float) -> Estimate:
    """Make an estimate of one number."""
    values = (effect, effect - spread, effect + spread, p)
    return Estimate(*(np.array(value) for value in values))


def moved(reference: Array, window: Array, random: np.random.Generator) -> Estimate:
    """Tell how far distributions have moved.

    Args:
        reference: Histograms [..., B], none of them empty.
        window: Histograms [..., B], none of them empty.
        random: Where chance comes from.

    Returns:
        Wasserstein-1 distances (0..1 of the histograms' width), corrected for what chance adds,
        with intervals from a bootstrap; p of the two-sample Kolmogorov-Smirnov test, which is
        cautious with binned values.
    """
    n, m = reference.sum(axis=-1), window.sum(axis=-1)
    distance = wasserstein(reference, window)
    again = wasserstein(resample(reference, RESAMPLES, random), resample(window, RESAMPLES, random))
    bias = again.mean(axis=0) - distance
    effect = np.maximum(distance - bias, 0.0)
    spread = _Z * again.std(axis=0, ddof=1)
    p = kstwobign.sf(kolmogorov(reference, window) * np.sqrt(n * m / (n + m)))
    return Estimate(effect, np.maximum(effect - spread, 0.0), effect + spread, p)


def turned(reference: Array, window: Array, random: np.random.Generator) -> Estimate:
    """Tell how far a distribution on a circle has moved, such as that of hues.

    The circle is cut where both have least for a stretch.

    Args:
        reference: A histogram [B].
        window: Another [B].
        random: Where chance comes from.
    """
    bins = len(reference)
    both = reference / reference.sum() + window / window.sum()
    stretch = max(1, bins // 10)
    near = np.convolve(np.concatenate([both, both[: stretch - 1]]), np.ones(stretch), "valid")
    cut = int(near.argmin()) + stretch // 2
    return moved(np.roll(reference, -cut), np.roll(window, -cut), random)


def shares(k: ArrayLike, n: ArrayLike, j: ArrayLike, m: ArrayLike) -> Estimate:
    """Compare shares.

    Args:
        k: How many of the reference have something.
        n: Of how many.
        j: How many of the window have it.
        m: Of how many.

    Returns:
        Differences (window less reference), with intervals of Agresti and Caffo; p of the pooled
        two-sample z-test.
    """
    k, n, j, m = (np.asarray(value, dtype=float) for value in (k, n, j, m))
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = (k + j) / (n + m)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        effect = j / m - k / n
        p = np.where(error > 0, 2 * norm.sf(np.abs(effect) / error), 1.0)
    first, second = (k + 1) / (n + 2), (j + 1) / (m + 2)
    spread = _Z * np.sqrt(first * (1 - first) / (n + 2) + second * (1 - second) / (m + 2))
    return Estimate(effect, second - first - spread, second - first + spread, p)


def mix(reference: Array, window: Array, random: np.random.Generator) -> Estimate:
    """Compare mixes of kinds.

    Args:
        reference: Counts [K].
        window: Counts [K].
        random: Where chance comes from.

    Returns:
        The total variation distance (0..1: the share that changed places), corrected for what
        chance adds, with an interval from a bootstrap; p of the chi-squared test.
    """
    there = (reference + window) > 0
    table = np.stack([reference[there], window[there]])
    distance = _variation(*table)
    again = _variation(*(resample(side, RESAMPLES, random) for side in table))
    effect = max(float(2 * distance - again.mean()), 0.0)
    spread = _Z * float(again.std(ddof=1))
    p = chi2_contingency(table).pvalue if there.sum() > 1 else 1.0
    return _single(effect, spread, p)


def _variation(first: Array, second: Array) -> Array:
    one, other = (counts / counts.sum(axis=-1, keepdims=True) for counts in (first, second))
    return np.asarray(np.abs(one - other).sum(axis=-1) / 2)


def average_precision(negative: Array, positive: Array, prior: Array) -> Array:
    """Compute average precisions from histograms of scores, with the share of positives given.

    With the prior held fixed the figure tells how well a model ranks, whatever came to be frequent.

    Args:
        negative: Scores of posters without the genre [..., B].
        positive: Scores of those with it [..., B].
        prior: The share of posters with it [...], in 0..1.

    Returns:
        [...] in 0..1; NaN where there are none of either.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        hits, false = (
            np.cumsum(side[..., ::-1] / side.sum(axis=-1, keepdims=True), axis=-1)
            for side in (positive, negative)
        )
        share = np.asarray(prior)[..., np.newaxis]
        precision = share * hits / (share * hits + (1 - share) * false)
    gained = np.diff(hits, axis=-1, prepend=0.0)
    undefined = np.isnan(hits[..., -1]) | np.isnan(false[..., -1])
    return np.where(undefined, np.nan, np.nansum(precision * gained, axis=-1))


def changed(
    figure: Callable[[Array, Array], Array],
    reference: tuple[Array, Array],
    window: tuple[Array, Array],
    random: np.random.Generator,
) -> Estimate:
    """Tell how far a figure of two histograms has changed.

    Args:
        figure: Gives the figure of negative and positive scores [..., B].
        reference: Negative and positive scores [..., B].
        window: The same.
        random: Where chance comes from.

    Returns:
        Differences (window less reference), with intervals from a bootstrap; p of a z-test with
        the bootstrap's spread.
    """
    effect = figure(*window) - figure(*reference)
    again = figure(*(resample(side, RESAMPLES, random) for side in window)) - figure(
        *(resample(side, RESAMPLES, random) for side in reference)
    )
    spread = again.std(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(spread > 0, 2 * norm.sf(np.abs(effect) / spread), 1.0)
    return Estimate(effect, effect - _Z * spread, effect + _Z * spread, p)


def slopes(negative: Array, positive: Array) -> tuple[Array, Array]:
    """Fit how steeply the odds of a genre rise with the odds that a model gives it.

    A logistic regression of the labels on the scores' logits: 1 means calibrated but for a shift,
    less that the model is too sure of itself, more that it is not sure enough. A change in how
    frequent a genre is moves the shift alone.

    Source: D. R. Cox, "Two further applications of a model for binary regression" (1958).

    Args:
        negative: Scores of posters without the genre [..., B].
        positive: Scores of those with it [..., B].

    Returns:
        The natural logarithms of the slopes, and their standard errors [...]; NaN where scores do
        not rise with labels at all.
    """
    bins = negative.shape[-1]
    middles = (np.arange(bins) + 0.5) / bins
    x = np.log(middles / (1 - middles))
    trials = negative + positive
    shift, slope = np.zeros(trials.shape[:-1]), np.ones(trials.shape[:-1])
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-(shift[..., np.newaxis] + slope[..., np.newaxis] * x)))
        weight = trials * p * (1 - p)
        residual = positive - trials * p
        a, b, c = weight.sum(-1) + _RIDGE, (weight * x).sum(-1), (weight * x * x).sum(-1) + _RIDGE
        u, v = residual.sum(-1), (residual * x).sum(-1) - _RIDGE * (slope - 1)
        determinant = a * c - b * b
        shift = shift + np.clip((c * u - b * v) / determinant, -2, 2)
        slope = slope + np.clip((a * v - b * u) / determinant, -1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(a / determinant)
        return np.log(slope), error / slope


def told_apart(reference: Array, window: Array, seed: int) -> Estimate:
    """Tell how well a linear classifier tells embeddings of a window from those of a reference.

    Half of each trains it, the other half tests it.

    Args:
        reference: [n, D].
        window: [m, D].
        seed: Chooses the halves.

    Returns:
        The area under its ROC curve less .5 (0: not at all, .5: always), with an interval after
        Hanley and McNeil; p of a z-test.
    """
    random = np.random.default_rng(seed)
    halves = [np.array_split(random.permutation(side), 2) for side in (reference, window)]
    (train_0, test_0), (train_1, test_1) = halves
    scale = StandardScaler().fit(np.concatenate([train_0, train_1]))
    classifier = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200)
    classifier.fit(
        scale.transform(np.concatenate([train_0, train_1])),
        np.repeat([0, 1], [len(train_0), len(train_1)]),
    )
    scores = [classifier.decision_function(scale.transform(side)) for side in (test_0, test_1)]
    area = _area(*scores)
    n, m = len(test_0), len(test_1)
    spread = _Z * _area_error(area, m, n)
    p = float(norm.sf((area - 0.5) / _area_error(0.5, m, n)))
    return _single(area - 0.5, spread, p)


def agreed(gains: Array, errors: Array) -> Estimate:
    """Tell what most of several estimates of the same thing say.

    Args:
        gains: [K]; those that are not finite do not count.
        errors: Their standard errors [K].

    Returns:
        The median by weight, which one of them that differs does not move; its interval, and p of a
        z-test, as if they were normal. NaN without any.
    """
    usable = np.isfinite(gains) & np.isfinite(errors) & (errors > 0)
    if not usable.any():
        return _single(float("nan"), float("nan"), float("nan"))
    order = np.argsort(gains[usable])
    weights = (1 / errors[usable] ** 2)[order]
    middle = np.searchsorted(np.cumsum(weights), weights.sum() / 2)
    effect = float(gains[usable][order][middle])
    error = _MEDIAN / float(np.sqrt(weights.sum()))
    return _single(effect, _Z * error, float(2 * norm.sf(abs(effect) / error)))


def _area(negative: Array, positive: Array) -> float:
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    up_to = np.searchsorted(ordered, positive, side="right")
    return float((below + up_to).mean() / 2 / len(negative))


def _area_error(area: float, positives: int, negatives: int) -> float:
    """Give the standard error of an area under a ROC curve (Hanley and McNeil, 1982)."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (one - area**2)
    variance += (negatives - 1) * (two - area**2)
    return float(np.sqrt(variance / (positives * negatives)))
