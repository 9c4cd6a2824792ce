"""Bootstrap intervals: how much of a test figure may be the luck of which films were drawn.

Source: B. Efron, "Bootstrap methods: another look at the jackknife" (1979), percentile intervals.
A resample draws as many films as there are, with replacement, and a film's posters go together. It
is kept as a weight a poster (how often it was drawn), so that all figures of many resamples are a
few sums over arrays.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.metrics import COVERAGE_PRECISION, top_hits

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
_CELLS = 100_000
"""Weights that are held at a time."""

Interval = tuple[float, float]


def intervals(
    labels: NDArray[Any],
    scores: NDArray[Any],
    chosen: NDArray[Any],
    genres: Sequence[str],
    films: NDArray[np.int64],
) -> dict[str, Interval]:
    """Give percentile bootstrap intervals of the metrics of `marquee.metrics.score`.

    A resample's figures are those that `score` would give its posters. The calibration error has no
    interval: it is a sum of absolute values, which resampling can only raise.

    Args:
        labels: [N, G] of zeros and ones.
        scores: Probabilities [N, G].
        chosen: Which genres were chosen [N, G].
        genres: The G names.
        films: The number of each poster's film [N], counted from 0 without a gap.

    Returns:
        Metric to the ends of its `LEVEL` interval, from `RESAMPLES` resamples.
    """
    found = resampled(labels, scores, chosen, genres, films)
    return {name: interval(values) for name, values in found.items()}


def resampled(
    labels: NDArray[Any],
    scores: NDArray[Any],
    chosen: NDArray[Any],
    genres: Sequence[str],
    films: NDArray[np.int64],
) -> dict[str, NDArray[np.float32]]:
    """Give each metric of every resample.

    The resamples are the same for the same films, whatever the scores are: the differences between
    two models' figures are those of a paired bootstrap.

    Args:
        labels: [N, G] of zeros and ones.
        scores: Probabilities [N, G].
        chosen: Which genres were chosen [N, G].
        genres: The G names.
        films: The number of each poster's film [N], counted from 0 without a gap.

    Returns:
        Metric to `RESAMPLES` values; NaN where a genre is absent from a resample.
    """
    prepared = _Prepared(labels, scores, chosen, genres)
    parts = [prepared.figures(weights) for weights in resamples(films)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(values: NDArray[np.float32]) -> Interval:
    """Give the ends of the `LEVEL` interval of resampled values, those that are NaN left out."""
    low, high = np.nanpercentile(values, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return float(low), float(high)


class Ranking:
    """What is the same in all resamples of how a model ranks posters: its macro mAP in each.

    Args:
        labels: [N, G] of zeros and ones.
        scores: [N, G], higher for more likely.
    """

    def __init__(self, labels: NDArray[Any], scores: NDArray[Any]) -> None:
        none = np.zeros(len(labels))
        self._genres = [_Genre(labels[:, g], scores[:, g], none) for g in range(labels.shape[1])]

    def macro_map(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give `marquee.metrics.macro_map` of resamples with these weights [B, N]: B values."""
        return _mean(np.array([genre.average_precision(weights) for genre in self._genres]))


