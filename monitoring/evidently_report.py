"""Evidently's page and test suite of a window, and the workspace in which its UI finds them.

Evidently compares rows. The reference has none, but its profile is counts of one value a genre and
poster by era and label, from which rows can be made that have the same: only how genres go together
is lost, which nothing here looks at. Embeddings are Marquee's to compare: Evidently would draw a
map of them, which takes a minute.
"""

import atexit
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np
import pandas as pd
import pyarrow as pa
from evidently import BinaryClassification, DataDefinition, Dataset, Report
from evidently._pydantic_compat import PrivateAttr
from evidently.core.container import MetricOrContainer
from evidently.core.datasets import Dataset as AnyDataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context, Snapshot
from evidently.metrics import MeanValue, RocAuc, RowCount, ValueDrift
from evidently.metrics.group_by import GroupBy
from evidently.sdk.models import PanelMetric
from evidently.sdk.panels import line_plot_panel
from evidently.tests import lt
from evidently.ui.workspace import Project, Workspace
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning

from marquee.eras import ERAS
from marquee.profile import ATTRIBUTES, BINS, GIVEN, MEASURES, SLICES, UNLABELLED, YES, Profile
from monitoring.collect import SAMPLE
from monitoring.findings import NAN, State
from monitoring.report import DriftReport

_METHOD, _THRESHOLD = "wasserstein", 0.2
"""Evidently would choose by the number of rows: the same drift passes at one size and fails at
another. This one is in standard deviations of the reference."""
_SEED = 0
_SCORES = ("average precision", "f1", "calibration error")
"""How right the model is about a genre, as `Performance` names it."""


class Effect(SingleValueMetric):
    """Something that Marquee has measured on all predictions, for Evidently's pages."""

    kind: str
    what: str
    genre: str = ""
    era: str = ""
    # Private, as its name in the UI is made of all else: one that changes would break the line.
    _value: float = PrivateAttr(NAN)

    @classmethod
    def of(cls, value: float, kind: str, what: str, **more: Any) -> "Effect":
        """Make one of a value."""
        effect = cls(kind=kind, what=what, **more)
        effect._value = value
        return effect


class EffectCalculation(SingleValueCalculation[Effect]):
    """Gives what was measured."""

    def calculate(
        self, context: Context, current_data: AnyDataset, reference_data: AnyDataset | None
    ) -> SingleValue:
        """Give the value, whatever the rows are: it was measured on more of them."""
        return self.result(self.metric._value)

    def display_name(self) -> str:
        """Say what it is."""
        where = ", ".join(filter(None, (self.metric.genre, self.metric.era)))
        return f"{self.metric.kind}: {self.metric.what}{f' ({where})' if where else ''}"


def evidently_report(reference: Profile, sample: pa.Table, report: DriftReport) -> Snapshot:
    """Have Evidently report on a window.

    Args:
        reference: The bundle's profile.
        sample: Some predictions, as `Records.sample` gives them.
        report: What was measured on all of them.

    Returns:
        The run: it can be saved as a page, and added to a workspace.
    """
    genres = reference.genres
    rows = window_rows(sample, genres)
    labelled = bool(rows[[_label(genre) for genre in genres]].notna().all(axis=1).any())
    if labelled:
        rows = rows.dropna(subset=[_label(genre) for genre in genres])
    before = reference_rows(reference, SAMPLE)
    has_labels = labelled and _label(genres[0]) in before
    definition = DataDefinition(
        numerical_columns=[*map(_score, genres), *MEASURES],
        categorical_columns=["era"],
        classification=[
            BinaryClassification(
                name=genre, target=_label(genre), prediction_probas=_score(genre), pos_label=1
            )
            for genre in genres
        ]
        if has_labels
        else None,
    )
    if not has_labels:
        rows, before = (
            side.drop(columns=[_label(genre) for genre in genres], errors="ignore")
            for side in (rows, before)
        )
    sets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (rows, before)]
    metrics = [*_metrics(genres, has_labels), *_effects(report)]
    with warnings.catch_warnings():
        # Evidently scores at a threshold as well, at which a rare genre may never be predicted.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return Report(metrics, include_tests=True).run(
            *sets,
            timestamp=report.window.until.replace(tzinfo=None),
            name=str(report.window),
            tags=[report.verdict.outcome.value],
        )


