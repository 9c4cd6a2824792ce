"""Whether a canary is as good as the stable model: checks with verdicts, none of them by eye.

A check fails only if chance hardly explains what was seen (`Policy.false_alarm`), holds if nothing
speaks against it and enough was seen, and is inconclusive otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from components.rollout.evidence import Answers, Latencies, Side, Sighting, Traffic
from components.rollout.policy import Policy
from components.rollout.sequential import Bets, outcome_of, sequential_check
from marquee.histograms import resample, wasserstein
from marquee.verdict import Check, Outcome, Verdict

_BLOCK = 30
"""Answers of each model in a stretch that is one trial: neighbours are slow, or fail, together."""
_TAIL = 100
"""Answers of the canary in a stretch whose long latencies are counted."""
_TAIL_SHARE = 0.02
"""Of the answers in a stretch may be longer than the p99 that is allowed: twice what p99 means."""
_CHANCES = {"p50": 0.5, "p99": 0.25}
"""How often a stretch may speak against a canary that is just quick enough. Half the time for the
median. More than 2 of 100 answers above the p99: .08 if they were independent, but they are not."""
_ENOUGH_FOR_P99 = 500
"""Answers from which on the measured p99 counts as well: of fewer it is that of a handful."""
_SHARE, _RATE, _ALONE = "share of errors", "error rate", "bad stretches alone"
_BAD_STRETCHES = (0.1, 0.5)
"""The least and the greatest share of stretches in which a model that is alone may fail too often:
trouble that is nobody's fault comes in bursts, and then nobody is beside it to tell."""
_FAILED_REMEDY = "read the canary's log"
_SLOW_REMEDY = "compare what the two models and their pods take"
_RESAMPLES = 200
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a step has seen, and the bets on it, which go on from step to step."""

    seen: Sighting = field(default_factory=Sighting)
    """In this step."""
    block: Sighting = field(default_factory=Sighting)
    """Since medians were last compared."""
    tail: Latencies = field(default_factory=Latencies)
    """The canary's since long latencies were last counted."""
    stretch: Traffic = field(default_factory=Traffic)
    """Since a stretch last ended: of the stable model, or of a canary that is alone."""
    stretches: int = 0
    """Stretches of the stable model, in all steps."""
    bad_stretches: int = 0
    """Those of them in which it failed more often than a canary may."""
    reference: Side = field(default_factory=Side)
    """The stable model in the step before: what the canary is compared with once it is alone."""
    bets: dict[str, Bets] = field(default_factory=dict)
    alone: bool = False
    """Whether the canary gets all traffic in this step."""

    def see(self, sighting: Sighting, policy: Policy, *, alone: bool = False) -> Self:
        """Add what was seen since the last look.

        Args:
            sighting: Both models in the same stretch of time.
            policy: What is asked.
            alone: Whether the canary gets all traffic.
        """
        found = replace(self, alone=alone)
        if not alone:
            found = found._bet_on_errors(sighting, policy)
        found = found._end_stretch(sighting, policy)
        found = replace(
            found,
            seen=found.seen + sighting,
            block=found.block + sighting,
            tail=found.tail + sighting.canary.traffic.latencies,
        )
        return found._compare_medians(policy)._count_long(policy)

    def _bet(self, name: str, hits: int, trials: int, chance: float) -> Self:
        bets = self.bets.get(name, Bets()).see(hits, trials, chance)
        return replace(self, bets=self.bets | {name: bets})

    def _bet_on_errors(self, sighting: Sighting, policy: Policy) -> Self:
        canary, stable = sighting.canary.traffic, sighting.stable.traffic
        # Who is to blame for a failed answer, if both are as good, is as the traffic was dealt.
        dealt = policy.error_ratio * canary.requests
        share = dealt / (dealt + stable.requests) if dealt else 0.0
        found = self._bet(_SHARE, canary.errors, canary.errors + stable.errors, share)
        return found._bet(_RATE, canary.errors, canary.requests, policy.error_rate)

    def _end_stretch(self, sighting: Sighting, policy: Policy) -> Self:
        """Learn how often the stable model fails for a while; bet on a canary that is alone."""
        traffic = (sighting.canary if self.alone else sighting.stable).traffic
        stretch = Traffic(
            requests=self.stretch.requests + traffic.requests,
            errors=self.stretch.errors + traffic.errors,
        )
        if stretch.requests < _BLOCK:
            return replace(self, stretch=stretch)
        usual = (self.reference + self.seen.stable).traffic
        bad = stretch.errors > _tolerated(usual, policy) * stretch.requests
        found = replace(self, stretch=Traffic())
        if self.alone:
            least, most = _BAD_STRETCHES
            share = policy.error_ratio * (self.bad_stretches + 1) / (self.stretches + 2)
            return found._bet(_ALONE, int(bad), 1, min(max(share, least), most))
        return replace(
            found, stretches=self.stretches + 1, bad_stretches=self.bad_stretches + int(bad)
        )

    def _compare_medians(self, policy: Policy) -> Self:
        # What the stable model still answered when the canary got all of it does not count.
        stable = (self.reference if self.alone else self.block.stable).traffic.latencies
        canary = self.block.canary.traffic.latencies
        if min(canary.total, stable.total) < _BLOCK:
            return self
        slow = canary.quantile(0.5) > policy.allowed_latency(stable.quantile(0.5))
        return replace(self, block=Sighting())._bet("p50", int(slow), 1, _CHANCES["p50"])

    def _count_long(self, policy: Policy) -> Self:
        usual = self.compared.stable.traffic.latencies
        if self.tail.total < _TAIL or usual.total < _TAIL:
            return self
        long = self.tail.above(policy.allowed_latency(usual.quantile(0.99)))
        slow = long > _TAIL_SHARE * self.tail.total
        return replace(self, tail=Latencies())._bet("p99", int(slow), 1, _CHANCES["p99"])

    def next_step(self) -> Self:
        """Begin a step: what was seen is forgotten but for the stable model, the bets stand."""
        return replace(
            self,
            seen=Sighting(),
            block=Sighting(),
            tail=Latencies(),
            stretch=Traffic(),
            reference=self.compared.stable,
        )

    def step_back(self) -> Self:
        """Begin the step before once more; what was bet on a canary that was alone is void."""
        bets = {name: bets for name, bets in self.bets.items() if name in (_SHARE, _RATE)}
        return replace(self.next_step(), bets=bets, alone=False)

    def e_value(self, name: str) -> float:
        """Give the e-value of a bet; 1 before the first."""
        return self.bets.get(name, Bets()).value

    @property
    def errors(self) -> float:
        """The e-value against a canary that fails no more often than it may."""
        return max(min(self.e_value(_SHARE), self.e_value(_RATE)), self.e_value(_ALONE))

    @property
    def compared(self) -> Sighting:
        """What is compared in this step: both models, or the canary and what was before."""
        stable = self.reference if self.alone else self.seen.stable
        return Sighting(stable=stable, canary=self.seen.canary)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "seen": {"stable": self.seen.stable.to_dict(), "canary": self.seen.canary.to_dict()},
            "block": {"stable": self.block.stable.to_dict(), "canary": self.block.canary.to_dict()},
            "tail": self.tail.to_list(),
            "stretch": [self.stretch.requests, self.stretch.errors],
            "stretches": [self.stretches, self.bad_stretches],
            "reference": self.reference.to_dict(),
            "bets": {name: [bets.looks, *bets.logs] for name, bets in self.bets.items()},
            "alone": self.alone,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        sightings = {
            name: Sighting(**{side: Side.from_dict(of) for side, of in document[name].items()})
            for name in ("seen", "block")
        }
        requests, errors = document["stretch"]
        stretches, bad_stretches = document["stretches"]
        bets = {name: Bets(looks, tuple(logs)) for name, (looks, *logs) in document["bets"].items()}
        return cls(
            **sightings,
            tail=Latencies.from_list(document["tail"]),
            stretch=Traffic(requests=requests, errors=errors),
            stretches=stretches,
            bad_stretches=bad_stretches,
            reference=Side.from_dict(document["reference"]),
            bets=bets,
            alone=document["alone"],
        )


