"""What balancing needs to know of a catalog's posters: narrow columns, no pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.balance.groups import IDENTITIES
from marquee.agreement import LabelStatus
from marquee.catalog import Catalog
from marquee.genres import label_columns, label_matrix
from marquee.licences import attributions

COLUMNS: tuple[str, ...] = ("poster_id", *IDENTITIES, "perceptual_hash", "year", "era")
STATUSES: tuple[str, ...] = ("", *LabelStatus)
"""What a status code stands for; 0 says nothing, and the rest is `LabelStatus`."""
DISPUTED: tuple[int, ...] = tuple(
    STATUSES.index(status) for status in (LabelStatus.TMDB_ONLY, LabelStatus.IMDB_ONLY)
)
"""Codes of the labels that one of TMDB and IMDb gives and the other does not."""


@dataclass(frozen=True)
class Posters:
    """N posters with one genre or more of a label set."""

    frame: pd.DataFrame
    """N rows with `COLUMNS`."""
    labels: NDArray[np.int8]
    """[N, G] of zeros and ones."""
    statuses: NDArray[np.int8]
    """What TMDB and IMDb together say of each label [N, G], as places in `STATUSES`."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: NDArray[Any]) -> "Posters":
        """Give some of the posters, by row numbers or a mask."""
        frame = self.frame.iloc[np.arange(len(self))[rows]].reset_index(drop=True)
        return Posters(frame, self.labels[rows], self.statuses[rows])


def read_posters(catalog: Catalog, genres: tuple[str, ...]) -> tuple[Posters, list[str]]:
    """Read the posters that have a genre of the label set.

    Lists and maps are turned into numbers one column after the other: as Python objects, they
    would take most of the memory.

    Args:
        catalog: The catalog.
        genres: The G genres of the label set.

    Returns:
        The posters, in the order of their ids, and the attributions that their sources ask for.
    """
    labels = label_matrix(catalog.frame(label_columns(genres)), genres)
    used = np.asarray(labels.any(axis=1))
    statuses = _status_codes(catalog.frame(["agreement"])["agreement"], genres)
    credited = attributions(catalog.frame(["licence", "label_licences"]).loc[used])
    everyone = Posters(catalog.frame(COLUMNS), labels, statuses)
    return everyone.take(used), credited


def _status_codes(column: pd.Series, genres: tuple[str, ...]) -> NDArray[np.int8]:
    """Turn `agreement` into codes [N, G]; what is not said has 0."""
    places = {genre: g for g, genre in enumerate(genres)}
    codes = {status: code for code, status in enumerate(STATUSES)}
    result = np.zeros((len(column), len(genres)), dtype=np.int8)
    for row, statuses in enumerate(column):
        for genre, status in (statuses or {}).items():
            if genre in places:
                result[row, places[genre]] = codes.get(status, 0)
    return result
