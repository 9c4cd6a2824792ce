"""Figures of the test posters: all of them, of each genre, and of each slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee import bootstrap
from marquee.metrics import baselines, calibration_errors, f1_per_genre, score

SLICE_METRICS = ("macro_map", "macro_f1", "micro_f1", "top1")
FEWEST_IN_SLICE = 10


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What N posters have and what they were given."""

    labels: NDArray[np.int8]
    """[N, G] of zeros and ones."""
    probabilities: NDArray[np.float64]
    """[N, G]."""
    chosen: NDArray[np.int8]
    """[N, G]."""
    films: NDArray[np.int64]
    """The number of each poster's film [N], without a gap."""
    train_labels: NDArray[np.int8]
    """What the baselines know [M, G]."""
    genres: tuple[str, ...]

    def part(self, rows: NDArray[np.int64]) -> "Scores":
        """Give some of the posters."""
        if len(rows) == len(self.labels):
            return self
        return Scores(
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            chosen=self.chosen[rows],
            films=np.unique(self.films[rows], return_inverse=True)[1],
            train_labels=self.train_labels,
            genres=self.genres,
        )

    def metrics(self) -> dict[str, float]:
        """Give the metrics of `marquee.metrics.score`."""
        return score(self.labels, self.probabilities, self.chosen, self.genres)

    def intervals(self) -> dict[str, bootstrap.Interval]:
        """Give their intervals."""
        return bootstrap.intervals(
            self.labels, self.probabilities, self.chosen, self.genres, self.films
        )

    def baselines(self) -> dict[str, dict[str, float]]:
        """Give the metrics of those that never look at a poster."""
        return baselines(self.train_labels, self.labels, self.genres)

    def per_slice(self, column: pd.Series, names: Sequence[str]) -> list[dict[str, Any]]:
        """Score slices; one of too few posters, or without a genre, is counted and not scored.

        Args:
            column: The slice of each poster [N].
            names: The slices in their order; those without a poster are left out.
        """
        slices = []
        for name in names:
            rows = np.flatnonzero(column == name)
            if not len(rows):
                continue
            entry: dict[str, Any] = {"slice": name, "posters": len(rows)}
            if len(rows) >= FEWEST_IN_SLICE and self.labels[rows].any():
                entry |= self.part(rows)._slice()
            slices.append(entry)
        return slices

    def _slice(self) -> dict[str, Any]:
        metrics, intervals, others = self.metrics(), self.intervals(), self.baselines().values()
        return {
            **{name: metrics[name] for name in SLICE_METRICS},
            "intervals": {name: intervals[name] for name in SLICE_METRICS},
            "baselines": {name: max(other[name] for other in others) for name in SLICE_METRICS},
        }

    def per_genre(
        self,
        metrics: dict[str, float],
        intervals: dict[str, bootstrap.Interval],
        thresholds: Sequence[float],
    ) -> list[dict[str, Any]]:
        """Give each genre's figures.

        Args:
            metrics: Of all posters.
            intervals: Theirs.
            thresholds: Of each genre [G].
        """
        f1 = f1_per_genre(self.labels, self.chosen)
        errors = calibration_errors(self.labels, self.probabilities)
        frequencies = self.labels.mean(axis=0)
        return [
            {
                "genre": genre,
                "posters": int(self.labels[:, g].sum()),
                "training_posters": int(self.train_labels[:, g].sum()),
                "frequency": float(frequencies[g]),
                "average_precision": metrics.get(f"ap/{genre}"),
                "interval": intervals.get(f"ap/{genre}"),
                "f1": float(f1[g]),
                "f1_if_always": float(2 * frequencies[g] / (1 + frequencies[g])),
                "precision": _ratio(self.labels[:, g] & self.chosen[:, g], self.chosen[:, g]),
                "recall": _ratio(self.labels[:, g] & self.chosen[:, g], self.labels[:, g]),
                "ece": float(errors[g]),
                "threshold": thresholds[g],
            }
            for g, genre in enumerate(self.genres)
        ]


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() else None


def sum_up_folds(folds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Give the mean and the spread of a cross-validation.

    Args:
        folds: Values of each metric, one a fold; two or more.

    Returns:
        By metric: `mean`, `std` (the sample standard deviation) and `folds`, the values.
    """
    return {
        name: {"mean": fmean(values), "std": stdev(values), "folds": list(values)}
        for name, values in folds.items()
    }
