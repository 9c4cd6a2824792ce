"""Deal groups of films into training, validation and test: before any weighing, whole groups."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from numpy.typing import NDArray

from marquee.errors import DataGateFailed
from marquee.settings import BalanceSettings
from marquee.split import TEST, TRAIN, VALIDATION

NOWHERE = ""
"""The split of a poster that a temporal split can put on neither side."""
_FEWEST = 20
"""Groups of films that can be dealt into training and validation."""
_FEWEST_TESTED = 3
_TOLERANCE = 0.02
"""How far a split may be off in its size, or in a genre's share, before groups are moved."""


@dataclass(frozen=True)
class Deal:
    """Who goes where."""

    splits: NDArray[np.object_]
    """The split of each of N posters, or `NOWHERE`."""
    straddling_groups: int = 0
    """Groups with films on both sides of the temporal split."""
    set_aside: int = 0
    """Their early posters: dealt nowhere, since the group tests."""
    without_year: int = 0
    """Posters that cannot be placed in time, and are dealt nowhere."""


def deal(
    groups: NDArray[np.int64], labels: NDArray[np.int8], facts: pd.DataFrame, s: BalanceSettings
) -> Deal:
    """Deal posters into the splits; a group goes one way as a whole.

    Genres and eras are spread evenly by iterative stratification (Sechidis, Tsoumakas & Vlahavas,
    On the Stratification of Multi-Label Data, 2011). A genre that then lacks in test or validation
    gets a group there, as long as training keeps another.

    Args:
        groups: Each poster's group [N].
        labels: [N, G] of zeros and ones.
        facts: N rows with year and era.
        s: Kind of split, shares and seed.

    Returns:
        The deal. In a temporal split films after the year test, and earlier ones train and
        validate, without exception: of a group on both sides, the late films test and the early
        ones are set aside, as are posters without a year.

    Raises:
        DataGateFailed: There are too few groups of films.
    """
    if s.split == "random":
        test_share = 1 - s.train - s.validation
        _require(groups, _FEWEST, "with a genre of the label set")
        return Deal(_spread(groups, labels, facts["era"], test_share, s))
    years = facts["year"].to_numpy(dtype=float, na_value=np.nan)
    dated, late = ~np.isnan(years), years > s.temporal_year
    with_late = np.isin(groups, groups[late])
    early = dated & ~late & ~with_late
    set_aside = dated & ~late & with_late
    _require(groups[early], _FEWEST, f"up to {s.temporal_year}")
    _require(groups[late], _FEWEST_TESTED, f"after {s.temporal_year}")
    splits = np.full(len(groups), NOWHERE, dtype=object)
    splits[late] = TEST
    splits[early] = _spread(groups[early], labels[early], facts["era"][early], 0.0, s)
    return Deal(
        splits,
        straddling_groups=len(np.unique(groups[set_aside])),
        set_aside=int(set_aside.sum()),
        without_year=int((~dated).sum()),
    )


def _require(groups: NDArray[np.int64], fewest: int, when: str) -> None:
    found = len(np.unique(groups))
    if found < fewest:
        raise DataGateFailed(
            f"{len(groups)} posters {when} make {found} groups of films, too few to deal",
            remedy=f"bring {fewest} films or more, or change balance.split or temporal_year",
        )


def _spread(
    groups: NDArray[np.int64],
    labels: NDArray[np.int8],
    eras: pd.Series,
    test_share: float,
    s: BalanceSettings,
) -> NDArray[np.object_]:
    """Name each poster's split; without a share for it, none tests."""
    own = np.unique(groups, return_inverse=True)[1]
    traits = np.hstack([labels, pd.get_dummies(eras).to_numpy(dtype=np.int8)])
    # A group has the traits of all its posters.
    of_groups = pd.DataFrame(traits).groupby(own).max().to_numpy()
    names = np.full(len(of_groups), TRAIN, dtype=object)
    rest = np.arange(len(of_groups))
    if test_share:
        rest, test = _stratified(rest, of_groups, test_share, s.seed)
        names[test] = TEST
    share = s.validation / (s.train + s.validation)
    _, validation = _stratified(rest, of_groups, share, s.seed + 1)
    names[validation] = VALIDATION
    validates = share * (1 - test_share)
    shares = {TRAIN: 1 - test_share - validates, VALIDATION: validates}
    if test_share:
        shares = {TEST: test_share, **shares}
    genres = labels.shape[1]
    _even_out(names, of_groups, genres, shares)
    _share_rare(names, of_groups[:, :genres] > 0, np.bincount(own))
    return names[own]


