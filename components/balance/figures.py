"""The figures of balance.json: films by year, genres, eras, pairs, and labels in dispute."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.balance.posters import DISPUTED, STATUSES, Posters
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.split import SPLITS, TRAIN


def films_by_year(posters: Posters, splits: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Count films by release year and split; a film with several posters counts once a year.

    Args:
        posters: N posters.
        splits: The split of each [N].

    Returns:
        Year to split to films; films without a year are left out.
    """
    films = posters.frame[["film_id", "year"]].assign(split=splits).dropna(subset="year")
    films = films.drop_duplicates(["film_id", "year"])
    counts = pd.crosstab(films["year"].astype(int), films["split"]).reindex(
        columns=SPLITS, fill_value=0
    )
    return {
        str(year): dict(zip(SPLITS, row, strict=True))
        for year, row in zip(counts.index.tolist(), counts.to_numpy().tolist(), strict=True)
    }


def genre_shares(
    labels: NDArray[np.int8], splits: NDArray[Any], genres: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Count each genre, and its share of all posters and of each split's.

    Args:
        labels: [N, G].
        splits: The split of each poster [N].
        genres: The names of the G genres.
    """
    shares = {name: labels[splits == name].mean(axis=0) for name in SPLITS}
    return {
        genre: {
            "count": int(labels[:, g].sum()),
            "before": round(float(labels[:, g].mean()), 4),
            **{name: round(float(values[g]), 4) for name, values in shares.items()},
        }
        for g, genre in enumerate(genres)
    }


def era_shares(
    eras: pd.Series, splits: NDArray[Any], train_counts: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    """Count posters of each era, and their share of all, of each split, and of an epoch.

    Args:
        eras: The era of each poster [N].
        splits: The split of each [N].
        train_counts: How much of an epoch each training poster is.
    """
    result = {}
    for era in (*ERAS, UNKNOWN_ERA):
        here = (eras == era).to_numpy()
        if here.any():
            weighted = np.average(here[splits == TRAIN], weights=train_counts)
            result[era] = {
                "count": int(here.sum()),
                "before": round(float(here.mean()), 4),
                **{name: round(float(here[splits == name].mean()), 4) for name in SPLITS},
                "train_weighted": round(float(weighted), 4),
            }
    return result


def genres_by_era(
    labels: NDArray[np.int8], eras: pd.Series, genres: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count posters by genre and era, eras in order of time."""
    names = [era for era in (*ERAS, UNKNOWN_ERA) if (eras == era).any()]
    counts = {era: labels[(eras == era).to_numpy()].sum(axis=0) for era in names}
    return {genre: {era: int(counts[era][g]) for era in names} for g, genre in enumerate(genres)}


def cooccurrence(labels: NDArray[np.int8]) -> list[list[int]]:
    """Count posters that have both of two genres [G][G]; the diagonal counts each genre."""
    # Products of float32 are exact up to 2^24 posters, and far faster than those of whole numbers.
    wide = labels.astype(np.float32)
    pairs: list[list[int]] = (wide.T @ wide).astype(np.int64).tolist()
    return pairs


def disputes(
    statuses: NDArray[np.int8],
    splits: NDArray[Any],
    label_weights: NDArray[np.float32],
    genres: Sequence[str],
) -> dict[str, dict[str, int]]:
    """Count what TMDB and IMDb together say of each genre, and what training makes of it.

    Args:
        statuses: [N, G], places in `STATUSES`.
        splits: The split of each poster [N].
        label_weights: How much each label counts [N, G].
        genres: The names of the G genres.

    Returns:
        Genre to posters by status, with `disputed_in_training` and, of those, `lowered`: labels
        that count less than others. Genres of which nothing is said are left out.
    """
    training = np.isin(statuses, DISPUTED)[splits == TRAIN]
    lowered = label_weights[splits == TRAIN] < 1
    result = {}
    for g, genre in enumerate(genres):
        counts = np.bincount(statuses[:, g], minlength=len(STATUSES))
        if counts[1:].any():
            result[genre] = {
                **{status: int(counts[code]) for code, status in enumerate(STATUSES) if status},
                "disputed_in_training": int(training[:, g].sum()),
                "lowered": int(lowered[:, g].sum()),
            }
    return result


def rare_genres(
    labels: NDArray[np.int8], splits: NDArray[Any], genres: Sequence[str], rare_below: int
) -> dict[str, dict[str, int]]:
    """Find the genres that have fewer training posters than it takes to learn them.

    Args:
        labels: [N, G].
        splits: The split of each poster [N].
        genres: The names of the G genres.
        rare_below: The fewest posters.

    Returns:
        Genre to posters a split.
    """
    counts = {name: labels[splits == name].sum(axis=0) for name in SPLITS}
    return {
        genre: {name: int(counts[name][g]) for name in SPLITS}
        for g, genre in enumerate(genres)
        if counts[TRAIN][g] < rare_below
    }
