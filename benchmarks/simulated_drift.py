"""Profiles of simulated predictions, with drift planted in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from marquee.decision import decide
from marquee.eras import ERAS
from marquee.genres import VISUAL_GENRES
from marquee.profile import ATTRIBUTES, Profile, profile_of
from marquee.records import SCHEMA, write_records

GENRES = VISUAL_GENRES
_PRIOR = np.geomspace(0.35, 0.06, len(GENRES))
"""How frequent genres are."""
_FILE_ROWS = 5000
_ERA_SHARES = np.array([0.08, 0.12, 0.12, 0.13, 0.13, 0.16, 0.16, 0.10])


@dataclass(kw_only=True, eq=False)
class Simulated:
    """Posters, what they have, and what a model says of them."""

    frame: pd.DataFrame
    labels: NDArray[np.int64]
    """[N, G]."""
    probabilities: NDArray[np.float64]
    """[N, G]."""
    embeddings: NDArray[np.float32]
    labelled: bool = True

    def profile(self) -> Profile:
        """Count them."""
        chosen, unsure = decide(self.probabilities, (0.4,) * len(GENRES))
        return profile_of(
            GENRES,
            self.frame,
            self.probabilities,
            chosen,
            unsure=unsure,
            labels=self.labels if self.labelled else None,
            embeddings=self.embeddings,
        )

    def write(self, uri: str, version: str, since: datetime, until: datetime) -> None:
        """Write them as prediction records, evenly over a stretch of time.

        As a server does, in files of one hour and of 5,000 rows at most.

        Args:
            uri: The folder of records.
            version: The model's version.
            since: When the first was predicted (UTC).
            until: Before when the last was.
        """
        table = self._records(version, since, until)
        hours = np.unique(table["time"].to_numpy().astype("datetime64[h]"), return_counts=True)[1]
        ends = np.cumsum(hours)
        starts = [
            (start, min(start + _FILE_ROWS, end))
            for begin, end in zip(ends - hours, ends, strict=True)
            for start in range(begin, end, _FILE_ROWS)
        ]
        for number, (start, end) in enumerate(starts):
            write_records(uri, "simulated", number, table.slice(start, end - start))

    def truth(self) -> str:
        """Give the films' genres as a CSV file's text."""
        lines = [
            f"tt{n:07d},{'|'.join(g for g, owns in zip(GENRES, row, strict=True) if owns)}"
            for n, row in enumerate(self.labels)
        ]
        return "\n".join(["film_id,genres", *lines]) + "\n"

    def _records(self, version: str, since: datetime, until: datetime) -> pa.Table:
        count, frame = len(self.frame), self.frame
        chosen, unsure = decide(self.probabilities, (0.4,) * len(GENRES))
        begun = np.datetime64(since.replace(tzinfo=None), "us")
        apart = np.timedelta64(int((until - since).total_seconds() * 1e6 / count), "us")
        keys = pa.array(list(GENRES) * count)
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * len(GENRES))
        values = pa.array(self.probabilities.astype(np.float32).ravel())
        ids = [f"{since:%Y%m%dT%H%M%S}-{n:09d}" for n in range(count)]
        columns = {
            "prediction_id": ids,
            "time": pa.array(begun + apart * np.arange(count)).cast(SCHEMA.field("time").type),
            "model_version": [version] * count,
            "film_id": [f"tt{n:07d}" for n in range(count)],
            "client_id": pa.nulls(count, pa.string()),
            "probabilities": pa.MapArray.from_arrays(ends, keys, values),
            "genres": [[GENRES[g] for g in np.flatnonzero(row)] for row in chosen],
            "unsure": unsure,
            "era": frame["era"].tolist(),
            "era_source": ["given"] * count,
            "width": frame["width"].to_numpy(np.int32),
            "height": frame["height"].to_numpy(np.int32),
            **{name: frame[name].to_numpy(np.float32) for name in ATTRIBUTES},
            "embedding": list(self.embeddings),
            "latency_ms": np.ones(count, np.float32),
            "outcome": ["ok"] * count,
        }
        return pa.table(columns, schema=SCHEMA)


Plant = Callable[[Simulated, np.random.Generator], None]


@dataclass(frozen=True, kw_only=True)
class World:
    """What posters are like before anything is planted."""

    prior: NDArray[np.float64] = field(default_factory=lambda: _PRIOR)
    era_shares: NDArray[np.float64] = field(default_factory=lambda: _ERA_SHARES)

    def draw(self, count: int, random: np.random.Generator) -> Simulated:
        """Draw posters.

        A model that is calibrated and ranks with some skill: its logit is normal, more by a step
        for posters that have the genre, and its probability follows by Bayes' rule. It was
        calibrated on the usual frequencies of genres, whatever they are now.
        """
        era = random.choice(len(ERAS), count, p=self.era_shares / self.era_shares.sum())
        labels = self._labels(count, random)
        step = 1.6
        seen = random.normal(size=labels.shape) + step * labels
        odds = np.log(_PRIOR / (1 - _PRIOR)) + step * seen - step**2 / 2
        frame = pd.DataFrame(
            {
                "era": np.array(ERAS)[era],
                "brightness": np.clip(random.normal(0.45, 0.16, count) + 0.02 * era, 0, 1),
                "contrast": np.clip(random.normal(0.25, 0.07, count), 0, 1),
                "saturation": np.clip(random.normal(0.4, 0.18, count), 0, 1),
                "hue": random.normal(0.05, 0.15, count) % 1.0,
                "width": random.integers(150, 200, count),
                "height": 280,
            }
        )
        return Simulated(
            frame=frame,
            labels=labels,
            probabilities=1 / (1 + np.exp(-odds)),
            embeddings=random.normal(size=(count, 64)).astype(np.float32),
        )

    def _labels(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw films' genres; one that has none of them is in no data set."""
        labels = (random.random((2 * count, len(GENRES))) < self.prior).astype(np.int64)
        return labels[labels.any(axis=1)][:count]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Something that happens to a window, and how a report should name it."""

    name: str
    cause: str
    """The name of the cause that has to be found; nothing if none may be."""
    plant: Plant = lambda window, random: None
    world: World = field(default_factory=World)
    labelled: bool = True

    def draw(self, count: int, random: np.random.Generator) -> Profile:
        """Draw a window."""
        window = self.world.draw(count, random)
        self.plant(window, random)
        window.labelled = self.labelled
        return window.profile()


_GENRE, _ERA = GENRES.index("Horror"), "digital"


def _raise(window: Simulated, rows: NDArray[np.bool_], mean: float) -> None:
    """Raise a genre's probabilities until their mean is so much higher."""
    values = window.probabilities[rows, _GENRE]
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        gained = np.minimum(values + middle, 1.0).mean() - values.mean()
        low, high = (middle, high) if gained < mean else (low, middle)
    window.probabilities[rows, _GENRE] = np.minimum(values + high, 1.0)


