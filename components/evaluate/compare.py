"""The champion gate: is a new model better than the one that is served, on the same posters?"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate.posters import Posters
from components.evaluate.predict import predict_posters
from marquee.bootstrap import interval, resampled
from marquee.catalog import Catalog
from marquee.decision import decide
from marquee.engine import Engine
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import UsageError
from marquee.lineage import read_training_posters
from marquee.metrics import calibration_errors, score
from marquee.settings import GateSettings
from marquee.verdict import Check, Outcome, Verdict

_TIMED = 32
"""Posters on which both models are timed."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A model and what it says of the test posters."""

    engine: Engine
    probabilities: NDArray[np.float64]
    """[N, G]."""

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """Which genres it chooses [N, G]."""
        return decide(self.probabilities, self.engine.bundle.info.thresholds)[0]


@dataclass(frozen=True)
class Gain:
    """How much higher a figure of the challenger is."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What came of holding a challenger against the champion."""

    verdict: Verdict
    gains: Mapping[str, Gain] = field(default_factory=dict)
    """Of macro mAP, of genres' average precision, and of macro mAP in eras, by name; empty if the
    two were not compared."""


def compare(
    challenger: Engine,
    champion: Engine,
    catalog: Catalog,
    posters: Posters,
    settings: GateSettings,
) -> Contest:
    """Hold a challenger against the champion on the challenger's test posters.

    Posters that trained the champion are left out: it would know them by heart.

    Args:
        challenger: Runs the new bundle.
        champion: Runs the served one.
        catalog: Holds the posters.
        posters: The challenger's test posters.
        settings: What is asked.

    Raises:
        UsageError: The two predict different genres.
        DataError: A poster is missing or damaged.
    """
    genres = challenger.bundle.info.genres
    if champion.bundle.info.genres != genres:
        raise UsageError(
            f"the champion {champion.bundle.version[:12]} predicts other genres",
            remedy="compare models of one label set",
        )
    rows = _unseen(posters.frame, champion)
    subject = f"{challenger.bundle.version[:12]} beside {champion.bundle.version[:12]}"
    if len(rows) < settings.min_posters:
        too_few = Verdict(gate="quality", subject=subject, checks=(_too_few(len(rows), settings),))
        return Contest(verdict=too_few)
    frame = posters.frame.iloc[rows].reset_index(drop=True)
    new, old = (
        Contestant(engine=engine, probabilities=predict_posters(engine, catalog, frame))
        for engine in (challenger, champion)
    )
    checks, gains = judge_contest(new, old, posters.labels[rows], frame, settings)
    checks.append(_latency(new, old, settings))
    return Contest(
        verdict=Verdict(gate="quality", subject=subject, checks=tuple(checks)), gains=gains
    )


def _unseen(frame: pd.DataFrame, champion: Engine) -> NDArray[np.int64]:
    known = read_training_posters(str(champion.bundle.folder))
    if known is None:
        return np.arange(len(frame))
    seen = frame["poster_id"].isin(known["poster_id"]) | frame["film_id"].isin(known["film_id"])
    return np.flatnonzero(~seen.to_numpy())


def _too_few(count: int, settings: GateSettings) -> Check:
    return Check(
        name="test posters that the champion does not know",
        outcome=Outcome.INCONCLUSIVE,
        measured=f"{count:,}",
        bound=f"at least {settings.min_posters:,}",
        remedy="compare on a catalog that the champion was not trained on",
    )


def judge_contest(
    new: Contestant,
    old: Contestant,
    labels: NDArray[np.int8],
    frame: pd.DataFrame,
    settings: GateSettings,
) -> tuple[list[Check], dict[str, Gain]]:
    """Compare what two models say of the same posters.

    Args:
        new: The challenger.
        old: The champion.
        labels: What the posters have [N, G].
        frame: Their `film_id` and `era` [N].
        settings: What is asked.

    Returns:
        Checks, and the gains behind them, with intervals of a paired bootstrap by film.
    """
    films = pd.factorize(frame["film_id"])[0]
    gained = _gained(new, old, labels, films)
    counts = zip(new.engine.bundle.info.genres, labels.sum(axis=0), strict=True)
    genres = {g: gained[f"ap/{g}"] for g, count in counts if count >= settings.min_posters}
    eras = dict(_by_era(new, old, labels, frame, settings))
    checks = [
        _better(gained["macro_map"], settings),
        _floor("genres", genres, settings.genre_drop, "average precision"),
        _floor("eras", eras, settings.era_drop, "macro mAP"),
        _calibration(new, old, labels, settings),
    ]
    return checks, {"macro mAP": gained["macro_map"], **genres, **eras}