def judge(evidence: Evidence, policy: Policy, subject: str) -> Verdict:
    """Judge a step by what was seen in it.

    Args:
        evidence: What was seen.
        policy: What is asked.
        subject: What is judged, such as the canary's version and step.
    """
    checks = (
        _samples(evidence.seen, policy),
        _errors(evidence, policy),
        _latency(evidence, policy, "p50", 0.5),
        _latency(evidence, policy, "p99", 0.99),
        # Alone, it would be compared with what other users sent earlier.
        *(() if evidence.alone else _answers(evidence.seen, policy)),
    )
    return Verdict(gate="canary", subject=subject, checks=checks)


def _samples(seen: Sighting, policy: Policy) -> Check:
    count = seen.canary.traffic.requests
    enough = count >= policy.min_samples
    return Check(
        name="answers of the canary",
        outcome=Outcome.PASSED if enough else Outcome.INCONCLUSIVE,
        measured=f"{count:,}",
        bound=f"at least {policy.min_samples:,}",
        remedy=""
        if enough
        else "send it more traffic, or wait longer; on a cluster, see that Prometheus counts it",
    )


def _errors(evidence: Evidence, policy: Policy) -> Check:
    canary, stable = evidence.compared.canary.traffic, evidence.compared.stable.traffic
    check = sequential_check(
        "errors",
        evidence.errors,
        policy.false_alarm,
        measured=f"{_rate(canary.errors, canary.requests)}, stable "
        f"{_rate(stable.errors, stable.requests)}",
        bound=f"at most {policy.error_ratio:g} times the stable model's, "
        f"or {policy.error_rate:.1%}",
        remedy=_FAILED_REMEDY,
    )
    if check.holds and canary.errors > _tolerated(stable, policy) * canary.requests:
        return replace(check, outcome=Outcome.INCONCLUSIVE, remedy=_FAILED_REMEDY)
    return check


