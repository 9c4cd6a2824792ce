"""A place for rollouts that exists in memory, in simulated time: for measuring the judge.

Traffic is made from a recording of a real server: latencies in stretches as they came, so that slow
moments last as they do, and what the model said of real posters.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.rollout.backends import Readiness, Request
from components.rollout.evidence import BINS, Answers, Latencies, Side, Sighting, Traffic
from components.rollout.replay import Ask, Poster
from components.rollout.state import Model, State, World
from marquee.errors import InfrastructureError
from marquee.storage import Conflict

_STRETCH_SECONDS = 10.0
_BURST, _BURST_ERRORS = 0.02, 0.1
"""Share of the time in which a tenth of all requests fails, whoever answers them."""
_BURST_SECONDS = (10.0, 300.0)
"""How long such a burst lasts, at least and at most."""
_USUAL_ERRORS = 0.015
"""The most of all requests that fail at other times, on both sides: each rollout has its share."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a real server did under load."""

    stretches: Sequence[NDArray[np.float64]]
    """Latencies in ms, in stretches of `_STRETCH_SECONDS`."""
    probabilities: Sequence[Mapping[str, float]]
    """What the model said, a poster each."""
    thresholds: Mapping[str, float]
    labels: Sequence[frozenset[str]]
    """What the posters have."""
    corrupt: Model
    """A bundle that was changed after it was sealed."""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """What is wrong with a canary; nothing by default."""

    name: str = "none"
    errors: float = 0.0
    """Share of requests that fail."""
    slower: float = 1.0
    """How many times as long it takes."""
    say: Callable[[Mapping[str, float]], Mapping[str, float]] = dict
    """What it says where the stable model says something."""
    share: float = 1.0
    """Of the answers in which `say` tells."""
    sound: bool = True
    """Whether its bundle passes validation."""


