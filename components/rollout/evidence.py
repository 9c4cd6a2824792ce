"""What a rollout has seen of both models, in a few numbers that are added up over time.

Everything here can be added to what was seen earlier, and written down in some kB: a rollout that
is killed goes on with what it knew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BOUNDS_MS: NDArray[np.float64] = np.round(np.geomspace(0.1, 60_000.0, 77), 3)
"""Upper ends of the latency histogram's bins, in ms: 19 % apart; a last bin takes the rest."""
BINS = 20
"""Bins of a histogram of probabilities, 0.05 wide each."""


@dataclass(frozen=True, eq=False)
class Latencies:
    """A histogram of latencies."""

    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(BOUNDS_MS) + 1, dtype=np.int64)
    )

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Self:
        """Count latencies in ms."""
        places = np.searchsorted(BOUNDS_MS, np.fromiter(milliseconds, dtype=np.float64))
        return cls(np.bincount(places, minlength=len(BOUNDS_MS) + 1))

    def __add__(self, other: "Latencies") -> "Latencies":
        return Latencies(self.counts + other.counts)

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Give a quantile in ms, interpolated within its bin; NaN without any latency.

        Args:
            share: 0..1.
        """
        if not self.total:
            return float("nan")
        edges = np.concatenate([[0.0], BOUNDS_MS, [BOUNDS_MS[-1]]])
        cumulated = np.concatenate([[0], np.cumsum(self.counts)])
        return float(np.interp(share * self.total, cumulated, edges))

    def to_list(self) -> list[list[int]]:
        """Give pairs of bin and count for JSON, most bins being empty."""
        return _sparse(self.counts)

    @classmethod
    def from_list(cls, pairs: Sequence[Sequence[int]]) -> Self:
        """Read what `to_list` gave."""
        return cls(_dense(pairs, len(BOUNDS_MS) + 1))

    def above(self, milliseconds: float) -> float:
        """Give how many were longer, counting a bin's as spread evenly over it."""
        edges = np.concatenate([[0.0], BOUNDS_MS, [2 * BOUNDS_MS[-1]]])
        cumulated = np.concatenate([[0], np.cumsum(self.counts)])
        return float(self.total - np.interp(milliseconds, edges, cumulated))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What went to one model in a stretch of time, as the splitter saw it."""

    requests: int = 0
    errors: int = 0
    """Answers 5xx and lost connections; 4xx are the client's own."""
    latencies: Latencies = field(default_factory=Latencies)
    """Of the requests without an error."""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latencies=self.latencies + other.latencies,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a model said in a stretch of time, from its prediction records."""

    genres: tuple[str, ...] = ()
    histograms: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, BINS), np.int64))
    """How often each genre's probability fell into each bin [G, BINS]."""
    unsure: int = 0

    @classmethod
    def of(cls, answers: Sequence[Mapping[str, float]], unsure: int) -> Self:
        """Count answers.

        Args:
            answers: Genre to probability, all with the same genres.
            unsure: How many of them were unsure.
        """
        if not answers:
            return cls()
        genres = tuple(sorted(answers[0]))
        values = np.array([[answer[genre] for genre in genres] for answer in answers])
        places = np.clip((values * BINS).astype(int), 0, BINS - 1)
        counts = [np.bincount(places[:, g], minlength=BINS) for g in range(len(genres))]
        return cls(genres=genres, histograms=np.array(counts), unsure=unsure)

    def __add__(self, other: "Answers") -> "Answers":
        if not self.genres or not other.genres:
            return other if not self.genres else self
        return Answers(
            genres=self.genres,
            histograms=self.histograms + other.histograms,
            unsure=self.unsure + other.unsure,
        )

    @property
    def total(self) -> int:
        """How many answers were counted."""
        return int(self.histograms[0].sum()) if len(self.histograms) else 0


@dataclass(frozen=True, kw_only=True)
class Side:
    """What was seen of one model."""

    traffic: Traffic = field(default_factory=Traffic)
    answers: Answers = field(default_factory=Answers)

    def __add__(self, other: "Side") -> "Side":
        return Side(traffic=self.traffic + other.traffic, answers=self.answers + other.answers)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; histograms as pairs of bin and count, most being empty."""
        answers, traffic = self.answers, self.traffic
        return {
            "requests": traffic.requests,
            "errors": traffic.errors,
            "latencies": traffic.latencies.to_list(),
            "genres": {
                genre: _sparse(row)
                for genre, row in zip(answers.genres, answers.histograms, strict=True)
            },
            "unsure": answers.unsure,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        genres = document["genres"]
        rows = [_dense(row, BINS) for row in genres.values()]
        traffic = Traffic(
            requests=document["requests"],
            errors=document["errors"],
            latencies=Latencies.from_list(document["latencies"]),
        )
        answers = Answers(
            genres=tuple(genres),
            histograms=np.array(rows, dtype=np.int64).reshape(len(rows), BINS),
            unsure=document["unsure"],
        )
        return cls(traffic=traffic, answers=answers)


def _sparse(counts: NDArray[np.int64]) -> list[list[int]]:
    return [[int(place), int(counts[place])] for place in np.flatnonzero(counts)]


def _dense(pairs: Sequence[Sequence[int]], length: int) -> NDArray[np.int64]:
    counts = np.zeros(length, dtype=np.int64)
    for place, count in pairs:
        counts[place] = count
    return counts


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """Both models in the same stretch of time."""

    stable: Side = field(default_factory=Side)
    canary: Side = field(default_factory=Side)

    def __add__(self, other: "Sighting") -> "Sighting":
        return Sighting(stable=self.stable + other.stable, canary=self.canary + other.canary)