def _tolerated(stable: Traffic, policy: Policy) -> float:
    """Give the share of failed answers that a canary may have beside a stable model."""
    usual = stable.errors / max(stable.requests, 1)
    return max(policy.error_rate, policy.error_ratio * usual)


def _rate(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of {whole:,}" if whole else "no answers"


def _latency(evidence: Evidence, policy: Policy, name: str, share: float) -> Check:
    seen = evidence.compared
    canary_times, stable_times = (side.traffic.latencies for side in (seen.canary, seen.stable))
    if not min(canary_times.total, stable_times.total):
        return Check(
            name=f"latency {name}",
            outcome=Outcome.INCONCLUSIVE,
            measured=f"{canary_times.total:,} answers, stable {stable_times.total:,}",
            bound="answers of both",
            remedy="send both traffic; on a cluster, see that Prometheus has the histogram",
        )
    canary, stable = (times.quantile(share) for times in (canary_times, stable_times))
    check = sequential_check(
        f"latency {name}",
        evidence.e_value(name),
        policy.false_alarm,
        measured=f"{canary:.1f} ms, stable {stable:.1f} ms",
        bound=policy.latency_bound,
        remedy=_SLOW_REMEDY,
    )
    enough = name == "p50" or min(canary_times.total, stable_times.total) >= _ENOUGH_FOR_P99
    if check.holds and enough and canary > policy.allowed_latency(stable):
        return replace(check, outcome=Outcome.INCONCLUSIVE, remedy=_SLOW_REMEDY)
    return check


def _answers(seen: Sighting, policy: Policy) -> Iterator[Check]:
    """Compare what the models say; without records there is nothing to compare."""
    canary, stable = seen.canary.answers, seen.stable.answers
    if min(canary.total, stable.total) < _BLOCK:
        yield Check(
            name="probabilities",
            outcome=Outcome.INCONCLUSIVE,
            measured=f"{canary.total:,} records of the canary, "
            f"{stable.total:,} of the stable model",
            bound=f"at least {_BLOCK} of each",
            remedy="serve both with --records, and give the rollout the same URI",
        )
        return
    alpha = _alpha(min(canary.total, stable.total), policy)
    yield _shifts(stable, canary, policy, alpha)
    yield _unsure(stable, canary, policy, alpha)


def _alpha(answers: int, policy: Policy) -> float:
    """Spend the chance of a false alarm over looks.

    Each step and both checks have their share of it. What is seen changes little until there is
    twice as much of it: half of the share is for up to twice the fewest answers, a sixth for up to
    four times, and so on.
    """
    doublings = int(np.log2(answers / _BLOCK))
    share = policy.false_alarm / (2 * len(policy.steps))
    return share / ((doublings + 1) * (doublings + 2))


def _shifts(stable: Answers, canary: Answers, policy: Policy, alpha: float) -> Check:
    distance, low = shift(stable.histograms, canary.histograms, alpha)
    worst = [int(g) for g in np.argsort(-low) if distance[g] > policy.probability_shift]
    blamed = [g for g in worst if low[g] > policy.probability_shift]
    outcome = Outcome.FAILED if blamed else Outcome.INCONCLUSIVE if worst else Outcome.PASSED
    furthest = int(np.argmax(distance))
    return Check(
        name="probabilities",
        outcome=outcome,
        measured=f"{stable.genres[furthest]} moved by {distance[furthest]:.2f}, at least "
        f"{max(low[furthest], 0.0):.2f}",
        bound=f"at most {policy.probability_shift:g}",
        blame=tuple(stable.genres[g] for g in blamed or worst),
        remedy="" if not worst else "look at what the canary says of these genres",
    )


def shift(
    stable: NDArray[np.int64], canary: NDArray[np.int64], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give how far each genre's distribution of probabilities has moved.

    Args:
        stable: Histograms [G, BINS].
        canary: Histograms [G, BINS].
        alpha: The chance that any of the bounds is too high.

    Returns:
        Wasserstein-1 distances [G] (0..1), and lower bounds of them [G] from a bootstrap, corrected
        for its bias and normal, with Bonferroni's correction over the genres.
    """
    random = np.random.default_rng(_SEED)
    distance = wasserstein(stable, canary)
    resampled = wasserstein(*(resample(counts, _RESAMPLES, random) for counts in (stable, canary)))
    bias = resampled.mean(axis=0) - distance
    deviations = norm.ppf(1 - alpha / len(distance)) * resampled.std(axis=0, ddof=1)
    return distance, distance - bias - deviations


def _unsure(stable: Answers, canary: Answers, policy: Policy, alpha: float) -> Check:
    shares = np.array([side.unsure / side.total for side in (stable, canary)])
    # Agresti and Caffo's: two more answers a side, one of them unsure, so that none has no spread.
    counts = np.array([stable.total, canary.total]) + 2
    smoothed = (np.array([stable.unsure, canary.unsure]) + 1) / counts
    deviation = float(np.sqrt((smoothed * (1 - smoothed) / counts).sum()))
    grown = float(shares[1] - shares[0])
    low = grown - float(norm.ppf(1 - alpha)) * deviation
    outcome = outcome_of(grown, low, policy.unsure_shift)
    return Check(
        name="unsure answers",
        outcome=outcome,
        measured=f"{shares[1]:.1%}, stable {shares[0]:.1%}",
        bound=f"at most {policy.unsure_shift:.0%} points more",
        remedy="" if outcome is Outcome.PASSED else "compare the models' thresholds",
    )
