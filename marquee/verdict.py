"""The verdict: what every gate writes, in the same words for people and machines."""

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataGateFailed, Inconclusive, MarqueeError, QualityGateFailed

SCHEMA_VERSION = 1

_FAILURES: dict[str, type[MarqueeError]] = {"data": DataGateFailed}


class Outcome(enum.StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measured value against its bound."""

    name: str
    outcome: Outcome
    measured: str
    bound: str
    blame: tuple[str, ...] = ()
    """The rows or slices to blame, the worst first."""
    remedy: str = ""
    """What to do next; empty if the check passed."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A gate's checks and what they add up to."""

    gate: str
    """`data`, `quality`, `canary` or `drift`."""
    subject: str
    """What was judged, such as a catalog's digest."""
    checks: tuple[Check, ...]
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema_version: int = SCHEMA_VERSION

    @property
    def outcome(self) -> Outcome:
        """Failed if any check failed, else inconclusive if any is, else passed."""
        outcomes = {check.outcome for check in self.checks}
        for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
            if outcome in outcomes:
                return outcome
        return Outcome.PASSED

    def sentence(self) -> str:
        """Say the verdict in a sentence, worst checks named."""
        worst = [check for check in self.checks if check.outcome is not Outcome.PASSED]
        head = f"The {self.gate} gate {_VERBS[self.outcome]}"
        if not worst:
            return f"{head}: all {len(self.checks)} checks hold."
        details = "; ".join(
            f"{check.name}: {check.measured} (asked: {check.bound})" for check in worst
        )
        return f"{head}: {details}."

    def to_json(self) -> str:
        """Write the verdict as JSON, its outcome and sentence included."""
        document = {
            **dataclasses.asdict(self),
            "outcome": self.outcome,
            "sentence": self.sentence(),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read a verdict.

        Args:
            text: What `to_json` wrote.
            where: Its URI, for error messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document: dict[str, Any] = parse_json(text, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        checks = tuple(
            Check(**item | {"outcome": Outcome(item["outcome"]), "blame": tuple(item["blame"])})
            for item in document["checks"]
        )
        return cls(
            gate=document["gate"],
            subject=document["subject"],
            checks=checks,
            created_at=document["created_at"],
        )

    def raise_unless_passed(self) -> None:
        """Turn a verdict other than passed into the error that carries its exit code.

        Raises:
            DataGateFailed: A data gate failed.
            QualityGateFailed: Another gate failed.
            Inconclusive: There was not enough evidence.
        """
        if self.outcome is Outcome.PASSED:
            return
        remedies = dict.fromkeys(check.remedy for check in self.checks if check.remedy)
        failure = _FAILURES.get(self.gate, QualityGateFailed)
        error = Inconclusive if self.outcome is Outcome.INCONCLUSIVE else failure
        raise error(self.sentence(), remedy="; ".join(remedies))


_VERBS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.INCONCLUSIVE: "is inconclusive",
}