def _one_genre(window: Simulated, random: np.random.Generator) -> None:
    _raise(window, np.ones(len(window.frame), dtype=bool), 0.1)


def _one_era_missing(window: Simulated, random: np.random.Generator) -> None:
    kept = (window.frame["era"] != _ERA).to_numpy()
    window.frame = window.frame[kept].reset_index(drop=True)
    window.labels, window.probabilities = window.labels[kept], window.probabilities[kept]
    window.embeddings = window.embeddings[kept]


def _one_cell(window: Simulated, random: np.random.Generator) -> None:
    _raise(window, (window.frame["era"] == _ERA).to_numpy(), 0.15)


def _brighter(window: Simulated, random: np.random.Generator) -> None:
    brightness = window.frame["brightness"]
    window.frame["brightness"] = np.clip(brightness + 0.3 * brightness.std(), 0, 1)


def _milder(window: Simulated, random: np.random.Generator) -> None:
    p = np.clip(window.probabilities, 1e-9, 1 - 1e-9)
    window.probabilities = 1 / (1 + np.exp(-np.log(p / (1 - p)) / 1.5))


def _other_mix() -> World:
    factors = np.where(np.arange(len(GENRES)) % 2, 1.3, 0.7)
    return World(prior=_PRIOR * factors)


SCENARIOS = (
    Scenario(name="no drift", cause=""),
    Scenario(name="Horror's mean probability +.10", cause="probability: Horror", plant=_one_genre),
    Scenario(name="an era missing", cause="disappeared: digital", plant=_one_era_missing),
    Scenario(name="Horror in an era +.15", cause="probability: Horror, digital", plant=_one_cell),
    Scenario(name="brightness +.3 SD", cause="brightness", plant=_brighter),
    Scenario(name="calibration temperature 1.5", cause="calibration", plant=_milder),
    Scenario(name="genre mix +-30 %", cause="frequency", world=_other_mix()),
)