def _stratified(
    items: NDArray[np.int64], traits: NDArray[np.int8], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part items into (the rest, `share` of them) with even traits."""
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    rest, taken = next(splitter.split(items, traits[items]))
    return items[rest], items[taken]


def _even_out(
    names: NDArray[np.object_],
    traits: NDArray[np.int8],
    genres: int,
    shares: dict[str, float],
) -> None:
    """Move groups, one at a time, until sizes and genres are within the tolerance.

    Iterative stratification deals the rarest traits first. Where eras are rarer than genres, it
    has dealt every group before it comes to a common genre, which then falls as it may. Each move
    is the one that most lowers the sum of (found - wanted)^2 / total over splits and traits.

    Args:
        names: The split of each of M groups; changed in place.
        traits: Which genres and eras each group has [M, T], genres first.
        genres: How many of the T traits are genres.
        shares: The share of the groups that each split is to have.
    """
    has = np.hstack([traits, np.ones((len(traits), 1))], dtype=np.float32)
    totals = np.maximum(has.sum(axis=0, dtype=np.float64), 1)
    own = has @ (1 / totals).astype(np.float32)
    for _ in range(len(names)):
        found = {split: (names == split).astype(np.float32) @ has for split in shares}
        if all(_is_even(found[split], totals, genres, share) for split, share in shares.items()):
            return
        surplus = {split: found[split] / totals - share for split, share in shares.items()}
        gain, group, split = _best_move(names, has, own, surplus)
        if gain <= 0:
            return
        names[group] = split


def _is_even(
    found: NDArray[np.float64], totals: NDArray[np.float64], genres: int, share: float
) -> bool:
    """Tell whether a split's size, which stands last, and its genres are within the tolerance."""
    gaps = found[:genres] / max(found[-1], 1) - totals[:genres] / totals[-1]
    return bool(np.abs([*gaps, found[-1] / totals[-1] - share]).max() <= _TOLERANCE)


def _best_move(
    names: NDArray[np.object_],
    has: NDArray[np.float32],
    own: NDArray[np.float32],
    surplus: dict[str, NDArray[np.float64]],
) -> tuple[float, int, str]:
    """Find the move of one group that most lowers the sum of squares.

    Args:
        names: The split of each of M groups.
        has: The traits of each [M, T].
        own: The sum of 1 / total over each group's traits [M].
        surplus: Split to what it has too much of each trait, as shares of the totals [T].

    Returns:
        Half of what is gained, the group, and where it goes.
    """
    moves = []
    for giver, taker in permutations(surplus, 2):
        rows = np.flatnonzero(names == giver)
        if len(rows):
            excess = (surplus[giver] - surplus[taker]).astype(np.float32)
            gains = has[rows] @ excess - own[rows]
            moves.append((float(gains.max()), int(rows[gains.argmax()]), taker))
    return max(moves)


def _share_rare(
    names: NDArray[np.object_], has: NDArray[np.bool_], sizes: NDArray[np.int64]
) -> None:
    """Give each genre that a split lacks a training group there, if training keeps another.

    Args:
        names: The split of each of M groups; changed in place.
        has: Which genres each group has [M, G].
        sizes: Posters of each group; the smallest group moves.
    """
    for split in (name for name in (TEST, VALIDATION) if (names == name).any()):
        for genre in np.flatnonzero(~has[names == split].any(axis=0)):
            train = names == TRAIN
            kept = has[train].sum(axis=0) > 1
            movable = np.flatnonzero(train & has[:, genre] & ~(has & ~kept).any(axis=1))
            if len(movable):
                names[movable[np.argmin(sizes[movable])]] = split
