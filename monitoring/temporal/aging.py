"""Train before, test after: what heads that learnt from older posters make of newer ones.

The features are plain measurements (`look`), so nothing of a later era is in them; a network's
embedding would have learnt from it. All heads learn from equally many films, so that they differ
in how old these are and in nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from marquee.eras import ERAS
from marquee.genres import VISUAL_GENRES
from monitoring.temporal.ranking import (
    FEWEST_TESTED,
    Labels,
    Ranking,
    frequent_genres,
    interval,
    rank,
    resampled_areas,
)
from monitoring.temporal.trends import Interval

FEWEST_TRAINED = 200
"""From fewer films before a cut nothing is learnt."""
_MOST_TRAINED = 2000
_FOLDS = 5
_STRENGTHS = np.logspace(1, 5, 9)
"""Ridge penalties; each genre's is chosen by leave-one-out on the training films."""

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a head makes of an era."""

    before: str
    """The head learnt from films before this era began; empty: from films of all eras."""
    era: str
    ranking: Ranking | None
    """None if the era has too few films."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a head loses on an era by not having seen it."""

    before: str
    era: str
    area: Interval
    """Area under the ROC curve less that of a head that has seen the era, on the same films."""


@dataclass(frozen=True, kw_only=True)
class Aging:
    """The grid of cuts and later eras."""

    trained: int
    """The films that each head learnt from."""
    genres: tuple[str, ...]
    """The genres that are frequent enough in every slice; all figures are averages over them."""
    cuts: tuple[str, ...]
    """The eras at whose beginning films were cut."""
    too_early: tuple[str, ...]
    """Eras before which there are too few films to learn from."""
    eras: tuple[str, ...]
    """The eras tested."""
    cells: tuple[Cell, ...]
    costs: tuple[Cost, ...]
    by_age: tuple[Interval, ...]
    """The mean cost of heads whose films end where the era begins, one era earlier, and so on.

    All intervals are of which films test; which films are learnt from is chance as well.
    """
    old: Interval | None
    """The mean cost of all heads that stopped an era or more before; None without any."""


def age(features: Features, labels: Labels, eras: Sequence[str], seed: int) -> Aging | None:
    """Train heads before the beginning of each era, and test them on what came after.

    Args:
        features: Of n films [n, F].
        labels: Which of `VISUAL_GENRES` they have [n, G].
        eras: The era of each.
        seed: Chooses the films to learn from, and the resamples.

    Returns:
        The grid; None if no era has enough films before it and enough of its own.
    """
    return _Ager(features, labels, eras, seed).grid()


class _Ager:
    def __init__(self, features: Features, labels: Labels, eras: Sequence[str], seed: int) -> None:
        self._features, self._labels = features, labels
        self._era = np.array([ERAS.index(era) for era in eras])
        self._seed = seed

    def grid(self) -> Aging | None:
        present = np.unique(self._era)
        before = {int(era): np.flatnonzero(self._era < era) for era in present[1:]}
        cuts = [era for era, rows in before.items() if len(rows) >= FEWEST_TRAINED]
        tested = [era for era in cuts if self._films(era) >= FEWEST_TESTED]
        if not tested:
            return None
        others = len(self._era) - -(-len(self._era) // _FOLDS)
        trained = min(_MOST_TRAINED, others, *(len(before[era]) for era in cuts))
        learnt = {era: self._draw(before[era], trained) for era in cuts}
        slices = [*learnt.values(), *(self._rows(era) for era in tested)]
        genres = frequent_genres(self._labels, slices)
        if not genres:
            return None
        heads = {"": self._crossed(trained, genres)}
        heads |= {ERAS[era]: self._scores(rows, genres) for era, rows in learnt.items()}
        chosen = np.isin(self._era, tested)
        prior = self._labels[chosen][:, genres].mean(axis=0)
        cells = [
            self._cell(before, era, scores, genres, prior)
            for before, scores in heads.items()
            for era in present
            if era >= (ERAS.index(before) if before else tested[0])
        ]
        costs, by_age = self._costs(heads, tested, genres)
        old = [lost for eras_ago, of_age in by_age.items() if eras_ago for lost in of_age]
        return Aging(
            trained=trained,
            genres=tuple(VISUAL_GENRES[g] for g in genres),
            cuts=tuple(ERAS[era] for era in cuts),
            too_early=tuple(ERAS[era] for era in before if era not in cuts),
            eras=tuple(ERAS[era] for era in present if era >= tested[0]),
            cells=tuple(cells),
            costs=costs,
            by_age=tuple(interval(np.mean(of_age, axis=0)) for of_age in by_age.values()),
            old=interval(np.mean(old, axis=0)) if old else None,
        )

    def _rows(self, era: int) -> NDArray[np.int64]:
        return np.flatnonzero(self._era == era)

    def _films(self, era: int) -> int:
        return len(self._rows(era))

    def _draw(self, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        return np.random.default_rng(self._seed).permutation(rows)[:most]

    def _scores(self, train: NDArray[np.int64], genres: Sequence[int]) -> NDArray[np.float64]:
        """Train a linear head, and give its scores of all films [n, G]."""
        head = make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS, alpha_per_target=True))
        head.fit(self._features[train], self._labels[train][:, genres].astype(np.float64))
        return np.asarray(head.predict(self._features)).reshape(len(self._features), -1)

    def _crossed(self, trained: int, genres: Sequence[int]) -> NDArray[np.float64]:
        """Give each film the scores of a head that learnt from other films of all eras."""
        order = np.random.default_rng(self._seed).permutation(len(self._era))
        scores = np.zeros((len(order), len(genres)))
        for fold in np.array_split(order, _FOLDS):
            others = np.setdiff1d(order, fold)
            scores[fold] = self._scores(self._draw(others, trained), genres)[fold]
        return scores

    def _cell(
        self,
        before: str,
        era: int,
        scores: NDArray[np.float64],
        genres: Sequence[int],
        prior: NDArray[np.float64],
    ) -> Cell:
        rows, name = self._rows(era), ERAS[era]
        if len(rows) < FEWEST_TESTED:
            return Cell(before=before, era=name, ranking=None)
        found = rank(self._labels[rows][:, genres], scores[rows], prior, self._seed + era)
        return Cell(before=before, era=name, ranking=found)

    def _costs(
        self, heads: dict[str, NDArray[np.float64]], tested: Sequence[int], genres: Sequence[int]
    ) -> tuple[tuple[Cost, ...], dict[int, list[NDArray[np.float64]]]]:
        """Give what heads lose, and by how many eras they are old the same of all resamples."""
        found: list[Cost] = []
        by_age: dict[int, list[NDArray[np.float64]]] = {}
        for era in tested:
            rows, seed = self._rows(era), self._seed + era
            labels = self._labels[rows][:, genres]
            seen = resampled_areas(labels, heads[""][rows], seed)
            cuts = [before for before in heads if before and ERAS.index(before) <= era]
            for eras_ago, before in enumerate(reversed(cuts)):
                lost = resampled_areas(labels, heads[before][rows], seed) - seen
                found.append(Cost(before=before, era=ERAS[era], area=interval(lost)))
                by_age.setdefault(eras_ago, []).append(lost)
        return tuple(found), by_age
