"""What a search for better settings found, and how much of it may be chance.

The best of many trials looks better than it is: it was chosen among figures that all hold some luck
of which posters validate. Its gain is estimated on films that had no say in the choice: in each
bootstrap resample, the trial that is best on the films drawn is scored on those that were not.
Source: I. Tsamardinos, E. Greasidou, G. Borboudakis, "Bootstrapping the out-of-sample
predictions for efficient and accurate cross-validation" (2018).
"""

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from components.train.search import Parameter, Value
from components.train.train import Measured
from marquee import storage
from marquee.bootstrap import Interval, Ranking, interval, resamples

SCHEMA_VERSION = 1
TRIALS_FILE, BEST_FILE, PAGE_FILE = "trials.json", "best.toml", "tune.html"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial."""

    number: int
    """From 0, which has the settings that were there before."""
    state: str
    """`complete`, `pruned`, `diverged` or `out of memory`."""
    score: float
    """The validation macro mAP; of a trial that was given up, the highest it came to; NaN if it
    came to none."""
    epochs: int
    seconds: float
    values: dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How the best trial compares with the present settings, chance considered."""

    gain: float
    """By how much its validation macro mAP is higher."""
    interval: Interval
    """The ends of the 95 % interval of that, as if it had not been chosen for it."""
    fair_gain: float
    """By how much it is higher on films that had no say in which trial is best."""
    fair_interval: Interval
    """The ends of the 95 % interval of that."""

    @property
    def surely_better(self) -> bool:
        """Whether it is better on films that had no say."""
        return self.fair_interval[0] > 0


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a search found."""

    architecture: str
    parameters: tuple[Parameter, ...]
    present: dict[str, Value]
    """The values that were set before."""
    tried: list[Tried]
    best: Tried
    again: dict[int, list[float]]
    """Trial to its scores with other seeds: the best one, and the present settings."""
    measured: dict[int, Measured]
    """Trial to how it ranks the validation posters; those that are complete."""

    @cached_property
    def chance(self) -> Chance | None:
        """The best trial against the present settings; None if one of them is missing."""
        if 0 not in self.measured:
            return None
        drawn, left_out = self._resampled
        numbers = list(self.measured)
        present, best = numbers.index(0), numbers.index(self.best.number)
        chosen = left_out[np.nanargmax(drawn, axis=0), np.arange(drawn.shape[1])]
        fair = chosen - left_out[present]
        return Chance(
            gain=self.best.score - self.measured[0].score,
            interval=interval(drawn[best] - drawn[present]),
            fair_gain=float(np.nanmean(fair)),
            fair_interval=interval(fair),
        )

    @cached_property
    def alike(self) -> dict[int, bool]:
        """Trial to whether it may be as good as the best one, by a paired bootstrap over films."""
        drawn, _ = self._resampled
        numbers = list(self.measured)
        best = drawn[numbers.index(self.best.number)]
        return {
            number: interval(best - own)[0] <= 0 for number, own in zip(numbers, drawn, strict=True)
        }

    @cached_property
    def _resampled(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score the complete trials on the films of each resample, and on the others [T, B]."""
        rankings = [Ranking(one.labels, one.logits) for one in self.measured.values()]
        groups = next(iter(self.measured.values())).groups
        drawn, left_out = [], []
        for weights in resamples(groups):
            others = (weights == 0).astype(np.float32)
            drawn.append(np.stack([ranking.macro_map(weights) for ranking in rankings]))
            left_out.append(np.stack([ranking.macro_map(others) for ranking in rankings]))
        return np.concatenate(drawn, axis=1), np.concatenate(left_out, axis=1)

    def sentence(self) -> str:
        """Say what was found in a few sentences."""
        ends = Counter(trial.state for trial in self.tried)
        counts = (
            f"{len(self.tried)} trials ({ends['pruned']} given up, {ends['diverged']} diverged, "
            f"{ends['out of memory']} out of memory)"
        )
        if self.best.number == 0:
            return f"Of {counts}, none beats the present settings: {self.best.score:.4f}."
        best = f"trial {self.best.number + 1} has the highest validation mAP, {self.best.score:.4f}"
        if self.chance is None:
            return f"Of {counts}, {best}. The present settings came to no end."
        found, (low, high) = self.chance, self.chance.fair_interval
        return (
            f"Of {counts}, {best}; the present settings have {self.measured[0].score:.4f}. On "
            f"films that had no say in the choice it gains {found.fair_gain:+.4f} ({low:+.4f} to "
            f"{high:+.4f}): {'better' if found.surely_better else 'within chance'}."
        )

    def settings_file(self) -> str:
        """Give the best settings as a fragment of `marquee.toml`."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.best.values.items()]
        return "\n".join([f"# {self.sentence()}", f"[train.{self.architecture}]", *lines, ""])

    def to_json(self) -> str:
        """Give all but the scores of single posters."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "architecture": self.architecture,
            "objective": "validation macro mAP",
            "search_space": {item.name: str(item) for item in self.parameters},
            "trials": [
                dataclasses.asdict(item)
                | {
                    "score": None if math.isnan(item.score) else item.score,
                    "alike": self.alike.get(item.number),
                }
                for item in self.tried
            ],
            "best": self.best.number,
            "chance": dataclasses.asdict(self.chance) if self.chance else None,
            "again": self.again,
        }
        return json.dumps(document, indent=2) + "\n"

    def write(self, uri: str) -> None:
        """Write `trials.json`, `best.toml` and the page below a URI."""
        from components.train.tune_page import tune_page

        storage.write_text(storage.join(uri, TRIALS_FILE), self.to_json())
        storage.write_text(storage.join(uri, BEST_FILE), self.settings_file())
        storage.write_text(storage.join(uri, PAGE_FILE), tune_page(self))
