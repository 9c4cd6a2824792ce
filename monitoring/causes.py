"""Why something drifted: findings that follow from others, and what is left to be named.

A calibration that changed moves every genre's probabilities; an era that nobody asks about any more
moves the mix of all others. Naming them all would hide what happened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.profile import GIVEN, NO, SLICES, YES
from monitoring import statistics
from monitoring.findings import Finding, Kind, State
from monitoring.measure import Pair

Array = NDArray[Any]
_SEED = 0
Remedy = Callable[[Pair, int, Sequence[int]], tuple[Array, Array] | None]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that happened, and all that follows from it."""

    kind: Kind
    what: str
    """As of a finding."""
    slices: tuple[str, ...] = ()
    """Genres, eras or both, the most moved first; none if it is so everywhere."""
    findings: tuple[Finding, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether the model is less often right."""
        return self.kind is Kind.CONCEPT and any(
            f.what == "calibration" or f.effect < 0 for f in self.findings
        )

    @property
    def name(self) -> str:
        """A name that stays the same from report to report: what, and where."""
        return ": ".join(filter(None, (self.what, ", ".join(sorted(self.slices)))))


def explain(findings: Sequence[Finding], pair: Pair) -> list[Finding]:
    """Mark findings that something else accounts for.

    Args:
        findings: What was measured.
        pair: What it was measured on.

    Returns:
        The same findings, some with `explained_by`.
    """
    found = list(findings)
    for rule in (_coming_and_going, _like_for_like, _general, _chosen):
        found = rule(found, pair)
    return found


def causes(findings: Sequence[Finding]) -> list[Cause]:
    """Group what drifts by what happened.

    Args:
        findings: Explained ones.

    Returns:
        The causes: what users should know first comes first.
    """
    drifting = [finding for finding in findings if finding.drifts]
    groups: dict[tuple[Kind, str, bool | None], list[Finding]] = {}
    for finding in drifting:
        groups.setdefault((finding.kind, finding.what, _rises(finding)), []).append(finding)
    order = list(Kind)[::-1]
    found = [
        Cause(
            kind=kind,
            what=what,
            slices=tuple(f.where for f in sorted(group, key=lambda f: -abs(f.effect)) if f.where),
            findings=tuple(group),
        )
        for (kind, what, _), group in groups.items()
    ]
    return sorted(found, key=lambda cause: (order.index(cause.kind), not cause.worse))


_EITHER_WAY = ("frequency", "chosen", "hue")
"""What goes up in one slice and down in another as one: shares make up for each other."""


def _rises(finding: Finding) -> bool | None:
    """Tell whether something went up; what goes up is not named together with what goes down."""
    return None if finding.what in _EITHER_WAY else finding.after >= finding.before


def _marked(finding: Finding, why: str) -> Finding:
    return replace(finding, explained_by=why)


def _drifting(findings: Sequence[Finding], what: str) -> list[Finding]:
    return [finding for finding in findings if finding.what == what and finding.drifts]


def _coming_and_going(findings: Sequence[Finding], pair: Pair) -> list[Finding]:
    """The mix of the other eras follows from one that came or went, if it is the same."""
    moved = [f for what in ("disappeared", "appeared") for f in _drifting(findings, what)]
    if not moved:
        return list(findings)
    eras = {f.era for f in moved}
    rest = [n for n in range(GIVEN - 1) if SLICES[n] not in eras]
    one, other = (side[rest].astype(float) for side in pair.counts())
    if bool(one.sum()) != bool(other.sum()):
        return list(findings)
    left = np.abs(one / max(one.sum(), 1) - other / max(other.sum(), 1)).sum() / 2
    if left >= pair.settings.era_mix:
        return list(findings)
    why = f"{moved[0].era}, which {moved[0].what}"
    return [_marked(f, why) if f.what == "era mix" else f for f in findings]


def _general(findings: Sequence[Finding], pair: Pair) -> list[Finding]:
    """What drifts everywhere is not named once more for each slice."""
    everywhere = {(f.what, f.genre) for f in findings if f.drifts and not f.era}
    return [
        _marked(f, "it is so in all eras") if f.era and (f.what, f.genre) in everywhere else f
        for f in findings
    ]


def _like_for_like(findings: Sequence[Finding], pair: Pair) -> list[Finding]:
    """Probabilities that move no more once something else is held fixed follow from that."""
    remedies: dict[str, Remedy] = {}
    if _drifting(findings, "calibration"):
        remedies["calibration"] = _recalibrated(findings)
    if any(_drifting(findings, what) for what in ("era mix", "disappeared", "appeared")):
        remedies["the mix of eras"] = _eras_fixed
    if _drifting(findings, "frequency"):
        remedies["the mix of genres"] = _genres_fixed
    several = [f for f in findings if f.what == "probability" and f.state is State.DRIFT]
    chance = pair.settings.false_alarm / max(len(several), 1)
    return [
        _accounted(finding, pair, remedies, chance) if finding in several else finding
        for finding in findings
    ]


def _accounted(finding: Finding, pair: Pair, remedies: dict[str, Remedy], chance: float) -> Finding:
    genre = pair.reference.genres.index(finding.genre)
    slices = [SLICES.index(finding.era)] if finding.era else []
    for why, remedy in remedies.items():
        sides = remedy(pair, genre, slices)
        if sides is None:
            continue
        before, after = (np.rint(side).astype(np.int64) for side in sides)
        left = statistics.moved(before, after, np.random.default_rng(_SEED))
        if left.effect < finding.threshold or left.p > chance:
            return _marked(finding, why)
    return finding


def _of(pair: Pair, genre: int, slices: Sequence[int]) -> tuple[Array, Array]:
    """Give a genre's scores by slice and label [S, 3, B], in the slices that count."""
    one, other = (side.scores[genre, list(slices) if slices else side.whole] for side in pair.sides)
    return one, other


def _eras_fixed(pair: Pair, genre: int, slices: Sequence[int]) -> tuple[Array, Array] | None:
    """Weight the window's eras as the reference has them."""
    if slices:
        return None
    one, other = (side.scores[genre, : GIVEN - 1].sum(axis=1) for side in pair.sides)
    there = (one.sum(axis=-1) > 0) & (other.sum(axis=-1) > 0)
    if not there.any():
        return None
    one, other = one[there], other[there]
    weights = one.sum(axis=-1, keepdims=True) / other.sum(axis=-1, keepdims=True)
    return one.sum(axis=0), (weights * other).sum(axis=0)


def _genres_fixed(pair: Pair, genre: int, slices: Sequence[int]) -> tuple[Array, Array] | None:
    """Weight posters with and without the genre as the reference has them."""
    one, other = (side[:, (NO, YES)].sum(axis=0) for side in _of(pair, genre, slices))
    if not one.sum(axis=-1).all() or not other.sum(axis=-1).all():
        return None
    weights = one.sum(axis=-1, keepdims=True) / other.sum(axis=-1, keepdims=True)
    return one.sum(axis=0), (weights * other).sum(axis=0)


def _recalibrated(findings: Sequence[Finding]) -> Remedy:
    """Undo a change of calibration: the window's logits are multiplied by its slope."""
    (found,) = _drifting(findings, "calibration")
    slope = found.after

    def remedy(pair: Pair, genre: int, slices: Sequence[int]) -> tuple[Array, Array]:
        one, other = (side.sum(axis=(0, 1)) for side in _of(pair, genre, slices))
        return one, _sharpened(other, slope)

    return remedy


def _sharpened(counts: Array, slope: float) -> Array:
    """Multiply the logits of binned probabilities by a slope; a bin is spread where it goes."""
    bins = len(counts)
    edges = np.linspace(0, 1, bins + 1)
    inner = edges[1:-1]
    went = 1 / (1 + ((1 - inner) / inner) ** slope)
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(edges, [0.0, *went, 1.0], cumulated))


def _chosen(findings: Sequence[Finding], pair: Pair) -> list[Finding]:
    """How often genres are chosen, and answers unsure, follows from the probabilities.

    It follows from another mix or calibration as well, but not from looks: these say nothing of
    what the model makes of them.
    """
    several = [f for f in findings if f.what == "probability" and f.state is State.DRIFT]
    genres = {f.genre: f.explained_by or "its probabilities" for f in several if not f.era}
    roots = [
        f
        for f in findings
        if f.drifts and f.what not in ("chosen", "unsure") and f.kind is not Kind.INPUT
    ]
    found = []
    for f in findings:
        why = genres.get(f.genre) if f.what == "chosen" else ""
        if f.what in ("chosen", "unsure") and not why and roots:
            why = roots[0].what
        found.append(_marked(f, why) if why else f)
    return found
