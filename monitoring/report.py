"""What a drift report holds, and what it says in words, as a verdict and as a document."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from marquee.settings import DriftSettings
from marquee.verdict import Check, Outcome, Severity, Verdict
from monitoring.causes import Cause
from monitoring.collect import Counted, Window
from monitoring.findings import Finding, Kind, State
from monitoring.performance import Performance, means
from monitoring.words import BETTER, NEXT, SEEN, describe

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prediction in a slice that drifts."""

    what: str
    prediction_id: str
    film_id: str | None
    probability: float


@dataclass(frozen=True, kw_only=True)
class Past:
    """What an earlier window's report said."""

    window: Window
    records: int
    drift_share: float
    causes: tuple[str, ...]
    scores: dict[str, float]
    """How right the model was, as `monitoring.performance.means` gives it."""


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What a window is like beside its reference."""

    window: Window
    version: str
    genres: tuple[str, ...]
    counted: Counted
    findings: tuple[Finding, ...]
    causes: tuple[Cause, ...]
    examples: tuple[Example, ...]
    performance: tuple[Performance, ...]
    """By genre, where truth is known of enough posters."""
    past: tuple[Past, ...]
    """Earlier windows of the same model, the latest last."""
    truth: str
    """Digest of the films' genres that were known; empty without any."""
    settings: DriftSettings

    @property
    def drift_share(self) -> float:
        """Which share (0..1) of what could be judged has drifted."""
        judged = [f for f in self.findings if f.state is not State.INSUFFICIENT]
        return sum(f.drifts for f in judged) / len(judged) if judged else 0.0

    @property
    def verdict(self) -> Verdict:
        """The verdict: failed if something drifts."""
        kinds = [_kind(self, kind) for kind in reversed(Kind)]
        checks = [_enough(self), _readable(self), _clocks(self), *kinds]
        return Verdict(
            gate="drift", subject=f"{self.version[:12]}, {self.window}", checks=tuple(checks)
        )

    def sentence(self) -> str:
        """Say the verdict in a sentence for people."""
        if self.causes:
            said = "; ".join(describe(cause) for cause in self.causes[:3])
            more = len(self.causes) - 3
            return f"Drift: {said}{f'; and {more} more' if more > 0 else ''}."
        if self.verdict.outcome is Outcome.PASSED:
            return f"No drift in {self.counted.records:,} predictions."
        return f"Nobody can tell: {_why_unclear(self)}."

    def next(self, kind: Kind) -> str:
        """Say what to do about a kind of drift."""
        if kind is Kind.PREDICTION and self.performance:
            return SEEN
        if kind is Kind.CONCEPT and not any(cause.worse for cause in self.causes):
            return BETTER
        return NEXT[kind]

    def since(self, cause: Cause) -> datetime:
        """Tell since when a cause is there: the first of the windows in a row that name it."""
        begun = self.window.since
        for past in reversed(self.past):
            if cause.name not in past.causes:
                break
            begun = past.window.since
        return begun

    def to_json(self) -> str:
        """Write the report for machines."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "since": self.window.since.isoformat(),
            "until": self.window.until.isoformat(),
            "sentence": self.sentence(),
            "outcome": self.verdict.outcome,
            "drift_share": round(self.drift_share, 6),
            "counted": asdict(self.counted),
            "scores": means(self.performance),
            "performance": [_plain(asdict(score)) for score in self.performance],
            "truth": self.truth,
            "causes": [
                {
                    "name": cause.name,
                    "kind": cause.kind,
                    "what": cause.what,
                    "worse": cause.worse,
                    "slices": list(cause.slices),
                    "sentence": describe(cause),
                    "since": self.since(cause).isoformat(),
                    "next": self.next(cause.kind),
                }
                for cause in self.causes
            ],
            "findings": [_plain(asdict(finding)) for finding in self.findings],
            "examples": [asdict(example) for example in self.examples],
            "settings": asdict(self.settings),
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round numbers; what nobody measured is null, as JSON knows no NaN."""
    return {
        name: (None if math.isnan(value) else float(f"{value:.6g}"))
        if isinstance(value, float)
        else value
        for name, value in values.items()
    }


def _why_unclear(report: DriftReport) -> str:
    counted = report.counted
    if counted.records >= report.settings.min_samples:
        return f"{len(counted.unreadable)} of {_files(report)} files of records are damaged"
    if not counted.records and counted.others:
        return f"{counted.others:,} predictions are of other models, none is of this one"
    return f"{counted.records:,} predictions are too few"


def _enough(report: DriftReport) -> Check:
    counted, least = report.counted, report.settings.min_samples
    remedy = "take a longer window; see that the server writes records here"
    if counted.others > counted.records:
        remedy = f"report on the bundle that predicted: most are of {counted.roles[0][0]}"
    enough = counted.records >= least
    return Check(
        name="predictions",
        outcome=Outcome.PASSED if enough else Outcome.INCONCLUSIVE,
        measured=f"{counted.records:,}",
        bound=f"at least {least:,}",
        remedy="" if enough else remedy,
    )


def _readable(report: DriftReport) -> Check:
    damaged = report.counted.unreadable
    return Check(
        name="files of records",
        outcome=Outcome.INCONCLUSIVE if damaged else Outcome.PASSED,
        measured=f"{len(damaged):,} of {_files(report):,} are damaged",
        bound="none",
        blame=damaged,
        remedy="restore them or move them away, and report again" if damaged else "",
    )


def _clocks(report: DriftReport) -> Check:
    jumped = report.counted.jumped
    return Check(
        name="clocks",
        severity=Severity.WARNING,
        outcome=Outcome.FAILED if jumped else Outcome.PASSED,
        measured=f"{jumped:,} predictions have another time than their file",
        bound="none",
        remedy="see to the servers' clocks; such predictions count at their file's hour"
        if jumped
        else "",
    )


def _files(report: DriftReport) -> int:
    return report.counted.files + len(report.counted.unreadable)


def _kind(report: DriftReport, kind: Kind) -> Check:
    found = [cause for cause in report.causes if cause.kind is kind]
    mine = [finding for finding in report.findings if finding.kind is kind]
    judged = [finding for finding in mine if finding.state is not State.INSUFFICIENT]
    return Check(
        name=f"{kind} drift",
        outcome=Outcome.FAILED if found else Outcome.PASSED,
        measured="; ".join(describe(cause) for cause in found)
        or (f"none in {len(judged):,} slices" if judged else "nothing could be judged"),
        bound="none",
        blame=tuple(cause.name for cause in found),
        remedy=report.next(kind) if found else "",
    )
