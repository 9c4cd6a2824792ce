"""Honest metrics of a multi-label model, and the trivial baselines to print beside them.

Per-label accuracy is inflated wherever genres are rare: predicting nothing at all scores high. It
is reported for comparison with published figures only, next to what the baselines get.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from marquee.decision import decide

Labels = NDArray[Any]


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
        scores: Probabilities [N, G].
        chosen: Which genres were chosen [N, G].
        genres: The G names.

    Returns:
        macro_map, macro_f1, micro_f1, top1 (share of posters whose most probable genre is right),
        exact_match, per_label_accuracy, and ap/<Genre>, each in 0..1. Genres that no poster has
        are left out of the macro averages.
    """
    occurring = np.flatnonzero(labels.sum(axis=0))
    top = scores.argmax(axis=1)
    values = {
        "macro_map": macro_map(labels, scores),
        "macro_f1": float(np.mean(f1_per_genre(labels, chosen)[occurring])),
        "micro_f1": float(f1_score(labels, chosen, average="micro", zero_division=0)),
        "top1": float(labels[np.arange(len(labels)), top].mean()),
        "exact_match": float((labels == chosen).all(axis=1).mean()),
        "per_label_accuracy": float((labels == chosen).mean()),
    }
    precisions = average_precisions(labels, scores)
    return values | {
        f"ap/{genre}": float(precisions[g]) for g, genre in enumerate(genres) if g in occurring
    }


def f1_per_genre(labels: Labels, chosen: NDArray[Any]) -> NDArray[np.float64]:
    """Compute each genre's F1 (G values in 0..1; 0 where a genre is never right)."""
    return np.array(
        [f1_score(labels[:, g], chosen[:, g], zero_division=0) for g in range(labels.shape[1])]
    )


def baselines(train: Labels, test: Labels, genres: Sequence[str]) -> dict[str, dict[str, float]]:
    """Score predictors that never look at a poster.

    Args:
        train: Labels of the training split [M, G].
        test: Labels of the test split [N, G].
        genres: The G names.

    Returns:
        By name, the metrics of `score`: `predict_all` and `predict_none` of the genres,
        `most_frequent` (always the most frequent genre of the training split) and `prior` (each
        genre's training frequency as its probability, at the threshold .5).
    """
    prior = np.broadcast_to(train.mean(axis=0), test.shape)
    most_frequent = np.zeros_like(test)
    most_frequent[:, int(train.sum(axis=0).argmax())] = 1
    choices = {
        "predict_all": np.ones_like(test),
        "predict_none": np.zeros_like(test),
        "most_frequent": most_frequent,
        "prior": decide(prior, (0.5,) * test.shape[1])[0].astype(test.dtype),
    }
    return {name: score(test, prior, chosen, genres) for name, chosen in choices.items()}


def confusion(labels: Labels, chosen: NDArray[Any]) -> list[list[int]]:
    """Count what was chosen for the posters of each genre.

    Args:
        labels: [N, G].
        chosen: [N, G].

    Returns:
        G x G: row i, column j counts the posters that have genre i and were given genre j. A
        poster with several genres counts in several rows, so rows do not add up to its frequency.
    """
    counts = labels.astype(np.int64).T @ chosen.astype(np.int64)
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
