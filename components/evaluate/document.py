"""The content of `evaluation.json`."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from components.evaluate.curves import Points
from components.evaluate.scores import SLICE_METRICS
from marquee import storage

SCHEMA_VERSION = 2
PREFIX = "test/"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`: test metrics of one bundle version.

    Version 1 had neither intervals nor curves, patterns, examples, behaviour and history; its
    `confusion` counted every pair of a genre that a poster has and one that it was given. Whoever
    reads the document (register, the run's summary) uses what both versions have.
    """

    version: str
    """The bundle's version."""
    architecture: str
    label_set: str
    genres: list[str]
    precision: str
    """What the engine computed in."""
    catalog_digest: str
    test_split: str
    """`random`, or `temporal`: the test posters are of later films than those that trained."""
    temporal_year: int | None
    """The last release year that trained, in a temporal split."""
    posters: int
    films: int
    metrics: dict[str, float]
    """By name, all with the prefix `test/`."""
    intervals: dict[str, tuple[float, float]]
    """Ends of the 95% bootstrap intervals of the metrics; see `marquee.bootstrap`."""
    baselines: dict[str, dict[str, float]]
    """The same metrics of predictors that never look at a poster."""
    per_genre: list[dict[str, Any]]
    per_era: list[dict[str, Any]]
    per_source: list[dict[str, Any]]
    primary_confusion: list[list[int]]
    """Each poster once; see `marquee.metrics.primary_confusion`."""
    confusion_per_genre: dict[str, dict[str, int]]
    precision_recall: dict[str, Points]
    reliability: list[dict[str, float]]
    coverage: Points
    history: list[dict[str, float]]
    """The learning curves that the bundle has, an entry an epoch."""
    cross_validation: dict[str, dict[str, Any]]
    """What the training's folds scored; see `components.evaluate.scores.sum_up_folds`."""
    behaviour: dict[str, Any]
    checks: list[dict[str, Any]]
    """The behavioural tests against their bounds; none of them stops a run."""
    patterns: dict[str, Any]
    errors: list[dict[str, Any]]
    overlooked: list[dict[str, Any]]
    typical: dict[str, list[dict[str, Any]]]
    unsure: float
    """Share of posters for which no genre reached its threshold."""
    attributions: list[str]
    """What the sources ask to be said wherever their data is shown."""
    schema_version: int = field(default=SCHEMA_VERSION)

    def write(self, uri: str) -> None:
        """Write `evaluation.json`."""
        storage.write_text(uri, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")

    def scalars(self) -> dict[str, float]:
        """Give all that is one number, by stable names, for lists and charts over many runs."""
        ends = {
            f"{name}/{end}": value
            for name, interval in self.intervals.items()
            if "/ap/" not in name
            for end, value in zip(("low", "high"), interval, strict=True)
        }
        f1 = {f"{PREFIX}f1/{row['genre']}": row["f1"] for row in self.per_genre if row["posters"]}
        slices = {
            f"{PREFIX}{kind}/{row['slice']}/{metric}": row[metric]
            for kind, rows in (("era", self.per_era), ("source", self.per_source))
            for row in rows
            for metric in SLICE_METRICS
            if metric in row
        }
        moved = {
            f"{PREFIX}change/{row['change']}": row["mean_change"]
            for row in self.behaviour["changes"]
        }
        folds = {
            f"cv/{metric}/{figure}": values[figure]
            for metric, values in self.cross_validation.items()
            for figure in ("mean", "std")
        }
        return {**self.metrics, **ends, **f1, **slices, **moved, **folds}