def _score(genre: str) -> str:
    return f"p {genre}"


def _label(genre: str) -> str:
    return f"is {genre}"


def _metrics(genres: Sequence[str], labelled: bool) -> Iterator[MetricOrContainer]:
    yield RowCount()
    for column in (*MEASURES, *map(_score, genres)):
        yield ValueDrift(column=column, method=_METHOD, threshold=_THRESHOLD)
    for genre in genres:
        yield GroupBy(MeanValue(column=_score(genre)), "era")
        if labelled:
            yield RocAuc(classification_name=genre)


def _effects(report: DriftReport) -> Iterator[MetricOrContainer]:
    yield Effect.of(report.drift_share, "all", "drift share")
    yield Effect.of(float(report.counted.records), "all", "predictions")
    for attribute in ("era", "genre"):
        for name, value in _worst(report, attribute).items():
            yield Effect.of(value, "worst", name)
    for score in report.performance:
        for what in _SCORES:
            value = getattr(score, what.replace(" ", "_"))
            yield Effect.of(value, "right", what, genre=score.genre)
    for finding in report.findings:
        if finding.state is State.INSUFFICIENT or (finding.era and not finding.drifts):
            continue
        yield Effect.of(
            abs(finding.effect),
            finding.kind.value,
            finding.what,
            genre=finding.genre,
            era=finding.era,
            tests=[lt(max(finding.threshold, 1e-9))] if finding.drifts else None,
        )


def _worst(report: DriftReport, attribute: str) -> dict[str, float]:
    """Give the largest effect within each era or genre, in multiples of its threshold.

    What chance may explain is left out: the end of the interval that is nearer to nothing counts.
    """
    worst: dict[str, float] = {}
    for finding in report.findings:
        name = getattr(finding, attribute).replace("_", " ")
        if name and finding.threshold and finding.state is not State.INSUFFICIENT:
            sure = max(finding.low, -finding.high, 0.0) / finding.threshold
            worst[name] = max(worst.get(name, 0.0), sure)
    return worst


def window_rows(sample: pa.Table, genres: Sequence[str]) -> pd.DataFrame:
    """Turn predictions into rows for Evidently.

    Args:
        sample: As `Records.sample` gives them.
        genres: The G names.

    Returns:
        A row a prediction: era, measures, `p <genre>` and `is <genre>` (missing if unknown).
    """
    records = sample.to_pylist()
    frame = pd.DataFrame(
        {name: np.array([row[name] for row in records], dtype=float) for name in ATTRIBUTES}
    )
    frame["era"] = [row["slice"] for row in records]
    sides = np.array([(row["width"], row["height"]) for row in records], dtype=float).reshape(-1, 2)
    frame["size"] = np.log2(np.maximum(sides.prod(axis=1), 1))
    frame["shape"] = sides[:, 0] / np.maximum(sides[:, 1], 1)
    columns: dict[str, Any] = {}
    for genre in genres:
        columns[_score(genre)] = [dict(row["probabilities"]).get(genre) for row in records]
        columns[_label(genre)] = [
            None if row["known"] is None else int(genre in row["known"]) for row in records
        ]
    return pd.concat([frame, pd.DataFrame(columns)], axis=1)


def reference_rows(profile: Profile, most: int) -> pd.DataFrame:
    """Make rows that are distributed as a profile says, but for how genres go together.

    Args:
        profile: A reference.
        most: How many rows at most; eras keep their shares.

    Returns:
        Rows as `window_rows` gives them.
    """
    random = np.random.default_rng(_SEED)
    total = profile.posters[:GIVEN].sum()
    frames = []
    for s in range(GIVEN):
        posters = int(profile.posters[s])
        wanted = min(posters, round(most * posters / total)) if posters else 0
        if wanted:
            frames.append(_slice_rows(profile, s, wanted, random))
    return pd.concat(frames, ignore_index=True)


