"""Balance: deal films into training, validation and test, and weigh them for training."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from numpy.typing import NDArray

from components.balance.groups import IDENTITIES, group_posters
from marquee.catalog import Catalog
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import DataGateFailed
from marquee.genres import label_set as genres_of
from marquee.genres import multi_hot
from marquee.settings import BalanceSettings
from marquee.split import SPLITS, TEST, TRAIN, VALIDATION, SplitPlan

logger = logging.getLogger(__name__)

COLUMNS: tuple[str, ...] = (
    "poster_id",
    *IDENTITIES,
    "perceptual_hash",
    "genres",
    "year",
    "era",
)
_MIN_GROUPS = 20


def balance(catalog_uri: str, label_set: str, settings: BalanceSettings) -> SplitPlan:
    """Deal a catalog's posters into the three splits.

    Posters of one film, one collection and near-duplicates stay together; genres and eras are
    spread evenly by iterative stratification (Sechidis et al., 2011). Nothing is repeated or
    dropped to balance genres: each poster gets a weight in training instead, and validation and
    test keep the natural distribution.

    Args:
        catalog_uri: The catalog.
        label_set: `all18` or `study4`; posters with none of its genres are left out.
        settings: Shares and seed.

    Returns:
        The split plan.

    Raises:
        DataGateFailed: There are too few posters to deal.
    """
    catalog = Catalog(catalog_uri)
    genres = genres_of(label_set)
    frame = catalog.frame(COLUMNS)
    labels = np.array(multi_hot(frame["genres"], genres), dtype=np.int8).reshape(-1, len(genres))
    used = np.flatnonzero(labels.sum(axis=1))
    frame, labels = frame.iloc[used].reset_index(drop=True), labels[used]
    groups = group_posters(frame, settings.near_duplicate_bits) if len(frame) else np.array([])
    if len(np.unique(groups)) < _MIN_GROUPS:
        raise DataGateFailed(
            f"{len(frame)} posters with a genre of {label_set} make {len(np.unique(groups))} "
            "groups of films, too few for training, validation and test",
            remedy=f"bring {_MIN_GROUPS} films or more",
        )
    splits = _deal(groups, labels, frame["era"], settings)
    weights = _weights(labels, splits == TRAIN)
    plan = pd.DataFrame(
        {
            "poster_id": frame["poster_id"],
            "group_id": [f"g{group:06d}" for group in groups],
            "split": splits,
            "weight": weights.astype(np.float32),
            "label_mask": [[True] * len(genres)] * len(frame),
        }
    )
    report = {
        "label_set": label_set,
        "catalog_digest": catalog.manifest.digest,
        "seed": settings.seed,
        "posters": len(frame),
        "left_out": len(catalog) - len(used),
        "groups": len(np.unique(groups)),
        "largest_group": int(np.bincount(groups).max()),
        "splits": {name: int((splits == name).sum()) for name in SPLITS},
        "genres": _genre_distributions(labels, genres, splits, weights),
        "eras": _era_distributions(frame["era"], splits, weights),
        "years": _year_distribution(frame["year"], splits),
    }
    logger.info("balance: %s; %d posters left out", report["splits"], report["left_out"])
    return SplitPlan(plan, report)


def _deal(
    groups: NDArray[np.int64],
    labels: NDArray[np.int8],
    eras: pd.Series,
    settings: BalanceSettings,
) -> NDArray[np.str_]:
    """Name each poster's split; whole groups go one way."""
    traits = np.hstack([labels, pd.get_dummies(eras).to_numpy(dtype=np.int8)])
    group_traits = pd.DataFrame(traits).groupby(groups).max().to_numpy()
    test_share = 1 - settings.train - settings.validation
    rest, test = _stratified(np.arange(len(group_traits)), group_traits, test_share, settings.seed)
    share = settings.validation / (settings.train + settings.validation)
    _, validation = _stratified(rest, group_traits, share, settings.seed + 1)
    names = np.full(len(group_traits), TRAIN, dtype=object)
    names[test], names[validation] = TEST, VALIDATION
    return names[groups]


def _stratified(
    items: NDArray[np.int64], traits: NDArray[np.int8], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part items into (the rest, `share` of them) with even traits."""
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    rest, taken = next(splitter.split(items, traits[items]))
    return items[rest], items[taken]


def _weights(labels: NDArray[np.int8], train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weigh posters by the mean of 1 / sqrt(frequency) over their genres; mean 1 in training.

    The square root lifts rare genres without making one poster stand for a hundred, and the mean
    over a poster's genres keeps a common one (Drama) from riding along with a rare one.
    """
    frequency = np.maximum(labels[train].mean(axis=0), 1 / train.sum())
    weights = (labels / np.sqrt(frequency)).sum(axis=1) / labels.sum(axis=1)
    return weights / weights[train].mean()


def _genre_distributions(
    labels: NDArray[np.int8],
    genres: tuple[str, ...],
    splits: NDArray[np.str_],
    weights: NDArray[np.float64],
) -> dict[str, dict[str, Any]]:
    """Share of posters with each genre: before, in each split, and in training as weighted."""
    train = splits == TRAIN
    sampled = np.average(labels[train], axis=0, weights=weights[train])
    return {
        genre: {
            "count": int(labels[:, g].sum()),
            "before": round(float(labels[:, g].mean()), 4),
            **{name: round(float(labels[splits == name, g].mean()), 4) for name in SPLITS},
            "train_weighted": round(float(sampled[g]), 4),
        }
        for g, genre in enumerate(genres)
    }


def _era_distributions(
    eras: pd.Series, splits: NDArray[np.str_], weights: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    train = splits == TRAIN
    result = {}
    for era in (*ERAS, UNKNOWN_ERA):
        here = (eras == era).to_numpy()
        if here.any():
            result[era] = {
                "count": int(here.sum()),
                "before": round(float(here.mean()), 4),
                **{name: round(float(here[splits == name].mean()), 4) for name in SPLITS},
                "train_weighted": round(float(np.average(here[train], weights=weights[train])), 4),
            }
    return result


def _year_distribution(years: pd.Series, splits: NDArray[np.str_]) -> dict[str, dict[str, int]]:
    """Posters a decade and split."""
    decades = (years.dropna().astype(int) // 10 * 10).astype(str)
    counts = pd.crosstab(decades, splits[decades.index])
    return {
        str(decade): {str(name): int(value) for name, value in row.items()}
        for decade, row in counts.iterrows()
    }
