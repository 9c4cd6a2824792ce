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
_CELLS = 500_000
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
    prepared = _Prepared(labels, scores, chosen, genres)
    parts = [prepared.figures(weights) for weights in _weights(films, np.random.default_rng(SEED))]
    ends = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    result = {}
    for name in parts[0]:
        # A genre may be absent from a resample.
        low, high = np.nanpercentile(np.concatenate([part[name] for part in parts]), ends)
        result[name] = (float(low), float(high))
    return result


def _weights(
    films: NDArray[np.int64], random: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """Give how often each poster is drawn in each resample [B, N], some resamples at a time."""
    count = int(films.max()) + 1
    at_a_time = max(1, _CELLS // len(films))
    for start in range(0, RESAMPLES, at_a_time):
        drawn = [
            np.bincount(random.integers(count, size=count), minlength=count)
            for _ in range(min(at_a_time, RESAMPLES - start))
        ]
        yield np.array(drawn, dtype=np.float32)[:, films]


class _Ranking:
    """Posters in falling order of a score; those of the same score are one step."""

    def __init__(self, scores: NDArray[Any], hits: NDArray[Any]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        falling = -scores[self.order]
        ends = np.searchsorted(falling, falling, side="right") - 1
        self.steps = np.unique(ends)
        """The last place of each step."""
        self.hits = np.flatnonzero(hits[self.order])
        """The places that hit."""
        self.hit_ends = ends[self.hits]
        self.hits_until = np.searchsorted(self.hits, self.hit_ends, side="right") - 1

    def average_precision(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the average precision of each resample [B]; NaN where nothing hits.

        AP = mean over the hits, as often as they were drawn, of the precision down to their step.
        """
        taken = np.cumsum(weights[:, self.order], axis=1)[:, self.hit_ends]
        own = weights[:, self.order[self.hits]]
        right = np.cumsum(own, axis=1)[:, self.hits_until]
        with np.errstate(invalid="ignore"):
            return (own * right / np.maximum(taken, 1)).sum(axis=1) / own.sum(axis=1)

    def coverage(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give `marquee.metrics.coverage` of each resample [B]."""
        ordered = weights[:, self.order]
        taken = np.cumsum(ordered, axis=1)[:, self.steps]
        missed = ordered.copy()
        missed[:, self.hits] = 0
        right = taken - np.cumsum(missed, axis=1)[:, self.steps]
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
        occurring = np.flatnonzero(labels.any(axis=0)).tolist()
        self.genres = [genres[g] for g in occurring]
        self.truth = labels[:, occurring].astype(np.float32)
        self.given = chosen[:, occurring].astype(np.float32)
        self.rankings = [_Ranking(scores[:, g], labels[:, g]) for g in occurring]
        top1 = top_hits(labels, scores, 1)
        self.certainty = _Ranking(scores.max(axis=1), top1)
        shares = {
            "top1": top1,
            "top3": top_hits(labels, scores, 3),
            "exact_match": (labels == chosen).all(axis=1),
            "per_label_accuracy": ((scores >= 0.5) == labels).mean(axis=1),
        }
        self.shares = {name: values.astype(np.float32) for name, values in shares.items()}
        self.counts = np.stack([labels.sum(axis=1), chosen.sum(axis=1)], axis=1, dtype=np.float32)

    def figures(self, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Give each metric of resamples with these weights [B, N]: B values."""
        total = weights.sum(axis=1)
        positives, given, found = (
            weights @ array for array in (self.truth, self.given, self.truth * self.given)
        )
        f1 = 2 * found / np.maximum(positives + given, 1)
        f1[positives == 0] = np.nan
        precisions = np.stack([ranking.average_precision(weights) for ranking in self.rankings], 1)
        return {
            "macro_map": np.nanmean(precisions, axis=1),
            "macro_f1": np.nanmean(f1, axis=1),
            "micro_f1": 2 * found.sum(axis=1) / np.maximum((weights @ self.counts).sum(axis=1), 1),
            **{name: weights @ values / total for name, values in self.shares.items()},
            "coverage_at_85": self.certainty.coverage(weights),
            **{f"ap/{genre}": precisions[:, n] for n, genre in enumerate(self.genres)},
        }