def resamples(
    films: NDArray[np.int64], count: int = RESAMPLES, seed: int = SEED
) -> Iterator[NDArray[np.float32]]:
    """Draw resamples, always the same ones for the same films.

    Args:
        films: The number of each poster's film [N], counted from 0 without a gap.
        count: How many.
        seed: Chooses them.

    Yields:
        How often each poster is drawn in each resample [B, N], some resamples at a time.
    """
    random, different = np.random.default_rng(seed), int(films.max()) + 1
    at_a_time = max(1, _CELLS // len(films))
    for start in range(0, count, at_a_time):
        drawn = [
            np.bincount(random.integers(different, size=different), minlength=different)
            for _ in range(min(at_a_time, count - start))
        ]
        yield np.array(drawn, dtype=np.float32)[:, films]


class _Genre:
    """What is the same of a genre in all resamples: where its posters rank, and what was chosen.

    Args:
        truth: Which of the posters have it [N].
        scores: [N].
        given: Which were given it [N].
    """

    def __init__(self, truth: NDArray[Any], scores: NDArray[Any], given: NDArray[Any]) -> None:
        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]
        places = np.flatnonzero(truth[order])
        ends = np.searchsorted(falling, falling[places], side="right") - 1
        self._order = order.astype(np.int32)
        self._having = order[places]
        self._ends = ends
        """For each poster that has it, the last place of the same score."""
        self._having_until = np.searchsorted(places, ends, side="right") - 1
        self._given = np.flatnonzero(given)
        self._found = np.flatnonzero(given * truth)

    def average_precision(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the average precision of each resample [B]; NaN where no poster has the genre.

        AP = mean over the posters that have it, as often as they were drawn, of the precision down
        to their score.
        """
        taken = np.cumsum(weights[:, self._order], axis=1)[:, self._ends]
        own = weights[:, self._having]
        right = np.cumsum(own, axis=1)[:, self._having_until]
        with np.errstate(invalid="ignore"):
            return (own * right / np.maximum(taken, 1)).sum(axis=1) / own.sum(axis=1)

    def counts(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give how many posters have it, were given it, and both, in each resample [3, B]."""
        return np.stack(
            [weights[:, rows].sum(axis=1) for rows in (self._having, self._given, self._found)]
        )


class _Certainty:
    """Posters in falling order of their top probability.

    Args:
        top: [N].
        hits: Which most probable genres are right [N].
    """

    def __init__(self, top: NDArray[Any], hits: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-top, kind="stable")
        self._steps = np.flatnonzero(np.append(np.diff(top[self._order]) != 0, True))
        """The last place of each probability."""
        self._hits = hits[self._order]

    def coverage(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give `marquee.metrics.coverage` of each resample [B]."""
        ordered = weights[:, self._order]
        taken = np.cumsum(ordered, axis=1)[:, self._steps]
        right = np.cumsum(ordered * self._hits, axis=1)[:, self._steps]
        reached = np.where(right >= COVERAGE_PRECISION * taken, taken, 0).max(axis=1)
        return reached / weights.sum(axis=1)


class _Prepared:
    """What is the same in all resamples."""

    def __init__(
        self,
        labels: NDArray[Any],
        scores: NDArray[Any],
        chosen: NDArray[Any],
        genres: Sequence[str],
    ) -> None:
        self._names = {g: f"ap/{genre}" for g, genre in enumerate(genres) if labels[:, g].any()}
        self._genres = [
            _Genre(labels[:, g], scores[:, g], chosen[:, g]) for g in range(labels.shape[1])
        ]
        top1 = top_hits(labels, scores, 1)
        self._certainty = _Certainty(scores.max(axis=1), top1)
        shares = {
            "top1": top1,
            "top3": top_hits(labels, scores, 3),
            "exact_match": (labels == chosen).all(axis=1),
            "per_label_accuracy": ((scores >= 0.5) == labels).mean(axis=1),
        }
        self._shares = {name: values.astype(np.float32) for name, values in shares.items()}

    def figures(self, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Give each metric of resamples with these weights [B, N]: B values."""
        total = weights.sum(axis=1)
        precisions = np.array([genre.average_precision(weights) for genre in self._genres])
        having, given, found = np.stack([genre.counts(weights) for genre in self._genres], axis=1)
        f1 = np.where(having > 0, 2 * found / np.maximum(having + given, 1), np.nan)
        return {
            "macro_map": _mean(precisions),
            "macro_f1": _mean(f1),
            "micro_f1": 2 * found.sum(axis=0) / np.maximum((having + given).sum(axis=0), 1),
            **{name: weights @ values / total for name, values in self._shares.items()},
            "coverage_at_85": self._certainty.coverage(weights),
            **{name: precisions[g] for g, name in self._names.items()},
        }


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the genres that occur [G, B]; NaN for a resample in which none does."""
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=0) / np.sum(~np.isnan(values), axis=0)