def _slice_rows(
    profile: Profile, number: int, count: int, random: np.random.Generator
) -> pd.DataFrame:
    columns: dict[str, Any] = {"era": [SLICES[number]] * count}
    for m, (name, (low, high)) in enumerate(MEASURES.items()):
        values = _spread(profile.measures[m, number], count, random)
        columns[name] = low + (high - low) * values
    for g, genre in enumerate(profile.genres):
        labels, scores = _labelled(profile.scores[g, number], count, random)
        columns[_score(genre)] = scores
        if labels is not None:
            columns[_label(genre)] = labels
    return pd.DataFrame(columns)


def _labelled(
    counts: NDArray[Any], count: int, random: np.random.Generator
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64]]:
    """Draw labels with scores from counts [3, B]."""
    flat = counts.ravel()
    places = random.choice(len(flat), count, p=flat / flat.sum())
    labels, bins = np.divmod(places, counts.shape[-1])
    scores = (bins + random.random(count)) / counts.shape[-1]
    return (None if counts[UNLABELLED].any() else (labels == YES).astype(np.int64)), scores


def _spread(counts: NDArray[Any], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw values from a histogram; within a bin they lie evenly."""
    bins = random.choice(len(counts), count, p=counts / counts.sum())
    return (bins + random.random(count)) / BINS


@cache
def _hush_nanobind() -> None:
    """Keep DuckDB from listing its own objects when Python ends.

    Once Evidently has written to a workspace, some outlive the interpreter, which nanobind (of
    DuckDB 2.0) takes for leaks and tells in 50 lines; it can be told not to in C++ only.
    """
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def add_run(uri: str, run: Snapshot, report: DriftReport) -> None:
    """Add a run to the workspace that Evidently's UI shows; one of the same window is replaced.

    Args:
        uri: The workspace's folder; it is made if there is none.
        run: What Evidently reported.
        report: What Marquee did.
    """
    _hush_nanobind()
    workspace = Workspace.create(uri)
    name = f"Marquee {report.version[:12]}"
    found = [p for p in workspace.list_projects() if p.name == name]
    project = found[0] if found else _new_project(workspace, name, report)
    for known in workspace.list_runs(project.id):
        if workspace.get_run(project.id, known).name == str(report.window):
            workspace.delete_run(project.id, known)
    workspace.add_run(project.id, run)


def _new_project(workspace: Workspace, name: str, report: DriftReport) -> Project:
    project = workspace.create_project(
        name, description="Drift of genres and eras; see drift.html for what it means"
    )
    shown = {
        "Share of slices that drift": [{"what": "drift share"}],
        "Predictions": [{"what": "predictions"}],
        "Worst slice of each era, in thresholds": [
            {"kind": "worst", "what": era.replace("_", " ")} for era in ERAS
        ],
        "Worst slice of each genre, in thresholds": [
            {"kind": "worst", "what": genre} for genre in report.genres
        ],
        "How far genres' probabilities moved": [
            {"what": "probability", "genre": genre, "era": ""} for genre in report.genres
        ],
        **{
            f"{what[0].upper()}{what[1:]} of genres": [
                {"kind": "right", "what": what, "genre": genre} for genre in report.genres
            ]
            for what in _SCORES
        },
        "Look of posters": [{"kind": "input", "what": name, "era": ""} for name in MEASURES],
    }
    for title, values in shown.items():
        metrics = [
            PanelMetric(
                legend=value.get("genre") or value["what"],
                metric="Effect",
                metadata={},
                metric_labels=value,
            )
            for value in values
        ]
        project.dashboard.add_panel(line_plot_panel(title, metrics))
    return project
