"""What a drift report finds: one thing that moved or did not, in one slice."""

import enum
import math
from dataclasses import dataclass

NAN = float("nan")


class Kind(enum.StrEnum):
    """What drifts; each asks for something else to be done."""

    INPUT = "input"
    """Posters look different."""
    PRIOR = "prior"
    """Genres or eras are asked about more or less often."""
    PREDICTION = "prediction"
    """The model says something else."""
    CONCEPT = "concept"
    """What it says is less often true."""


class State(enum.StrEnum):
    """What is known of one thing."""

    DRIFT = "drift"
    """It moved by the threshold or more, and chance hardly explains it."""
    STABLE = "stable"
    UNCLEAR = "unclear"
    """It seems to have moved, but that may be chance."""
    INSUFFICIENT = "insufficient"
    """There are too few samples to tell."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was measured in one slice."""

    kind: Kind
    what: str
    """Such as `brightness`, `probability` or `average precision`."""
    threshold: float
    """The effect from which on it is drift; in either direction."""
    genre: str = ""
    """Empty for all."""
    era: str = ""
    """Empty for all."""
    effect: float = NAN
    low: float = NAN
    high: float = NAN
    """The effect with its 95 % interval; NaN without enough samples."""
    signed: bool = True
    """Whether the effect has a direction; a distance has none."""
    unit: str = ""
    before: float = NAN
    after: float = NAN
    """What was measured in the reference, and in the window."""
    p: float = NAN
    """The chance to see as much if nothing moved."""
    p_adjusted: float = NAN
    """After Benjamini and Hochberg, over everything that the report tests."""
    reference: int = 0
    window: int = 0
    """Samples of either."""
    state: State = State.INSUFFICIENT
    explained_by: str = ""
    """What else that drifts accounts for it."""

    @property
    def drifts(self) -> bool:
        """Whether it is drift that nothing else accounts for."""
        return self.state is State.DRIFT and not self.explained_by

    @property
    def moved(self) -> str:
        """The effect in words; empty if it is not known."""
        if math.isnan(self.effect):
            return ""
        return f"{self.effect:{self._sign}.3f} {self.unit}".strip()

    @property
    def interval(self) -> str:
        """The 95 % interval in words."""
        return f"{self.low:{self._sign}.3f} to {self.high:{self._sign}.3f}"

    @property
    def _sign(self) -> str:
        return "+" if self.signed else ""

    @property
    def where(self) -> str:
        """The slice in words; empty for everything."""
        return ", ".join(filter(None, (self.genre, self.era.replace("_", " "))))
