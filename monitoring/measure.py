"""Measures drift: everything that may have moved between a reference profile and a window's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from marquee import histograms
from marquee.eras import ERAS
from marquee.errors import UsageError
from marquee.profile import BINS, GIVEN, MEASURES, NO, PREDICTED, SLICES, YES, Profile
from marquee.settings import DriftSettings
from monitoring import statistics
from monitoring.findings import Finding, Kind, State
from monitoring.statistics import Estimate

Array = NDArray[Any]
_SEED = 0
_COMPARED = tuple(
    number for number, era in enumerate(SLICES) if era.removeprefix(PREDICTED) in ERAS
)
"""Slices of eras, given or guessed; films without any are a slice that is counted only."""
_FAMILIES = 2 * len(Kind)
"""In all posters, and by era."""
_EXPECTED = 10
"""A slice may be missed once so many posters of it were to be expected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A reference and a window, ready to be compared."""

    reference: Profile
    window: Profile
    settings: DriftSettings

    @classmethod
    def of(cls, reference: Profile, window: Profile, settings: DriftSettings) -> "Pair":
        """Bring two profiles to the same bins.

        Raises:
            UsageError: They are of other genres.
        """
        if reference.genres != window.genres:
            raise UsageError(
                f"the window's genres are {', '.join(window.genres)}, the reference's "
                f"{', '.join(reference.genres)}",
                remedy="compare predictions of this bundle only",
            )
        bins = min(reference.bins, window.bins)
        return cls(
            reference=reference.with_bins(bins), window=window.with_bins(bins), settings=settings
        )

    @property
    def sides(self) -> tuple[Profile, Profile]:
        """Both, the reference first."""
        return self.reference, self.window

    def scores(self) -> tuple[Array, Array]:
        """Scores of all posters by genre and label [G, 3, B]."""
        one, other = (side.scores[:, side.whole].sum(axis=1) for side in self.sides)
        return one, other

    def counts(self) -> tuple[Array, Array]:
        """Posters by slice [S]."""
        return self.reference.posters, self.window.posters


def measure(reference: Profile, window: Profile, settings: DriftSettings) -> list[Finding]:
    """Compare a window with a reference.

    Args:
        reference: What the bundle has sealed.
        window: What was counted since.
        settings: Thresholds and the least samples.

    Returns:
        A finding for each thing in each slice, with p-values adjusted over all of them.

    Raises:
        UsageError: The two are of other genres.
    """
    pair = Pair.of(reference, window, settings)
    random = np.random.default_rng(_SEED)
    found = [
        *_looks(pair, random),
        *_embeddings(pair),
        _years(pair),
        *_eras(pair, random),
        *_genre_mix(pair),
        *_predictions(pair, random),
        *_unsure(pair),
        *_precision(pair, random),
        *_calibration(pair),
    ]
    return _judged(found, settings)


def _judged(findings: Sequence[Finding], settings: DriftSettings) -> list[Finding]:
    """Adjust the p-values, and say what each finding amounts to.

    Each kind of drift is a family of its own with its part of the false alarms, and so are its
    slices by era: what is found in one must not make it easier to find something in another. Nor
    must the eras of a genre that has drifted as a whole, which are adjusted by themselves.
    """
    whole = _adjusted([f for f in findings if not f.era], settings)
    drifted = {(f.what, f.genre) for f in whole if f.state is State.DRIFT}
    parts = [f for f in findings if f.era]
    implied = [f for f in parts if (f.what, f.genre) in drifted]
    others = [f for f in parts if (f.what, f.genre) not in drifted]
    return [*whole, *_adjusted(implied, settings), *_adjusted(others, settings)]


def _adjusted(findings: Sequence[Finding], settings: DriftSettings) -> list[Finding]:
    adjusted = np.full(len(findings), np.nan)
    for kind in Kind:
        tested = [n for n, f in enumerate(findings) if f.kind is kind and not np.isnan(f.p)]
        if tested:
            values = false_discovery_control([min(findings[n].p, 1.0) for n in tested])
            adjusted[tested] = np.minimum(values * _FAMILIES, 1.0)
    return [
        replace(finding, p_adjusted=float(p), state=_state(finding, float(p), settings))
        for finding, p in zip(findings, adjusted, strict=True)
    ]


def _state(finding: Finding, p: float, settings: DriftSettings) -> State:
    if np.isnan(p) or np.isnan(finding.effect):
        return State.INSUFFICIENT
    if abs(finding.effect) < finding.threshold:
        return State.STABLE
    return State.DRIFT if p < settings.false_alarm else State.UNCLEAR


def _finding(estimate: Estimate | None, place: Any = (), **said: Any) -> Finding:
    """Make a finding of one place of an estimate; without one, samples are too few."""
    if estimate is None:
        return Finding(**said)
    effect, low, high, p = (float(values[place]) for values in estimate)
    return Finding(effect=effect, low=low, high=high, p=p, **said)


def _slices(pair: Pair) -> list[int]:
    """Give the eras that the reference has posters of."""
    return [number for number in _COMPARED if pair.reference.posters[number]]


def _looks(pair: Pair, random: np.random.Generator) -> Iterator[Finding]:
    """Compare what posters look like, in all and in each era."""
    least = pair.settings.min_samples
    for m, (name, (low, high)) in enumerate(MEASURES.items()):
        places: list[tuple[str, tuple[Array, Array]]] = [
            ("", tuple(side.measures[m, side.whole].sum(axis=0) for side in pair.sides))
        ]
        places += [
            (SLICES[s], (pair.reference.measures[m, s], pair.window.measures[m, s]))
            for s in _slices(pair)
        ]
        compare = statistics.turned if name == "hue" else statistics.moved
        for era, (before, after) in places:
            counts = int(before.sum()), int(after.sum())
            said = {
                "kind": Kind.INPUT,
                "what": name,
                "signed": False,
                "era": era,
                "threshold": pair.settings.look,
                "unit": "SD",
                "reference": counts[0],
                "window": counts[1],
            }
            if min(counts) < least:
                yield _finding(None, **said)
                continue
            # Bins are wider than some measures' spread; what is within one bin is none.
            spread = max(float(histograms.deviation(before)), 1 / BINS)
            scaled = compare(before, after, random).scaled(1 / spread)
            ends = (low + (high - low) * float(histograms.mean(side)) for side in (before, after))
            yield _finding(scaled, **said, **dict(zip(("before", "after"), ends, strict=True)))


def _embeddings(pair: Pair) -> Iterator[Finding]:
    sides = [side.embeddings for side in pair.sides]
    said = {
        "kind": Kind.INPUT,
        "what": "embeddings",
        "signed": False,
        "threshold": pair.settings.told_apart - 0.5,
        "unit": "AUC above .5",
        "reference": len(sides[0]),
        "window": len(sides[1]),
    }
    if not len(sides[0]):
        return
    if min(map(len, sides)) < 2 * pair.settings.min_samples:
        yield _finding(None, **said)
        return
    yield _finding(statistics.told_apart(sides[0], sides[1], _SEED), **said)


def _years(pair: Pair) -> Finding:
    """Compare how many posters came without a year: their eras are unknown, or guessed."""
    given = [int(side.posters[: GIVEN - 1].sum()) for side in pair.sides]
    counts = [side.total for side in pair.sides]
    without = [count - known for count, known in zip(counts, given, strict=True)]
    said = {
        "kind": Kind.INPUT,
        "what": "without a year",
        "threshold": pair.settings.without_year,
        "unit": "of the posters",
        "reference": counts[0],
        "window": counts[1],
    }
    if min(counts) < pair.settings.min_samples:
        return _finding(None, **said)
    estimate = statistics.shares(without[0], counts[0], without[1], counts[1])
    return _finding(estimate, **said, before=without[0] / counts[0], after=without[1] / counts[1])


def _eras(pair: Pair, random: np.random.Generator) -> Iterator[Finding]:
    """Compare the mix of eras, and tell of each whether it has come or gone."""
    for group in (range(GIVEN - 1), range(GIVEN, len(SLICES))):
        before, after = (side.posters[group.start : group.stop] for side in pair.sides)
        counts = int(before.sum()), int(after.sum())
        if not counts[0]:
            continue
        guessed = PREDICTED if group.start else ""
        said = {"kind": Kind.PRIOR, "reference": counts[0], "window": counts[1]}
        enough = min(counts) >= pair.settings.min_samples
        yield _finding(
            statistics.mix(before, after, random) if enough else None,
            **said,
            what=f"{guessed}era mix",
            signed=False,
            threshold=pair.settings.era_mix,
            unit="of the posters",
        )
        estimate = statistics.shares(before, counts[0], after, counts[1]) if enough else None
        for n, number in enumerate(group):
            one, other = int(before[n]), int(after[n])
            expected = one / counts[0] * counts[1]
            gone = not other and expected >= _EXPECTED
            come = not one and other >= _EXPECTED
            if not (one or other):
                continue
            yield _finding(
                estimate,
                n,
                **said,
                what="disappeared" if gone else "appeared" if come else "share",
                era=SLICES[number],
                # Of an era that is still there, the mix tells whether it drifts.
                threshold=0.0 if gone or come else 1.0,
                unit="of the posters",
                before=one / counts[0],
                after=other / max(counts[1], 1),
            )


def _genre_mix(pair: Pair) -> Iterator[Finding]:
    """Compare how frequent genres are: as is known, or else as the model chose."""
    before, after = pair.scores()
    labelled = [side[:, (NO, YES)].sum(axis=(1, 2)) for side in (before, after)]
    known = bool((np.minimum(*labelled) >= pair.settings.min_samples).all())
    for g, genre in enumerate(pair.reference.genres):
        if known:
            owns = [int(side[g, YES].sum()) for side in (before, after)]
            counts = [int(side[g]) for side in labelled]
        else:
            owns = [int(side.chosen[g, side.whole].sum()) for side in pair.sides]
            counts = [side.total for side in pair.sides]
        said = {
            "kind": Kind.PRIOR if known else Kind.PREDICTION,
            "what": "frequency" if known else "chosen",
            "genre": genre,
            "threshold": pair.settings.frequency,
            "unit": "of what it was",
            "reference": counts[0],
            "window": counts[1],
        }
        if min(counts) < pair.settings.min_samples or owns[0] < _EXPECTED:
            yield _finding(None, **said)
            continue
        share = owns[0] / counts[0]
        relative = statistics.shares(owns[0], counts[0], owns[1], counts[1]).scaled(1 / share)
        yield _finding(relative, **said, before=share, after=owns[1] / counts[1])


def _predictions(pair: Pair, random: np.random.Generator) -> Iterator[Finding]:
    """Compare distributions of probabilities: of each genre, in all and in each era."""
    slices = _slices(pair)
    before, after = (
        np.concatenate(
            [
                side.scores[:, side.whole].sum(axis=(1, 2))[:, np.newaxis],
                side.scores[:, slices].sum(axis=2),
            ],
            axis=1,
        )
        for side in pair.sides
    )
    counts = before.sum(axis=-1), after.sum(axis=-1)
    enough = np.minimum(*counts) >= pair.settings.min_samples
    estimate = statistics.moved(before[enough], after[enough], random)
    places = np.cumsum(enough.ravel()).reshape(enough.shape) - 1
    means = histograms.mean(before), histograms.mean(after)
    for g, genre in enumerate(pair.reference.genres):
        for n, era in enumerate(["", *(SLICES[s] for s in slices)]):
            said = {
                "kind": Kind.PREDICTION,
                "what": "probability",
                "signed": False,
                "genre": genre,
                "era": era,
                "threshold": pair.settings.probability,
                "reference": int(counts[0][g, n]),
                "window": int(counts[1][g, n]),
            }
            if not enough[g, n]:
                yield _finding(None, **said)
                continue
            ends = {"before": float(means[0][g, n]), "after": float(means[1][g, n])}
            yield _finding(estimate, int(places[g, n]), **said, **ends)


def _unsure(pair: Pair) -> Iterator[Finding]:
    """Compare how often the model is unsure, in each era and in all."""
    places: list[tuple[str, list[int], list[int]]] = [
        (
            "",
            [int(side.unsure[side.whole].sum()) for side in pair.sides],
            [side.total for side in pair.sides],
        )
    ]
    places += [
        (
            SLICES[s],
            [int(side.unsure[s]) for side in pair.sides],
            [int(side.posters[s]) for side in pair.sides],
        )
        for s in _slices(pair)
    ]
    for era, unsure, counts in places:
        said = {
            "kind": Kind.PREDICTION,
            "what": "unsure",
            "era": era,
            "threshold": pair.settings.unsure,
            "unit": "of the posters",
            "reference": counts[0],
            "window": counts[1],
        }
        if min(counts) < pair.settings.min_samples:
            yield _finding(None, **said)
            continue
        estimate = statistics.shares(unsure[0], counts[0], unsure[1], counts[1])
        yield _finding(estimate, **said, before=unsure[0] / counts[0], after=unsure[1] / counts[1])


def _precision(pair: Pair, random: np.random.Generator) -> Iterator[Finding]:
    """Compare average precisions with the prior held fixed, where labels are known."""
    before, after = pair.scores()
    for g, genre in enumerate(pair.reference.genres):
        sides = [(side[g, NO], side[g, YES]) for side in (before, after)]
        counts = [int(positive.sum()) for _, positive in sides]
        said = {
            "kind": Kind.CONCEPT,
            "what": "average precision",
            "genre": genre,
            "threshold": pair.settings.precision,
            "reference": counts[0],
            "window": counts[1],
        }
        if not counts[0]:
            continue
        enough = min(counts) >= pair.settings.min_positives
        if not enough or not min(negative.sum() for negative, _ in sides):
            yield _finding(None, **said)
            continue
        prior = np.array(counts[0] / before[g, (NO, YES)].sum())

        def figure(negative: Array, positive: Array, prior: Array = prior) -> Array:
            return statistics.average_precision(negative, positive, prior)

        estimate = statistics.changed(figure, sides[0], sides[1], random)
        ends = [float(figure(*side)) for side in sides]
        yield _finding(estimate, **said, before=ends[0], after=ends[1])


def _calibration(pair: Pair) -> Iterator[Finding]:
    """Compare how steeply truth rises with probabilities, over all genres."""
    sides = pair.scores()
    enough = (
        np.minimum(*(side[:, YES].sum(axis=-1) for side in sides)) >= pair.settings.min_positives
    )
    said = {
        "kind": Kind.CONCEPT,
        "what": "calibration",
        "threshold": float(np.log(pair.settings.steepness)),
        "unit": "log of the slope",
        "reference": int(sides[0][:, YES].sum()),
        "window": int(sides[1][:, YES].sum()),
    }
    if not sides[0][:, YES].sum():
        return
    fits = [statistics.slopes(side[enough, NO], side[enough, YES]) for side in sides]
    gains, errors = fits[1][0] - fits[0][0], np.hypot(fits[0][1], fits[1][1])
    estimate = statistics.agreed(gains, errors)
    yield _finding(estimate, **said, before=1.0, after=float(np.exp(estimate.effect)))
