"""The dark launch's test: posters sent to both models while no user meets the canary."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm

from components.rollout.policy import Policy
from components.rollout.sequential import Bets, outcome_of, sequential_check
from marquee.errors import MarqueeError, Stopped
from marquee.verdict import Check, Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class Poster:
    """A poster to replay."""

    poster_id: str
    data: bytes
    genres: frozenset[str] | None
    """What it is known to have; None if nobody knows."""


Ask = Callable[[Poster], Mapping[str, float]]
"""Asks a model for a poster's probabilities by genre."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model answered."""

    milliseconds: float
    probabilities: Mapping[str, float] | None
    """None if the request failed."""
    fault: str = ""
    """Why it did."""

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return self.probabilities is not None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both models' answers to the same poster."""

    poster: Poster
    stable: Reply
    canary: Reply

    @property
    def answered(self) -> bool:
        """Whether both gave an answer."""
        return self.stable.answered and self.canary.answered


def judge_replay(pairs: Sequence[Pair], policy: Policy, subject: str) -> Verdict:
    """Judge a canary by what it said of posters that the stable model was shown as well.

    Args:
        pairs: Answers, one or more to each poster.
        policy: What is asked.
        subject: What is judged.
    """
    if pairs and not any(pair.stable.answered for pair in pairs):
        return Verdict(gate="canary", subject=subject, checks=(_silent(pairs[-1].stable),))
    answered = list({pair.poster.poster_id: pair for pair in pairs if pair.answered}.values())
    checks = [_errors(pairs, policy), _latency(pairs, policy), _agreement(answered, policy)]
    labelled = [pair for pair in answered if pair.poster.genres is not None]
    if labelled:
        checks.append(_brier(labelled, policy))
    return Verdict(gate="canary", subject=subject, checks=tuple(checks))


def is_lost(pairs: Sequence[Pair], policy: Policy) -> bool:
    """Tell whether the rest of a replay is not worth waiting for.

    What is looked at again and again must be an e-value: so it is for failed answers alone.
    """
    silent = not any(pair.stable.answered for pair in pairs)
    return silent or _errors(pairs, policy).outcome is Outcome.FAILED


def _silent(reply: Reply) -> Check:
    """Say that the model that is served answers nobody: then the canary is not to blame."""
    return Check(
        name="replay: answers of the stable model",
        outcome=Outcome.INCONCLUSIVE,
        measured=f"none: {reply.fault}",
        bound="at least one",
        remedy="see that the rollout reaches it, with its token (docs/rollout.md)",
    )


def _errors(pairs: Sequence[Pair], policy: Policy) -> Check:
    canary, stable = (
        sum(not reply.answered for reply in replies)
        for replies in ([pair.canary for pair in pairs], [pair.stable for pair in pairs])
    )
    ratio = policy.error_ratio
    e_value = min(
        Bets().see(canary, canary + stable, ratio / (1 + ratio)).value,
        Bets().see(canary, len(pairs), policy.error_rate).value,
    )
    return sequential_check(
        "replay: errors",
        e_value,
        policy.false_alarm,
        measured=f"{canary} of {len(pairs)}, stable {stable}",
        bound=f"at most {ratio:g} times the stable model's, or {policy.error_rate:.1%}",
        remedy="read the canary's log",
    )


def _latency(pairs: Sequence[Pair], policy: Policy) -> Check:
    """Compare medians; each pair is a trial, as both models were asked within the same moment."""
    times = [(p.stable.milliseconds, p.canary.milliseconds) for p in pairs if p.answered]
    slow = sum(canary > policy.allowed_latency(stable) for stable, canary in times)
    stable, canary = np.median(times, axis=0) if times else (0.0, 0.0)
    return sequential_check(
        "replay: latency p50",
        Bets().see(slow, len(times), 0.5).value,
        policy.false_alarm,
        measured=f"{canary:.1f} ms, stable {stable:.1f} ms",
        bound=policy.latency_bound,
        remedy="compare what the two models and their pods take",
    )


def _agreement(pairs: Sequence[Pair], policy: Policy) -> Check:
    same = sum(_first(pair.stable) == _first(pair.canary) for pair in pairs)
    missed = len(pairs) - same
    # Clopper and Pearson's upper bound.
    high = float(beta.ppf(1 - policy.false_alarm, same + 1, missed)) if missed else 1.0
    outcome = Outcome.PASSED if pairs else Outcome.INCONCLUSIVE
    if same < policy.agreement * len(pairs):
        outcome = Outcome.FAILED if high < policy.agreement else Outcome.INCONCLUSIVE
    return Check(
        name="replay: agreement",
        outcome=outcome,
        measured=f"the same genre first on {same} of {len(pairs)}",
        bound=f"at least {policy.agreement:.0%}",
        remedy="" if outcome is Outcome.PASSED else "compare the genres of the two bundles",
    )


def _first(reply: Reply) -> str:
    probabilities = reply.probabilities or {}
    return max(probabilities, key=probabilities.__getitem__)


def _brier(pairs: Sequence[Pair], policy: Policy) -> Check:
    """Compare squared errors on labelled posters, poster by poster."""
    worse = np.array([_squared(pair, pair.canary) - _squared(pair, pair.stable) for pair in pairs])
    deviation = worse.std(ddof=1) / np.sqrt(len(worse)) if len(worse) > 1 else np.inf
    mean, low = worse.mean(), worse.mean() - norm.ppf(1 - policy.false_alarm) * deviation
    outcome = outcome_of(float(mean), float(low), policy.brier_loss)
    return Check(
        name="replay: labels",
        outcome=outcome,
        measured=f"Brier score worse by {mean:.3f} on {len(pairs)} posters, at least {low:.3f}",
        bound=f"at most {policy.brier_loss:g}",
        remedy="" if outcome is Outcome.PASSED else "was it trained on the right labels?",
    )


def _squared(pair: Pair, reply: Reply) -> float:
    genres = pair.poster.genres or frozenset()
    return float(
        np.mean([(p - (genre in genres)) ** 2 for genre, p in (reply.probabilities or {}).items()])
    )


def replay(
    posters: Sequence[Poster],
    stable: Ask,
    canary: Ask,
    passes: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Pair]:
    """Send posters to both models, to one right after the other, in alternating order.

    Args:
        posters: What to send.
        stable: Asks the stable model.
        canary: Asks the canary.
        passes: How often each poster is sent.
        clock: Gives seconds.

    Yields:
        A pair of answers for each poster and pass.
    """
    for number in range(passes):
        for place, poster in enumerate(posters):
            if (number + place) % 2:
                first = _reply(canary, poster, clock)
                yield Pair(poster=poster, stable=_reply(stable, poster, clock), canary=first)
            else:
                first = _reply(stable, poster, clock)
                yield Pair(poster=poster, stable=first, canary=_reply(canary, poster, clock))


def _reply(ask: Ask, poster: Poster, clock: Callable[[], float]) -> Reply:
    start = clock()
    try:
        probabilities = ask(poster)
    except Stopped:
        raise
    except MarqueeError as error:
        return Reply(milliseconds=(clock() - start) * 1000, probabilities=None, fault=error.message)
    return Reply(milliseconds=(clock() - start) * 1000, probabilities=probabilities)
