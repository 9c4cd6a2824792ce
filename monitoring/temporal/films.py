"""The films of a catalog in order of time: narrow columns of one poster a film, no pixels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from marquee.catalog import Catalog
from marquee.duplicates import near_duplicates
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import DataError
from marquee.genres import VISUAL_GENRES, label_columns, label_matrix
from marquee.licences import attributions, check_not_expired, obstacles
from marquee.profile import ATTRIBUTES
from marquee.settings import LicenceSettings

FEWEST = 50
"""A slice of fewer films is said to be too few: of them nothing is shown."""

_TEXTS = ("poster_id", "film_id", "era", "source", "sha256", "perceptual_hash", "part")
_KEPT = (*_TEXTS, "year", *ATTRIBUTES, "shard_offset", "size")
_COLUMNS = (
    *(name for name in _KEPT if name != "part"),
    *("licence", "label_licences", "expires_at"),
    *label_columns(VISUAL_GENRES),
)
_ALIKE_BITS = 4
"""Posters whose perceptual hashes differ in no more bits show one picture, as in `[balance]`."""


@dataclass(frozen=True)
class Films:
    """N films that have a year, with one poster each: the first by its id."""

    frame: pd.DataFrame
    """N rows: era, year, source, measured attributes, and where the image is."""
    labels: NDArray[np.int8]
    """Which of `VISUAL_GENRES` each film has [N, G]."""
    left_out: Mapping[str, int]
    """How many posters are not looked at, by reason."""
    attributions: tuple[str, ...]
    """Sentences that the terms of the posters want to see."""
    obstacle: str
    """Why these posters must not train anything; empty if they may."""

    def eras(self) -> list[str]:
        """Name the eras that have films, in order of time."""
        there = set(self.frame["era"])
        return [era for era in ERAS if era in there]

    def sample(self, most: int, seed: int) -> NDArray[np.int64]:
        """Draw films of each era; of posters that show one picture, the earliest only.

        Else a poster that was used again would be in what trains and in what tests.

        Args:
            most: How many of an era at most.
            seed: Chooses them.

        Returns:
            Their row numbers [n], rising.
        """
        random = np.random.default_rng(seed)
        eras = self.frame["era"].to_numpy()
        drawn = random.permutation(self._earliest())
        return np.sort(
            np.concatenate([drawn[eras[drawn] == era][:most] for era in self.eras()])
        ).astype(np.int64)

    def pictures(self) -> NDArray[np.int64]:
        """Number the pictures that posters show [N]: posters that look alike have one number."""
        hashes = np.array([int(text, 16) for text in self.frame["perceptual_hash"]], np.uint64)
        pairs = [np.empty((2, 0), np.int64), *near_duplicates(hashes, _ALIKE_BITS)]
        edges = np.concatenate(pairs, axis=1)
        ones, count = np.ones(edges.shape[1], bool), len(hashes)
        _, pictures = connected_components(coo_array((ones, tuple(edges)), shape=(count, count)))
        return np.asarray(pictures, np.int64)

    def _earliest(self) -> NDArray[np.int64]:
        """Give the row of the earliest film of each picture."""
        order = np.argsort(self.frame["year"].to_numpy(), kind="stable")
        _, first = np.unique(self.pictures()[order], return_index=True)
        return np.sort(order[first])


def read_films(catalog: Catalog, licence: LicenceSettings) -> Films:
    """Read the films of a catalog.

    Args:
        catalog: The catalog.
        licence: The agreements on training there are.

    Raises:
        DataError: No era has enough films.
        DataGateFailed: The terms of some posters are over.
    """
    frames, labels = [], []
    said, reasons = dict[str, None](), dict[str, None]()
    for found in catalog.by_part(_COLUMNS, catalog.frame(())[["poster_id"]]):
        check_not_expired(found)
        said |= dict.fromkeys(attributions(found))
        reasons |= dict.fromkeys(item.reason for item in obstacles(found, licence))
        labels.append(label_matrix(found, VISUAL_GENRES))
        frames.append(found[list(_KEPT)].astype(dict.fromkeys(_TEXTS, "string[pyarrow]")))
    posters = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(_KEPT))
    dated = posters[posters["year"].notna() & (posters["era"] != UNKNOWN_ERA)]
    films = dated.sort_values("poster_id").drop_duplicates("film_id")
    counts = films["era"].value_counts()
    if not (counts >= FEWEST).any():
        raise DataError(
            f"no era has {FEWEST} films with a year in {catalog.uri} "
            f"({len(films):,} films in {len(counts)} eras)",
            remedy="bring more posters with `marquee ingest`",
        )
    left_out = {
        "without a year": len(posters) - len(dated),
        "another poster of a film": len(dated) - len(films),
    }
    return Films(
        films.reset_index(drop=True).astype({"year": np.int64}),
        np.concatenate(labels)[films.index],
        left_out,
        tuple(said),
        "; ".join(reasons),
    )