def _gained(
    new: Contestant, old: Contestant, labels: NDArray[np.int8], films: NDArray[np.int64]
) -> dict[str, Gain]:
    genres = new.engine.bundle.info.genres
    figures, samples = [], []
    for side in (new, old):
        given = (labels, side.probabilities, side.chosen, genres)
        figures.append(score(*given))
        samples.append(resampled(*given, films))
    return {
        name: Gain(
            figures[0][name] - figures[1][name], *interval(samples[0][name] - samples[1][name])
        )
        for name in samples[0]
    }


def _better(gain: Gain, settings: GateSettings) -> Check:
    outcome = Outcome.INCONCLUSIVE
    if gain.low > -settings.margin:
        outcome = Outcome.PASSED
    elif gain.high < -settings.margin:
        outcome = Outcome.FAILED
    remedies = {
        Outcome.PASSED: "",
        Outcome.FAILED: "keep the champion",
        Outcome.INCONCLUSIVE: "the difference may be noise: test on more posters, or allow a "
        "margin (gate.margin)",
    }
    return Check(
        name="macro mAP",
        outcome=outcome,
        measured=f"gains {gain}",
        bound=f"more than {0 - settings.margin:g}",
        remedy=remedies[outcome],
    )


def _floor(what: str, gains: Mapping[str, Gain], drop: float, figure: str) -> Check:
    """Ask that no slice falls by more than `drop`; one that may have is inconclusive."""
    failed = [name for name, gain in gains.items() if gain.high < -drop]
    unclear = [name for name, gain in gains.items() if gain.value < -drop and name not in failed]
    outcome = Outcome.FAILED if failed else Outcome.INCONCLUSIVE if unclear else Outcome.PASSED
    worst = min(gains, key=lambda name: gains[name].value, default="")
    return Check(
        name=f"{figure} of {what}",
        outcome=outcome,
        measured=f"{worst} gains {gains[worst]}" if worst else "none has enough posters",
        bound=f"none falls by more than {drop:g}",
        blame=tuple(failed or unclear),
        remedy="" if outcome is Outcome.PASSED else "look at what it gets wrong there",
    )


def _by_era(
    new: Contestant,
    old: Contestant,
    labels: NDArray[np.int8],
    frame: pd.DataFrame,
    settings: GateSettings,
) -> Iterator[tuple[str, Gain]]:
    for era in (*ERAS, UNKNOWN_ERA):
        rows = np.flatnonzero(frame["era"] == era)
        if len(rows) >= settings.min_posters and labels[rows].any():
            films = pd.factorize(frame["film_id"].iloc[rows])[0]
            gained = _gained(_part(new, rows), _part(old, rows), labels[rows], films)
            yield era, gained["macro_map"]


def _part(side: Contestant, rows: NDArray[np.int64]) -> Contestant:
    return Contestant(engine=side.engine, probabilities=side.probabilities[rows])


def _calibration(
    new: Contestant, old: Contestant, labels: NDArray[np.int8], settings: GateSettings
) -> Check:
    ours, theirs = (
        float(calibration_errors(labels, side.probabilities).mean()) for side in (new, old)
    )
    holds = ours <= theirs + settings.calibration_loss
    return Check(
        name="calibration",
        outcome=Outcome.PASSED if holds else Outcome.FAILED,
        measured=f"ECE {ours:.3f}, champion {theirs:.3f}",
        bound=f"at most {settings.calibration_loss:g} more",
        remedy="" if holds else "calibrate on more validation posters",
    )


def _latency(new: Contestant, old: Contestant, settings: GateSettings) -> Check:
    ours, theirs = milliseconds((new.engine, old.engine))
    holds = ours <= max(settings.latency_ratio * theirs, settings.latency_ms)
    return Check(
        name="time for a poster",
        outcome=Outcome.PASSED if holds else Outcome.FAILED,
        measured=f"{ours:.1f} ms, champion {theirs:.1f} ms",
        bound=f"at most {settings.latency_ratio:g} times, or {settings.latency_ms:g} ms",
        remedy="" if holds else "use a smaller architecture or a lower precision",
    )


def milliseconds(engines: Sequence[Engine]) -> list[float]:
    """Time engines on one poster at a time, in turns.

    Returns:
        The median milliseconds of each.
    """
    times: list[list[float]] = [[] for _ in engines]
    random = np.random.default_rng(0)
    for _ in range(_TIMED):
        for engine, seen in zip(engines, times, strict=True):
            size = engine.bundle.info.preprocessing
            image = random.integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
            start = time.perf_counter()
            engine.probabilities(image)
            seen.append((time.perf_counter() - start) * 1000)
    return [median(seen) for seen in times]
