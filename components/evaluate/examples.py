"""Posters to look at: where the model was sure and wrong, and what it finds most typical."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MOST = 12
"""Errors of each kind that are named."""
TYPICAL = 5
"""Posters that are named for each genre."""


class Examples:
    """Names posters by id, title and year.

    Args:
        frame: N posters with poster_id, title and year.
        labels: [N, G] of zeros and ones.
        probabilities: [N, G].
        genres: The G names.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        labels: NDArray[np.int8],
        probabilities: NDArray[np.float64],
        genres: Sequence[str],
    ) -> None:
        self._frame = frame
        self._labels = labels
        self._probabilities = probabilities
        self._genres = genres

    def errors(self) -> list[dict[str, Any]]:
        """Name the posters of whose most probable genre the model was surest, and wrong."""
        said = self._probabilities.argmax(axis=1)
        rows = np.arange(len(said))
        certainty = np.where(self._labels[rows, said] == 0, self._probabilities[rows, said], -1)
        best = np.argsort(-certainty, kind="stable")[:MOST]
        return self._entries((row, said[row]) for row in best if certainty[row] >= 0)

    def overlooked(self) -> list[dict[str, Any]]:
        """Name the posters whose genre the model thought least likely, each once.

        Likely is measured against how frequent the genre is: a rare one is never probable.
        """
        frequency = self._labels.mean(axis=0)
        likely = np.where(
            self._labels == 1, self._probabilities / np.maximum(frequency, 1e-12), np.inf
        )
        genre = likely.argmin(axis=1)
        lowest = likely.min(axis=1)
        worst = np.argsort(lowest, kind="stable")[:MOST]
        return self._entries((row, genre[row]) for row in worst if np.isfinite(lowest[row]))

    def typical(self) -> dict[str, list[dict[str, Any]]]:
        """Name for each genre the posters to which the model gives it most surely."""
        best = np.argsort(-self._probabilities, axis=0, kind="stable")[:TYPICAL]
        return {
            genre: self._entries((row, g) for row in best[:, g])
            for g, genre in enumerate(self._genres)
        }

    def _entries(self, pairs: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
        return [self._entry(int(row), int(g)) for row, g in pairs]

    def _entry(self, row: int, g: int) -> dict[str, Any]:
        facts = self._frame.iloc[row]
        return {
            "poster_id": str(facts["poster_id"]),
            "title": str(facts["title"]),
            "year": None if pd.isna(facts["year"]) else int(facts["year"]),
            "genres": [self._genres[n] for n in np.flatnonzero(self._labels[row]).tolist()],
            "genre": self._genres[g],
            "probability": round(float(self._probabilities[row, g]), 5),
            "has_genre": bool(self._labels[row, g]),
        }
