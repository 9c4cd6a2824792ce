"""Blocks that show a gate's checks: what does not hold and what to do, and all of them by theme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marquee.verdict import Check, Outcome, Severity, Verdict

_NAMED = 8
"""Rows that a page names; the verdict's JSON names more."""

WORDS = {Severity.CRITICAL: "critical", Severity.WARNING: "warning", Severity.INFO: "note"}


@dataclass(frozen=True, kw_only=True)
class ToDo:
    """The checks that do not hold, the critical ones first, and what to do about each."""

    title: str
    checks: Sequence[Check]
    note: str = ""
    kind: str = "todo"

    @classmethod
    def of(cls, verdict: Verdict, note: str = "") -> "ToDo":
        """Take what does not hold of a verdict.

        Args:
            verdict: What a gate said.
            note: What to say below.
        """
        broken = [check for severity in Severity for check in verdict.broken(severity)]
        return cls(title="What to do", checks=broken, note=note)

    def items(self) -> list[dict[str, Any]]:
        """Give the checks for the template; what was measured may name who is to blame."""
        return [
            vars(check)
            | _state(check)
            | {"blamed": "" if _named(check) else check.blame_text(_NAMED)}
            for check in self.checks
        ]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Checks in groups, each with what was measured and what was asked for."""

    title: str
    groups: Mapping[str, Sequence[Check]]
    """A group of no name has no heading."""
    note: str = ""
    kind: str = "checks"

    @property
    def graded(self) -> bool:
        """Whether some checks are more severe than others."""
        return len({check.severity for checks in self.groups.values() for check in checks}) > 1

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Give the groups for the template."""
        return {
            name: [
                vars(check) | _state(check) | {"word": WORDS[check.severity]} for check in checks
            ]
            for name, checks in self.groups.items()
        }


def _named(check: Check) -> bool:
    return all(name.replace("_", " ") in check.measured for name in check.blame)


def _state(check: Check) -> dict[str, str]:
    """Say in a word, and a colour, how a check came out."""
    if check.holds:
        return {"state": "ok", "tone": "ok"}
    if check.outcome is Outcome.INCONCLUSIVE:
        return {"state": "unclear", "tone": "warning"}
    return {"state": WORDS[check.severity], "tone": check.severity.value}
