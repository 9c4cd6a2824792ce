"""How well a bundle does era by era, on posters that it cannot know."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee import bundle as bundles
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.errors import DataError
from marquee.genres import label_columns, label_matrix
from marquee.images import resize
from marquee.lineage import read_training_posters
from marquee.split import TEST, TRAIN, VALIDATION, SplitPlan
from monitoring.temporal.films import Films
from monitoring.temporal.ranking import (
    FEWEST_POSITIVES,
    FEWEST_TESTED,
    Labels,
    Ranking,
    frequent_genres,
    interval,
    rank,
    resampled_areas,
)
from monitoring.temporal.trends import Interval

MOST = 300
"""Films of an era that a bundle predicts at most: a large one takes a tenth of a second each."""
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class EraTest:
    """A bundle on an era."""

    era: str
    trained: int
    """Films of the era that it learnt from, validation included."""
    unseen: int
    """Films of the era that it cannot know, among those looked at."""
    ranking: Ranking | None
    """None if they are too few."""


@dataclass(frozen=True, kw_only=True)
class BundleTest:
    """A bundle on all eras."""

    version: str
    architecture: str
    rule: str
    """Which films count as unseen, in words."""
    newest: int | None
    """The year of the newest film that it learnt from; None if none is in the catalog."""
    genres: tuple[str, ...]
    """Those that enough films of every tested era have; figures are averages over them."""
    eras: tuple[EraTest, ...]
    cost: Interval | None
    """Area under the ROC curve on films later than `newest` less that on unseen earlier ones; None
    if either are too few. Part of it may be that newer films are easier or harder by themselves."""


class Candidate:
    """A bundle that is shown the posters that pass by, and predicts those it cannot know.

    Args:
        bundle_uri: The bundle.
        split_uri: The split plan that it was trained with; without it, the list of training posters
            that is sealed in the bundle tells.
        catalog: Holds the posters.
        films: The catalog's films.
        rows: Those that will be shown [n].
        seed: Chooses which of them are predicted.

    Raises:
        DataError: There is no bundle or plan, they do not belong together, or nobody knows what the
            bundle learnt from.
    """

    def __init__(
        self,
        bundle_uri: str,
        split_uri: str,
        catalog: Catalog,
        films: Films,
        rows: NDArray[np.int64],
        seed: int,
    ) -> None:
        self._bundle = bundles.load(bundle_uri)
        self._engine = Engine(self._bundle)
        self._frame = films.frame.iloc[rows].reset_index(drop=True)
        self._labels = _labels(catalog, self._frame, self._bundle.info.genres)
        learnt, unseen, self._rule = self._known(bundle_uri, split_uri, films)
        seen = films.frame[learnt]
        self._trained = seen["era"].value_counts()
        self._newest = int(seen["year"].max()) if len(seen) else None
        # A label set may leave films out: of those without any of its genres it was taught nothing.
        self._unseen = unseen[rows] & self._labels.any(axis=1)
        self._chosen = self._draw(seed)
        self._scores = np.full(self._labels.shape, np.nan)
        self._waiting: list[tuple[int, NDArray[np.uint8]]] = []

    def _draw(self, seed: int) -> NDArray[np.bool_]:
        """Draw `MOST` unseen films of each era: the first ones by id are often the oldest."""
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(self._unseen))
        first = pd.Series(drawn).groupby(self._frame["era"].to_numpy()[drawn]).head(MOST)
        chosen = np.zeros(len(self._frame), np.bool_)
        chosen[first.to_numpy()] = True
        return chosen

    def _known(
        self, bundle_uri: str, split_uri: str, films: Films
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
        """Tell which films it learnt from, which it cannot know, and by what rule."""
        frame = films.frame
        if split_uri:
            plan = self._plan(bundle_uri, split_uri)
            learnt = frame["poster_id"].isin([*plan.ids(TRAIN), *plan.ids(VALIDATION)]).to_numpy()
            test = frame["poster_id"].isin(plan.ids(TEST)).to_numpy()
            rule = "posters of the split plan's test split, and films later than all that taught it"
        else:
            sealed = read_training_posters(bundle_uri)
            if sealed is None:
                raise DataError(
                    f"{bundle_uri} does not say which posters trained it",
                    remedy="give the split plan that it was trained with (--split), or train again",
                )
            by_poster, by_film = (
                frame[name].isin(sealed[name]).to_numpy() for name in ("poster_id", "film_id")
            )
            learnt = by_poster | by_film
            test = ~learnt
            rule = "films that are not on the bundle's own list of what trained and validated it"
        if not learnt.any():
            return learnt, test, f"{rule} (none of what taught it is in this catalog by its id)"
        later = frame["year"].to_numpy() > frame["year"].to_numpy()[learnt].max()
        pictures = films.pictures()
        alike = np.isin(pictures, pictures[learnt])
        return learnt, (test | later) & ~alike, rule

    def _plan(self, bundle_uri: str, split_uri: str) -> SplitPlan:
        plan = SplitPlan.read(split_uri, ("poster_id", "split"))
        if plan.digest != self._bundle.info.split_digest:
            raise DataError(
                f"{split_uri} is not the split plan that {bundle_uri} was trained with",
                remedy="give that plan, or leave --split out",
            )
        return plan

    def watch(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """See a poster [H, W, 3]; `row` counts from 0 among those shown."""
        if self._chosen[row]:
            size = self._bundle.info.preprocessing
            self._waiting.append((row, resize(pixels, size)))
            if len(self._waiting) == _BATCH:
                self._predict()

    def _predict(self) -> None:
        rows, images = zip(*self._waiting, strict=True)
        logits = self._engine.infer(np.stack(images))["logits"]
        self._scores[list(rows)] = self._bundle.info.calibration.probabilities(logits)
        self._waiting = []

    def result(self, eras: Sequence[str], seed: int) -> BundleTest:
        """Judge what was predicted.

        Args:
            eras: The eras to tell of, in order of time.
            seed: Chooses the resamples of the bootstrap.
        """
        if self._waiting:
            self._predict()
        tested = {era: np.flatnonzero(self._chosen & self._of(era)) for era in eras}
        enough = [rows for rows in tested.values() if len(rows) >= FEWEST_TESTED]
        genres = frequent_genres(self._labels, enough)
        prior = self._labels[np.concatenate(enough)].mean(axis=0) if enough else np.empty(0)
        return BundleTest(
            version=self._bundle.version,
            architecture=self._bundle.info.architecture,
            rule=self._rule,
            newest=self._newest,
            genres=tuple(self._bundle.info.genres[g] for g in genres),
            eras=tuple(
                EraTest(
                    era=era,
                    trained=int(self._trained.get(era, 0)),
                    unseen=int((self._unseen & self._of(era)).sum()),
                    ranking=self._ranking(rows, genres, prior, seed + number),
                )
                for number, (era, rows) in enumerate(tested.items())
            ),
            cost=self._cost(genres, seed),
        )

    def _of(self, era: str) -> NDArray[np.bool_]:
        return (self._frame["era"] == era).to_numpy(np.bool_)

    def _ranking(
        self, rows: NDArray[np.int64], genres: list[int], prior: NDArray[np.float64], seed: int
    ) -> Ranking | None:
        if len(rows) < FEWEST_TESTED or not genres:
            return None
        labels, scores = self._labels[rows][:, genres], self._scores[rows][:, genres]
        return rank(labels, scores, prior[genres], seed)

    def _cost(self, genres: list[int], seed: int) -> Interval | None:
        if self._newest is None or not genres:
            return None
        later = (self._frame["year"] > self._newest).to_numpy()
        areas = []
        for number, side in enumerate((self._chosen & later, self._chosen & ~later)):
            labels = self._labels[side][:, genres]
            if len(labels) < FEWEST_TESTED or (labels.sum(axis=0) < FEWEST_POSITIVES).any():
                return None
            scores = self._scores[side][:, genres]
            areas.append(resampled_areas(labels, scores, seed + number))
        return interval(areas[0] - areas[1])


def _labels(catalog: Catalog, frame: pd.DataFrame, genres: tuple[str, ...]) -> Labels:
    """Find which of a bundle's genres films have [n, G]."""
    chosen = frame[["poster_id"]].astype(object).reset_index(names="row")
    result = np.zeros((len(frame), len(genres)), np.int8)
    for found in catalog.by_part(label_columns(genres), chosen):
        result[found["row"]] = label_matrix(found, genres)
    return result
