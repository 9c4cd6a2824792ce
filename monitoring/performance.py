"""How right a model is, where films' genres are known: per genre, as its test was scored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.profile import NO, YES, Profile
from monitoring import statistics

Array = NDArray[Any]
_BINS = 10
"""Of the calibration error, as `marquee.metrics.calibration_errors` has them."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """How right a model is about a genre."""

    genre: str
    posters: int
    """Predictions of which it is known whether the film has the genre."""
    positives: int
    """Those of them that have it."""
    average_precision: float
    """0..1; what chance gives is `positives / posters`."""
    f1: float
    """Of the genres that were chosen (0..1)."""
    calibration_error: float
    """How far probabilities are off on average (expected calibration error, 0..1)."""


def performance(
    profile: Profile, right: Mapping[str, tuple[int, int]], least: int
) -> list[Performance]:
    """Score a window's predictions.

    Args:
        profile: The window's.
        right: Genre to how often it was chosen where truth is known, and how often rightly.
        least: A genre that fewer posters have is left out.

    Returns:
        A score a genre, in the profile's order.
    """
    scores = profile.scores[:, profile.whole].sum(axis=1)
    return [
        _of_genre(genre, scores[g, NO], scores[g, YES], *right[genre])
        for g, genre in enumerate(profile.genres)
        if scores[g, YES].sum() >= least and scores[g, NO].sum()
    ]


def _of_genre(genre: str, negative: Array, positive: Array, chosen: int, hits: int) -> Performance:
    positives, posters = int(positive.sum()), int((negative + positive).sum())
    prior = np.array(positives / posters)
    return Performance(
        genre=genre,
        posters=posters,
        positives=positives,
        average_precision=float(statistics.average_precision(negative, positive, prior)),
        f1=2 * hits / (chosen + positives),
        calibration_error=_calibration_error(negative, positive),
    )


def _calibration_error(negative: Array, positive: Array) -> float:
    """Give the expected calibration error; within a bin of the profile, values are its middle."""
    bins = len(positive)
    middles = (np.arange(bins) + 0.5) / bins
    gaps = middles * (negative + positive) - positive
    return float(np.abs(gaps.reshape(_BINS, -1).sum(axis=1)).sum() / (negative + positive).sum())


def means(scores: Sequence[Performance]) -> dict[str, float]:
    """Average scores over genres, each genre counting the same.

    Returns:
        `macro_map`, `macro_f1` and `calibration_error`; nothing without scores.
    """
    if not scores:
        return {}
    return {
        name: math.fsum(getattr(score, attribute) for score in scores) / len(scores)
        for name, attribute in (
            ("macro_map", "average_precision"),
            ("macro_f1", "f1"),
            ("calibration_error", "calibration_error"),
        )
    }
