"""Tests that may be looked at after every observation.

A test that is meant for one look fails far too often when it is looked at every few seconds. An
e-value may be looked at whenever one likes: it is what a gambler has who began with 1 and bets
against the hypothesis at fair odds, and by Ville's inequality it ever reaches 1 / alpha with a
chance of at most alpha if the hypothesis is true.

A gambler who lost for hours while all was well would need hours to win it back once it is not. So
the first look gets half of the stake, the second a sixth, the n-th 1 / (n (n + 1)): what begins to
go wrong later meets a stake that has lost nothing yet.

Source: A. Ramdas, P. Gruenwald, V. Vovk, G. Shafer, "Game-theoretic statistics and safe anytime-
valid inference" (2023).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.verdict import Check, Outcome

_MULTIPLES = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""How many times the odds are bet to be what the hypothesis allows: an equal stake on each."""
_NOTHING, _MOST = -700.0, 700.0
"""Logarithms beyond these are none to a computer."""
_SUSPICIOUS = 10.0
"""An e-value from which on a check does not hold, though it does not fail yet."""


@dataclass(frozen=True)
class Bets:
    """Stakes against the hypothesis that trials succeed with at most some chance."""

    looks: int = 0
    """How often was looked."""
    logs: tuple[float, ...] = (_NOTHING,) * len(_MULTIPLES)
    """Natural logarithm of what the stakes on each multiple have become."""

    def see(self, hits: int, trials: int, chance: float) -> Self:
        """Bet on some trials.

        Args:
            hits: How many succeeded.
            trials: How many there were.
            chance: The greatest chance (0..1) of success that the hypothesis allows.

        Returns:
            The stakes afterwards.
        """
        if not trials or not 0 < chance < 1:
            return self
        odds = chance / (1 - chance) * np.array(_MULTIPLES)
        bet = odds / (1 + odds)
        gain = hits * np.log(bet / chance) + (trials - hits) * np.log((1 - bet) / (1 - chance))
        fresh = -np.log((self.looks + 1) * (self.looks + 2))
        staked = np.logaddexp(self.logs, fresh)
        logs = np.clip(staked + gain, _NOTHING, _MOST)
        return type(self)(self.looks + 1, tuple(logs.tolist()))

    @property
    def value(self) -> float:
        """The e-value."""
        return float(np.mean(np.exp(self.logs)) + 1 / (self.looks + 1))


def outcome_of(value: float, low: float, limit: float) -> Outcome:
    """Tell what an estimate says of a limit that the true value must not exceed.

    Args:
        value: The estimate.
        low: Its lower bound.
        limit: What is asked.
    """
    if value <= limit:
        return Outcome.PASSED
    return Outcome.FAILED if low > limit else Outcome.INCONCLUSIVE


def sequential_check(
    name: str, e_value: float, false_alarm: float, *, measured: str, bound: str, remedy: str
) -> Check:
    """Make a check of an e-value.

    Args:
        name: Of the check.
        e_value: Against the hypothesis that all is well.
        false_alarm: The chance (0..1) that it ever fails although all is well.
        measured: What was measured.
        bound: What was asked.
        remedy: What to do if it does not hold.
    """
    outcome = Outcome.PASSED
    if e_value >= 1 / false_alarm:
        outcome = Outcome.FAILED
    elif e_value >= _SUSPICIOUS:
        outcome = Outcome.INCONCLUSIVE
    return Check(
        name=name,
        outcome=outcome,
        measured=measured,
        bound=bound,
        remedy="" if outcome is Outcome.PASSED else remedy,
    )
