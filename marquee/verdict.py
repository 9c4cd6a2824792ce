"""The verdict: what every gate writes, in the same words for people and machines."""

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataGateFailed, Inconclusive, MarqueeError, QualityGateFailed

SCHEMA_VERSION = 2

_FAILURES: dict[str, type[MarqueeError]] = {"data": DataGateFailed}


class Outcome(enum.StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Severity(enum.StrEnum):
    """What it means if a check does not hold."""

    CRITICAL = "critical"
    """The gate stays shut."""
    WARNING = "warning"
    """People should know; the gate opens all the same."""
    INFO = "info"
    """Worth a look when something else is odd."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measured value against its bound."""

    name: str
    outcome: Outcome
    measured: str
    bound: str
    severity: Severity = Severity.CRITICAL
    blame: tuple[str, ...] = ()
    """The rows or slices to blame, or the first of them."""
    blamed: int = 0
    """How many are to blame in all; 0 if `blame` names them all."""
    remedy: str = ""
    """What to do next; empty if the check passed."""

    @property
    def holds(self) -> bool:
        """Whether it passed."""
        return self.outcome is Outcome.PASSED

    def blame_text(self, most: int) -> str:
        """Name who is to blame, such as `p1, p2 and 40 more`.

        Args:
            most: How many to name at most.
        """
        named = self.blame[:most]
        more = max(self.blamed, len(self.blame)) - len(named)
        return ", ".join(named) + (f" and {more:,} more" if more and named else "")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A gate's checks and what they add up to."""

    gate: str
    """`data`, `quality`, `canary`, `drift` or `preflight`."""
    subject: str
    """What was judged, such as a catalog's digest."""
    checks: tuple[Check, ...]
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema_version: int = SCHEMA_VERSION

    def broken(self, severity: Severity) -> list[Check]:
        """Give the checks of a severity that did not pass, those that failed first."""
        found = [check for check in self.checks if check.severity is severity and not check.holds]
        return sorted(found, key=lambda check: check.outcome is not Outcome.FAILED)

    @property
    def outcome(self) -> Outcome:
        """Failed if a critical check failed, else inconclusive if one is, else passed."""
        outcomes = {check.outcome for check in self.broken(Severity.CRITICAL)}
        for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
            if outcome in outcomes:
                return outcome
        return Outcome.PASSED

    def sentence(self) -> str:
        """Say the verdict in a sentence: what failed in detail, warnings and notes by name."""
        head = f"The {self.gate} gate {_VERBS[self.outcome]}"
        asides = [self._aside(severity) for severity in _ASIDES if self.broken(severity)]
        details = [_detail(check) for check in self.broken(Severity.CRITICAL)]
        if details:
            return ". ".join([f"{head}: {'; '.join(details)}", *asides]) + "."
        if asides:
            return f"{head} with {', and '.join(asides)}."
        return f"{head}: all {len(self.checks)} checks hold."

    def _aside(self, severity: Severity) -> str:
        names = [check.name for check in self.broken(severity)]
        return f"{len(names)} {_ASIDES[severity]}{'s' * (len(names) > 1)}: {'; '.join(names)}"

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
        checks = tuple(_read_check(item) for item in document["checks"])
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
        critical = self.broken(Severity.CRITICAL)
        remedies = dict.fromkeys(check.remedy for check in critical if check.remedy)
        failure = _FAILURES.get(self.gate, QualityGateFailed)
        error = Inconclusive if self.outcome is Outcome.INCONCLUSIVE else failure
        raise error(self.sentence(), remedy="; ".join(remedies))


_VERBS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.INCONCLUSIVE: "is inconclusive",
}

_ASIDES = {Severity.WARNING: "warning", Severity.INFO: "note"}
_NAMED = 3
"""How many rows a sentence names."""


def _detail(check: Check) -> str:
    blame = check.blame_text(_NAMED)
    first = f"; see {blame}" if blame else ""
    return f"{check.name}: {check.measured} (asked: {check.bound}{first})"


def _read_check(item: dict[str, Any]) -> Check:
    """Read a check; version 1 knew no severities, every check of it was critical."""
    return Check(
        **item
        | {
            "outcome": Outcome(item["outcome"]),
            "severity": Severity(item.get("severity", Severity.CRITICAL)),
            "blame": tuple(item["blame"]),
        }
    )
