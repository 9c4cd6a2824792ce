"""Honest metrics of a multi-label model, and the trivial baselines to print beside them.

Per-label accuracy is inflated wherever genres are rare: predicting nothing at all scores high. It
is reported for comparison with published figures only, next to what the baselines get.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from marquee.decision import decide

Labels = NDArray[Any]

COVERAGE_PRECISION = 0.85
"""The top-1 precision that `coverage` keeps."""

BINS = 15
"""Equal bins over 0..1 in which `calibration_errors` compares probabilities with what came true."""

_ROWS_AT_A_TIME = 4096
_TIE = 1e-6
"""What a baseline's probabilities give to the training frequencies, which only breaks ties."""


def average_precisions(labels: Labels, scores: NDArray[Any]) -> NDArray[np.float64]:
    """Compute each genre's average precision.

    Args:
        labels: [N, G] of zeros and ones.
        scores: [N, G], higher for more likely.

    Returns:
        G values in 0..1; NaN for a genre that no poster has.
    """
    return np.array(
        [
            average_precision_score(labels[:, g], scores[:, g]) if labels[:, g].any() else np.nan
            for g in range(labels.shape[1])
        ]
    )


def macro_map(labels: Labels, scores: NDArray[Any]) -> float:
    """Average the average precisions of the genres that occur (0..1; NaN if none does)."""
    values = average_precisions(labels, scores)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def score(
    labels: Labels, scores: NDArray[Any], chosen: NDArray[Any], genres: Sequence[str]
) -> dict[str, float]:
    """Score predictions against labels.

    Args:
        labels: [N, G] of zeros and ones.
        scores: Calibrated probabilities [N, G].
        chosen: Which genres were chosen [N, G].
        genres: The G names.

    Returns:
        macro_map, macro_f1, micro_f1, top1 (share of posters whose most probable genre is right),
        top3 (one of whose three most probable genres is), exact_match, per_label_accuracy (share of
        labels on whose right side of .5 the probability is), ece (`calibration_errors`, averaged),
        coverage_at_85 (`coverage`), and ap/<Genre>, each in 0..1. Genres that no poster has are
        left out of the macro averages.
    """
    occurring = np.flatnonzero(labels.sum(axis=0)).tolist()
    precisions = average_precisions(labels, scores)[occurring]
    values = {
        "macro_map": _mean(precisions),
        "macro_f1": _mean(f1_per_genre(labels, chosen)[occurring]),
        "micro_f1": float(_f1(*(values.sum() for values in _counts(labels, chosen)))),
        "top1": float(top_hits(labels, scores, 1).mean()),
        "top3": float(top_hits(labels, scores, 3).mean()),
        "exact_match": float((labels == chosen).all(axis=1).mean()),
        "per_label_accuracy": float(((scores >= 0.5) == labels).mean()),
        "ece": _mean(calibration_errors(labels, scores)[occurring]),
        "coverage_at_85": coverage(labels, scores),
    }
    return values | {
        f"ap/{genres[g]}": float(precision)
        for g, precision in zip(occurring, precisions, strict=True)
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def f1_per_genre(labels: Labels, chosen: NDArray[Any]) -> NDArray[np.float64]:
    """Compute each genre's F1 (G values in 0..1; 0 where a genre is never right)."""
    return _f1(*_counts(labels, chosen))


def _counts(labels: Labels, chosen: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Count for each genre the posters that have it, were given it, and both."""
    truth, given = labels.astype(bool), chosen.astype(bool)
    return truth.sum(axis=0), given.sum(axis=0), (truth & given).sum(axis=0)


def _f1(having: NDArray[Any], given: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    return 2 * found / np.maximum(having + given, 1)


def top_hits(labels: Labels, scores: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Tell for which posters one of the k most probable genres is right.

    Args:
        labels: [N, G] of zeros and ones.
        scores: [N, G].
        k: How many genres may be named; all if there are fewer.

    Returns:
        [N].
    """
    hits = np.zeros(len(labels), dtype=np.bool_)
    for start in range(0, len(labels), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        best = np.argsort(-scores[rows], axis=1, kind="stable")[:, :k]
        hits[rows] = np.take_along_axis(labels[rows], best, axis=1).any(axis=1)
    return hits


def calibration_errors(labels: Labels, probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Compute each genre's expected calibration error: how far probabilities are off on average.

    A genre's posters are put into `BINS` equal bins by its probability. ECE = sum over bins of
    (posters in the bin / N) * |share that have the genre - mean probability|. Source: Guo et al.,
    "On calibration of modern neural networks" (2017), there of the most probable class only.

    Args:
        labels: [N, G] of zeros and ones.
        probabilities: [N, G] in 0..1.

    Returns:
        G values in 0..1.
    """
    return np.array(
        [
            _calibration_error(labels[:, g], probabilities[:, g].astype(np.float64))
            for g in range(labels.shape[1])
        ]
    )


def _calibration_error(labels: Labels, probabilities: NDArray[np.float64]) -> float:
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=probabilities - labels, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def coverage(
    labels: Labels, probabilities: NDArray[Any], precision: float = COVERAGE_PRECISION
) -> float:
    """Compute how many posters can be labelled with one genre and be right often enough.

    Posters are taken in order of their top probability, the highest first; posters of the same top
    probability are taken together.

    Args:
        labels: [N, G] of zeros and ones.
        probabilities: [N, G].
        precision: What share of the top genres must be right (0..1).

    Returns:
        The largest share of the posters (0..1) at which the top genre is right for at least
        `precision` of them.
    """
    shares, precisions = precision_by_coverage(labels, probabilities)
    return float(shares[precisions >= precision].max(initial=0.0))


def precision_by_coverage(
    labels: Labels, probabilities: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Follow the top-1 precision while less and less certain posters are added.

    Args:
        labels: [N, G] of zeros and ones.
        probabilities: [N, G].

    Returns:
        Shares of the posters, rising to 1, and the top-1 precision among them. Posters of the same
        top probability are one step.
    """
    top = probabilities.max(axis=1)
    order = np.argsort(-top, kind="stable")
    hits = np.cumsum(top_hits(labels, probabilities, 1)[order])
    taken = np.arange(1, len(top) + 1)
    ends = np.append(np.diff(top[order]) != 0, True)
    return taken[ends] / len(top), hits[ends] / taken[ends]


def baselines(train: Labels, test: Labels, genres: Sequence[str]) -> dict[str, dict[str, float]]:
    """Score predictors that never look at a poster.

    Args:
        train: Labels of the training split [M, G].
        test: Labels of the test split [N, G].
        genres: The G names.

    Returns:
        By name, the metrics of `score`: `predict_all` and `predict_none` of the genres,
        `most_frequent` (always the most frequent genre of the training split), all three with
        probabilities of 1 and 0, and `prior` (each genre's training frequency as its probability,
        at the threshold .5). Where their probabilities tie, the more frequent genre is named first.
    """
    frequency = train.mean(axis=0)
    most_frequent = np.zeros_like(frequency)
    most_frequent[int(frequency.argmax())] = 1
    fixed = {
        "predict_all": np.ones_like(frequency),
        "predict_none": np.zeros_like(frequency),
        "most_frequent": most_frequent,
    }
    found = {}
    for name, row in fixed.items():
        scores = np.broadcast_to((1 - _TIE) * row + _TIE * frequency, test.shape)
        chosen = np.broadcast_to(row.astype(test.dtype), test.shape)
        found[name] = score(test, scores, chosen, genres)
    prior = np.broadcast_to(frequency, test.shape)
    chosen = decide(prior, (0.5,) * test.shape[1])[0].astype(test.dtype)
    return found | {"prior": score(test, prior, chosen, genres)}


def primary_confusion(
    labels: Labels, scores: NDArray[Any], frequency: NDArray[Any]
) -> list[list[int]]:
    """Count which genre was taken for which, each poster once.

    A poster's primary genre is what the model says first, its most probable genre, if the film has
    it; otherwise it is the rarest genre that the film has, which says most about it. So the
    diagonal adds up to the top-1 hits, and off it is nothing but errors. The order in which a
    source lists genres plays no part: in many it is the alphabet's.

    Args:
        labels: [N, G] of zeros and ones.
        scores: [N, G].
        frequency: How frequent each genre is in training [G].

    Returns:
        G x G: row, the film's primary genre; column, the most probable one. Posters without a
        genre are left out.
    """
    known = labels.any(axis=1)
    labels, scores = labels[known], scores[known]
    said = scores.argmax(axis=1)
    rarest = np.where(labels, frequency, np.inf).argmin(axis=1)
    true = np.where(top_hits(labels, scores, 1), said, rarest)
    counts = np.zeros((labels.shape[1], labels.shape[1]), dtype=np.int64)
    np.add.at(counts, (true, said), 1)
    return [[int(value) for value in row] for row in counts]


def confusion_per_genre(
    labels: Labels, chosen: NDArray[Any], genres: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count true and false positives and negatives of each genre."""
    truth, given = labels.astype(bool), chosen.astype(bool)
    return {
        genre: {
            "true_positive": int((truth[:, g] & given[:, g]).sum()),
            "false_positive": int((~truth[:, g] & given[:, g]).sum()),
            "false_negative": int((truth[:, g] & ~given[:, g]).sum()),
            "true_negative": int((~truth[:, g] & ~given[:, g]).sum()),
        }
        for g, genre in enumerate(genres)
    }
