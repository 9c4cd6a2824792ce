"""Means and shares by era and decade, and how steadily something rose or fell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm, spearmanr

from monitoring.temporal.films import FEWEST

Array = NDArray[np.float64]
Interval = tuple[float, float, float]
"""A value, and the ends of its 95 % interval."""

FALSE_ALARM = 0.05
SMALL = 0.05
"""A rank correlation below it is hardly a trend, however sure it is."""

_Z = float(norm.ppf(0.975))
_OWN = 0.05
"""What is held fixed leaves this part of the years' variance at least, or nothing can be told."""
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How something changed over the years."""

    name: str
    films: int
    slope: Interval
    """Change a decade, in the unit of what was measured."""
    standard: Interval
    """The same in standard deviations."""
    rank: Interval
    """Spearman's rank correlation with the year (-1..1)."""
    p: float
    """The chance to see as much without any trend; see `judge` (0..1)."""
    held: Interval | None
    """`standard` with genres and sources held fixed; None if they tell the year by themselves."""
    direction: str = "unclear"
    """`rises`, `falls`, `hardly` (sure, but too small to matter) or `unclear` (may be chance)."""

    @property
    def holds(self) -> bool:
        """Whether it is there with genres and sources held fixed, too."""
        if self.held is None:
            return False
        value, low, high = self.held
        return low * high > 0 and value * self.slope[0] > 0


def trend(name: str, values: Array, years: NDArray[np.int64], fixed: Array) -> Trend | None:
    """Fit a straight line through the years.

    The interval of the slope is the one that stays right if films scatter more in some years than
    in others: J. MacKinnon and H. White, "Some heteroskedasticity-consistent covariance matrix
    estimators" (1985), HC1. That of the rank correlation is of D. Bonett and T. Wright, "Sample
    size requirements for estimating Pearson, Kendall and Spearman correlations" (2000).

    Args:
        name: What was measured.
        values: Of films [N].
        years: Their release years [N].
        fixed: What else is known of them and may explain the change [N, K].

    Returns:
        The trend; None if there are too few films, or nothing varies.
    """
    spread = float(values.std()) if len(values) else 0.0
    if len(values) < FEWEST or spread <= _ROUNDING or years.min() == years.max():
        return None
    decades = years / 10
    slope, error = _slope(values, decades, np.ones((len(values), 1)))
    rank = float(spearmanr(values, years).statistic)
    half = _Z * np.sqrt((1 + rank**2 / 2) / (len(values) - 3))
    ends = np.tanh(np.arctanh(np.clip(rank, -1 + 1e-9, 1 - 1e-9)) + np.array([-half, half]))
    constant = np.column_stack([np.ones(len(values)), fixed])
    own = decades - constant @ np.linalg.lstsq(constant, decades, rcond=None)[0]
    held = None
    if own.var() >= _OWN * decades.var():
        held = _interval(*_slope(values, decades, constant), 1 / spread)
    return Trend(
        name=name,
        films=len(values),
        slope=_interval(slope, error),
        standard=_interval(slope, error, 1 / spread),
        rank=(rank, float(ends[0]), float(ends[1])),
        p=float(2 * norm.sf(abs(slope) / error)) if error > 0 else 0.0,
        held=held,
    )


def _slope(values: Array, x: Array, constant: Array) -> tuple[float, float]:
    """Give the slope along x, what the columns of `constant` explain taken out, and its error."""
    rest, of_x = (
        column - constant @ np.linalg.lstsq(constant, column, rcond=None)[0]
        for column in (values, x)
    )
    slope = float(of_x @ rest / (of_x @ of_x))
    noise = rest - slope * of_x
    freedom = len(x) / max(len(x) - constant.shape[1] - 1, 1)
    error = float(np.sqrt(freedom * (of_x**2 @ noise**2)) / (of_x @ of_x))
    return slope, error


def _interval(value: float, error: float, factor: float = 1.0) -> Interval:
    return (factor * value, factor * (value - _Z * error), factor * (value + _Z * error))


def judge(trends: Sequence[Trend]) -> list[Trend]:
    """Tell which trends are more than chance and more than small.

    Args:
        trends: All that were looked at together. Their chances are corrected for how many there
            are: Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate" (1995).

    Returns:
        The same, with a direction and the corrected p.
    """
    if not trends:
        return []
    chances = false_discovery_control([trend.p for trend in trends])
    return [
        replace(trend, p=float(p), direction=_direction(trend, p))
        for trend, p in zip(trends, chances, strict=True)
    ]


def _direction(trend: Trend, p: float) -> str:
    # A slope and a rank correlation of opposite signs are no steady trend.
    if p >= FALSE_ALARM or trend.slope[0] * trend.rank[0] <= 0:
        return "unclear"
    if abs(trend.rank[0]) < SMALL:
        return "hardly"
    return "rises" if trend.slope[0] > 0 else "falls"


def strongest(trends: Sequence[Trend]) -> list[Trend]:
    """Give the trends that are clear, the strongest first."""
    clear = [trend for trend in trends if trend.direction in ("rises", "falls")]
    return sorted(clear, key=lambda trend: -abs(trend.rank[0]))


def mean(values: Array) -> Interval | None:
    """Give the mean of films [N] and its normal interval; None if they are too few."""
    if len(values) < FEWEST:
        return None
    return _interval(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def share(having: NDArray[np.int8]) -> Interval | None:
    """Give the share of films [N] that have something.

    Its interval is of E. Wilson, "Probable inference, the law of succession, and statistical
    inference" (1927).

    Args:
        having: Zeros and ones [N].

    Returns:
        The share (0..1); None if the films are too few.
    """
    n = len(having)
    if n < FEWEST:
        return None
    part = float(having.mean())
    middle = (part + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(part * (1 - part) / n + _Z**2 / (4 * n**2)))
    return part, max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True, kw_only=True)
class Hue:
    """The mean hue of films, around the circle."""

    degrees: float
    """0..360: 0 is red, 120 green, 240 blue."""
    half: float | None
    """Half the 95 % interval in degrees; None if hues point nowhere in particular."""
    agreement: float
    """How much hues agree: 0 not at all, 1 all are the same."""


def mean_hue(hues: Array, weights: Array) -> Hue | None:
    """Average hues as directions: the mean of 350 and 10 degrees is 0, not 180.

    The interval is the large-sample one of N. Fisher, "Statistical analysis of circular data"
    (1993), for weighted directions.

    Args:
        hues: Of films [N], in 0..1.
        weights: How much each counts [N]: its saturation, for a grey poster has no hue.

    Returns:
        The mean; None if the films are too few or have no colour.
    """
    if len(hues) < FEWEST or weights.sum() <= _ROUNDING:
        return None
    angles = 2 * np.pi * hues
    middle = float(np.arctan2(weights @ np.sin(angles), weights @ np.cos(angles)))
    along = float(weights @ np.cos(angles - middle))
    agreement = along / float(weights.sum())
    across = float(np.sqrt(weights**2 @ np.sin(angles - middle) ** 2))
    half = np.degrees(_Z * across / along) if along > _ROUNDING else np.inf
    return Hue(
        degrees=float(np.degrees(middle) % 360),
        half=float(half) if half < 90 else None,
        agreement=agreement,
    )
