"""Balance: deal films into training, validation and test, and weigh them for training."""

import dataclasses
import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.balance import figures
from components.balance.deal import NOWHERE, Deal, deal
from components.balance.groups import group_posters
from components.balance.posters import Posters, read_posters, subgenres_left_out
from components.balance.strategies import Emphasis, effects, emphases, label_weights
from marquee.catalog import Catalog
from marquee.genres import label_set as genres_of
from marquee.settings import BalanceSettings
from marquee.split import SPLITS, TRAIN, SplitPlan

logger = logging.getLogger(__name__)


def balance(catalog_uri: str, label_set: str, settings: BalanceSettings) -> SplitPlan:
    """Deal a catalog's posters into the three splits, and weigh the training split.

    Posters of one film, one collection and near-duplicates stay together. The deal comes first and
    looks at no weight; the strategy then touches training rows only, so that validation and test
    keep the natural distribution.

    Args:
        catalog_uri: The catalog.
        label_set: `all18`, `study4` or `subgenres`; posters with none of its labels are left out.
        settings: Kind of split, shares, strategy and seed.

    Returns:
        The split plan.

    Raises:
        DataGateFailed: There are too few posters to deal, or every subgenre has too few films.
    """
    catalog = Catalog(catalog_uri)
    labels = genres_of(label_set)
    rare = subgenres_left_out(catalog, labels, settings.subgenre_films)
    posters, credited = read_posters(catalog, tuple(name for name in labels if name not in rare))
    if rare:
        logger.info(
            "balance: subgenres with fewer than %d films are left out: %s",
            settings.subgenre_films,
            ", ".join(f"{name} {films}" for name, films in rare.items()),
        )
    plan = make_plan(posters, label_set, settings)
    plan.balance.update(
        catalog_digest=catalog.manifest.digest,
        labels_left_out=rare,
        left_out=len(catalog) - len(posters),
        attributions=credited,
    )
    logger.info(
        "balance: %s; %d posters left out, %d set aside, %d without a year",
        plan.balance["splits"],
        *(plan.balance[name] for name in ("left_out", "set_aside", "without_year")),
    )
    return plan


def make_plan(posters: Posters, label_set: str, settings: BalanceSettings) -> SplitPlan:
    """Deal and weigh posters; what `balance` does once it has read the catalog.

    Args:
        posters: Posters with one label or more, in the order of their ids.
        label_set: `all18`, `study4` or `subgenres`.
        settings: Kind of split, shares, strategy and seed.

    Returns:
        The split plan, without what only the catalog knows.

    Raises:
        DataGateFailed: There are too few posters to deal.
    """
    groups = group_posters(posters.frame, settings.near_duplicate_bits)
    dealt = deal(groups, posters.labels, posters.frame, settings)
    used = dealt.splits != NOWHERE
    posters, groups, splits = posters.take(used), groups[used], dealt.splits[used]
    train = splits == TRAIN
    counted = np.ones(posters.labels.shape, np.float32)
    counted[train] = label_weights(posters.statuses[train], settings)
    choices = emphases(posters.labels[train], counted[train], settings)
    frame = _rows(posters, groups, splits, choices[settings.strategy], counted)
    report = {
        "label_set": label_set,
        "labels": list(posters.genres),
        "labels_left_out": {},
        "settings": dataclasses.asdict(settings),
        **_deal_facts(dealt, groups, splits),
        **_weights_facts(posters, splits, counted, choices, settings),
        **_content_facts(posters, splits, counted, choices[settings.strategy]),
    }
    return SplitPlan(frame, report)


def _rows(
    posters: Posters,
    groups: NDArray[np.int64],
    splits: NDArray[Any],
    chosen: Emphasis,
    counted: NDArray[np.float32],
) -> pd.DataFrame:
    """Build split.parquet; validation and test rows count 1 in every way."""
    train = splits == TRAIN
    weights, repeats = np.ones(len(posters), np.float32), np.ones(len(posters), np.uint8)
    weights[train], repeats[train] = chosen.weights, chosen.repeats
    return pd.DataFrame(
        {
            "poster_id": posters.frame["poster_id"],
            "group_id": [f"g{group:06d}" for group in groups],
            "split": splits,
            "weight": weights,
            "repeats": repeats,
            "label_weights": list(counted),
        }
    )


def _deal_facts(dealt: Deal, groups: NDArray[np.int64], splits: NDArray[Any]) -> dict[str, Any]:
    return {
        "posters": len(splits),
        "groups": len(np.unique(groups)),
        "largest_group": int(np.bincount(groups).max()),
        "straddling_groups": dealt.straddling_groups,
        "set_aside": dealt.set_aside,
        "without_year": dealt.without_year,
        "splits": {name: int((splits == name).sum()) for name in SPLITS},
    }


def _weights_facts(
    posters: Posters,
    splits: NDArray[Any],
    counted: NDArray[np.float32],
    choices: dict[str, Emphasis],
    settings: BalanceSettings,
) -> dict[str, Any]:
    genres, train = posters.genres, splits == TRAIN
    chosen = choices[settings.strategy].class_weights.tolist()
    return {
        "test_split": settings.split,
        "strategy": settings.strategy,
        "class_weights": dict(zip(genres, chosen, strict=True)),
        "strategies": {
            name: effects(posters.labels[train], counted[train], emphasis, genres)
            for name, emphasis in choices.items()
        },
        "rare": figures.rare_genres(posters.labels, splits, genres, settings.rare_below),
        "disputes": figures.disputes(posters.statuses, splits, counted, genres),
    }


def _content_facts(
    posters: Posters,
    splits: NDArray[Any],
    counted: NDArray[np.float32],
    chosen: Emphasis,
) -> dict[str, Any]:
    genres, eras, train = posters.genres, posters.frame["era"], splits == TRAIN
    shares = figures.genre_shares(posters.labels, splits, genres)
    after = effects(posters.labels[train], counted[train], chosen, genres)["genres"]
    return {
        "genres": {
            genre: {**row, "train_weighted": after[genre]["share"]} for genre, row in shares.items()
        },
        "eras": figures.era_shares(eras, splits, chosen.counts),
        "films_by_year": figures.films_by_year(posters, splits),
        "genres_by_era": figures.genres_by_era(posters.labels, eras, genres),
        "cooccurrence": figures.cooccurrence(posters.labels),
    }
