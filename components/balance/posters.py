"""What balancing needs to know of a catalog's posters: narrow columns, no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.balance.groups import IDENTITIES
from marquee.agreement import LabelStatus
from marquee.catalog import Catalog
from marquee.errors import DataGateFailed
from marquee.genres import GENRES, SUBGENRES, label_columns, label_matrix
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
    """N posters with one label or more."""

    frame: pd.DataFrame
    """N rows with `COLUMNS`."""
    labels: NDArray[np.int8]
    """[N, G] of zeros and ones."""
    statuses: NDArray[np.int8]
    """What TMDB and IMDb together say of each label [N, G], as places in `STATUSES`."""
    genres: tuple[str, ...]
    """The names of the G labels."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: NDArray[Any]) -> "Posters":
        """Give some of the posters, by row numbers or a mask."""
        frame = self.frame.iloc[np.arange(len(self))[rows]].reset_index(drop=True)
        return Posters(frame, self.labels[rows], self.statuses[rows], self.genres)


def subgenres_left_out(catalog: Catalog, labels: Sequence[str], fewest: int) -> dict[str, int]:
    """Find the subgenres of a label set that too few films have; genres always stay.

    Args:
        catalog: The catalog.
        labels: The label set.
        fewest: Films that a subgenre needs.

    Returns:
        Subgenre to its films.

    Raises:
        DataGateFailed: No label would be left.
    """
    subgenres = [label for label in labels if label in SUBGENRES]
    if not subgenres:
        return {}
    frame = catalog.frame(["film_id", *label_columns(subgenres)])
    has = pd.DataFrame(label_matrix(frame, subgenres), columns=subgenres)
    films = has.groupby(frame["film_id"]).max().sum()
    left_out = {name: int(films[name]) for name in subgenres if films[name] < fewest}
    if len(left_out) == len(labels):
        best = max(left_out, key=left_out.__getitem__)
        raise DataGateFailed(
            f"no subgenre has {fewest} films; {best} has the most, {left_out[best]}",
            remedy="bring more films, or lower balance.subgenre_films",
        )
    return left_out


def read_posters(catalog: Catalog, genres: tuple[str, ...]) -> tuple[Posters, list[str]]:
    """Read the posters that have any of some labels.

    Lists and maps are turned into numbers one column after the other: as Python objects, they
    would take most of the memory.

    Args:
        catalog: The catalog.
        genres: The G labels.

    Returns:
        The posters, in the order of their ids, and the attributions that their sources ask for.
    """
    labels = label_matrix(catalog.frame(label_columns(genres)), genres)
    used = np.asarray(labels.any(axis=1))
    statuses = _status_codes(catalog.frame(["agreement"])["agreement"], genres)
    credited = attributions(catalog.frame(["licence", "label_licences"]).loc[used])
    everyone = Posters(catalog.frame(COLUMNS), labels, statuses, genres)
    return everyone.take(used), credited


def _status_codes(column: pd.Series, labels: tuple[str, ...]) -> NDArray[np.int8]:
    """Turn `agreement` into codes [N, G]; what is not said has 0, as have keywords."""
    places = {genre: g for g, genre in enumerate(GENRES)}
    codes = {status: code for code, status in enumerate(STATUSES)}
    of_genres = np.zeros((len(column), len(GENRES)), dtype=np.int8)
    for row, statuses in enumerate(column):
        for genre, status in (statuses or {}).items():
            if genre in places:
                of_genres[row, places[genre]] = codes.get(status, 0)
    result = np.zeros((len(column), len(labels)), dtype=np.int8)
    for g, label in enumerate(labels):
        genres = SUBGENRES[label].genres if label in SUBGENRES else (label,)
        if genres:
            result[:, g] = _of_all(of_genres[:, [places[genre] for genre in genres]])
    return result


def _of_all(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Tell what the sources say of having all of some genres [N], from codes of each [N, K].

    A source gives them all if it gives each one. What is unknown of one is unknown of all; where
    each source lacks a genre that the other has, neither gives them all, and nothing is disputed.
    """
    tmdb_alone, imdb_alone = ((codes == code).any(axis=1) for code in DISPUTED)
    neither = (codes == 0).any(axis=1) | (tmdb_alone & imdb_alone)
    # STATUSES stand in the order in which one genre's decides over another's.
    return np.where(neither, 0, codes.max(axis=1))
