"""The posters that a bundle is scored on: narrow columns of the catalog, no pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.catalog import Catalog
from marquee.errors import DataGateFailed
from marquee.genres import label_columns, label_matrix
from marquee.licences import check_not_expired
from marquee.profile import ATTRIBUTES
from marquee.split import TEST, TRAIN, SplitPlan

_TEXTS = ("poster_id", "film_id", "title", "sha256")
_TEXT = "string[pyarrow]"
"""Texts in one piece of memory, instead of an object each."""
_COLUMNS = (
    *_TEXTS,
    *("year", "era", "source", "expires_at"),
    *ATTRIBUTES,
    *("shard_offset", "size"),
)


@dataclass(frozen=True)
class Posters:
    """The test posters, and what the baselines know."""

    frame: pd.DataFrame
    """N rows: facts, and where the images are."""
    labels: NDArray[np.int8]
    """[N, G]."""
    train_labels: NDArray[np.int8]
    """Of the training posters [M, G]."""
    balance: dict[str, Any]
    """What `SplitPlan.balance` says of the split."""

    def __len__(self) -> int:
        return len(self.frame)


def read_posters(catalog: Catalog, plan: SplitPlan) -> Posters:
    """Read the posters of a split plan.

    Args:
        catalog: The catalog.
        plan: The plan made for it.

    Raises:
        DataGateFailed: No test poster has a label, or the terms of some are over.
    """
    frames, labels, train_labels = [], [], []
    columns = [*_COLUMNS, *label_columns(plan.genres)]
    for found in catalog.by_part(columns, plan.frame[["poster_id", "split"]]):
        has = label_matrix(found, plan.genres)
        test, train = ((found["split"] == split).to_numpy() for split in (TEST, TRAIN))
        frames.append(found.loc[test, [*_COLUMNS, "part"]].astype(dict.fromkeys(_TEXTS, _TEXT)))
        labels.append(has[test])
        train_labels.append(has[train])
    posters = Posters(
        pd.concat(frames, ignore_index=True),
        np.concatenate(labels),
        np.concatenate(train_labels),
        plan.balance,
    )
    if not posters.labels.any():
        raise DataGateFailed(
            f"no poster of the split test has a label of {plan.label_set}",
            remedy="bring more posters, or lower balance.train and balance.validation",
        )
    check_not_expired(posters.frame)
    return posters