@dataclass
class SimulatedBackend:
    """Serves a stable model and a canary from a recording.

    Args:
        recording: What the traffic is made from.
        defect: What is wrong with the canary.
        rate: Requests a second.
        seed: Chooses the noise.
    """

    recording: Recording
    defect: Defect
    rate: float
    seed: int
    now: float = 0.0
    """Simulated Unix time."""
    world: World = field(
        default_factory=lambda: World(stable=Model(version="5" * 64, uri="/stable"))
    )
    saved: str = ""
    requested: Request | None = None
    requests: int = 0
    """All of them, ever."""
    exposed: int = 0
    """Those that the canary answered."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._numbers = np.random.default_rng(self.seed)
        self._stable_says = _Said(self.recording, Defect())
        self._canary_says = _Said(self.recording, self.defect)
        self._usual_errors = self._random.uniform(0.0, _USUAL_ERRORS)
        self._stretch_number = self._random.randrange(len(self.recording.stretches))
        self._burst_until = 0.0

    @property
    def url(self) -> str:
        """Nowhere."""
        return ""

    @property
    def records(self) -> str:
        """Nowhere."""
        return ""

    def stable(self) -> Model | None:
        """Give the stable model."""
        return self.world.stable

    def snapshot(self) -> dict[str, Any]:
        """Give nothing."""
        return {}

    def read(self) -> tuple[State | None, str]:
        """Give the state, written and read as a real place would."""
        return (State.from_json(self.saved, "memory") if self.saved else None), self.saved

    def write(self, state: State, token: str) -> str:
        """Replace the state."""
        if token != self.saved:
            raise Conflict("the state was changed")
        self.saved = state.to_json()
        return self.saved

    def request(self) -> Request | None:
        """Give the last request."""
        return self.requested

    def post(self, request: Request) -> None:
        """Leave a request."""
        self.requested = request

    def arrange(self, world: World, original: dict[str, Any], token: str) -> None:
        """Serve a world."""
        self.world = world

    def rehearse(self, world: World, original: dict[str, Any]) -> None:
        """Do nothing."""

    def readiness(self, world: World) -> Readiness:
        """Tell whether a world is served."""
        return Readiness(ready=self.world == world)

    def wait(self, seconds: float) -> None:
        """Let simulated time pass; users go on."""
        self.now += seconds

    def sighting(self, since: float, until: float) -> Sighting:
        """Make the traffic of a stretch of time."""
        seen = Sighting()
        moment = since
        while moment < until:
            seconds = min(_STRETCH_SECONDS, until - moment)
            seen += self._stretch(moment, seconds)
            moment += seconds
        self.exposed += seen.canary.traffic.requests
        self.requests += seen.canary.traffic.requests + seen.stable.traffic.requests
        return seen

    def _stretch(self, moment: float, seconds: float) -> Sighting:
        """Make the traffic of the recording's next stretch: slow moments come as they came."""
        count = int(self._numbers.poisson(self.rate * seconds))
        stretches = self.recording.stretches
        self._stretch_number = (self._stretch_number + 1) % len(stretches)
        times = self._numbers.choice(stretches[self._stretch_number], count)
        share = self.world.percent / 100 if self.world.canary else 0.0
        canary = self._numbers.random(count) < share
        failing = _BURST_ERRORS if self._is_burst(moment, seconds) else self._usual_errors
        return Sighting(
            stable=self._side(times[~canary], failing, Defect(), self._stable_says),
            canary=self._side(times[canary], failing, self.defect, self._canary_says),
        )

    def _is_burst(self, moment: float, seconds: float) -> bool:
        mean = sum(_BURST_SECONDS) / 2
        if moment >= self._burst_until and self._random.random() < _BURST * seconds / mean:
            self._burst_until = moment + self._random.uniform(*_BURST_SECONDS)
        return moment < self._burst_until

    def _side(
        self, times: NDArray[np.float64], failing: float, defect: Defect, says: "_Said"
    ) -> Side:
        good = self._numbers.random(len(times)) >= 1 - (1 - failing) * (1 - defect.errors)
        traffic = Traffic(
            requests=len(times),
            errors=int((~good).sum()),
            latencies=Latencies.of(times[good] * defect.slower),
        )
        posters = self._numbers.integers(0, len(says.unsure), int(good.sum()))
        told = self._numbers.random(len(posters)) < defect.share
        answers = says.answers(posters[told]) + self._stable_says.answers(posters[~told])
        return Side(traffic=traffic, answers=answers)

    def ask(self, canary: bool) -> Ask:
        """Give a way to ask one of the models."""
        defect = self.defect if canary else Defect()

        def ask(poster: Poster) -> Mapping[str, float]:
            stretch = self._random.choice(self.recording.stretches)
            self.now += float(self._numbers.choice(stretch)) * defect.slower / 1000
            if self._random.random() < defect.errors:
                raise InfrastructureError("it failed")
            says = defect.say if self._random.random() < defect.share else dict
            return says(self.recording.probabilities[int(poster.poster_id)])

        return ask


class _Said:
    """What a model says of each poster of a recording, ready to be counted."""

    def __init__(self, recording: Recording, defect: Defect) -> None:
        said = [defect.say(probabilities) for probabilities in recording.probabilities]
        self._genres = tuple(sorted(said[0]))
        values = np.array([[answer[genre] for genre in self._genres] for answer in said])
        self._bins = np.clip((values * BINS).astype(int), 0, BINS - 1)
        thresholds = np.array([recording.thresholds[genre] for genre in self._genres])
        self.unsure: NDArray[np.bool_] = np.all(values < thresholds, axis=1)

    def answers(self, posters: NDArray[np.int64]) -> Answers:
        """Count what it says of posters, which are numbers into the recording."""
        if not len(posters):
            return Answers()
        times = np.bincount(posters, minlength=len(self.unsure))
        rows = [np.bincount(column, times, minlength=BINS) for column in self._bins.T]
        return Answers(
            genres=self._genres,
            histograms=np.array(rows).astype(np.int64),
            unsure=int(self.unsure[posters].sum()),
        )


def golden(recording: Recording, count: int = 64) -> list[Poster]:
    """Give posters to replay, as numbers into a recording."""
    return [
        Poster(poster_id=str(number), data=b"", genres=recording.labels[number])
        for number in range(count)
    ]


def milder(defect: Defect, share: float) -> Defect:
    """Give a defect that only a share of the answers has."""
    return replace(
        defect,
        name=f"{defect.name} x {share:g}",
        errors=defect.errors * share,
        slower=1 + (defect.slower - 1) * share,
        share=share,
    )
