"""Writes RESULTS.md: each benchmark owns a section, and replaces it when it runs again."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
_HEAD = "# Results\n\nWritten by the scripts of this folder; do not edit by hand.\n"


@dataclass(frozen=True)
class Claim:
    """Something that must hold."""

    what: str
    measured: str
    wanted: str
    holds: bool


def record_claims(
    title: str, command: str, claims: Sequence[Claim], note: str = "", file: Path = FILE
) -> bool:
    """Write a section of claims, and print them.

    Args:
        title: The section's heading.
        command: What a person runs to get these figures.
        claims: What was to be shown.
        note: What to know when reading them.
        file: The document.

    Returns:
        Whether all hold.
    """
    rows = [[c.what, c.measured, c.wanted, "yes" if c.holds else "**no**"] for c in claims]
    record(title, command, ["", "measured", "wanted", "holds"], rows, note, file)
    for claim in claims:
        print(f"{'holds' if claim.holds else 'FAILS'}: {claim.what}: {claim.measured}")
    return all(claim.holds for claim in claims)


def record(
    title: str,
    command: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | float]],
    note: str = "",
    file: Path = FILE,
) -> None:
    """Write a benchmark's section.

    Args:
        title: The section's heading.
        command: What a person runs to get these figures.
        columns: Column heads.
        rows: Cells; floats are written to three decimals.
        note: What to know when reading them.
        file: The document.
    """
    lines = [
        f"## {title}",
        "",
        f"`{command}`",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} CPU cores. {note}".strip(),
        "",
        _row(columns),
        _row(["---"] * len(columns)),
        *(_row(row) for row in rows),
        "",
    ]
    text = file.read_text(encoding="utf-8") if file.exists() else _HEAD
    kept = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
    file.write_text(kept.rstrip() + "\n\n" + "\n".join(lines), encoding="utf-8")


def _row(cells: Sequence[str | float]) -> str:
    texts = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"| {' | '.join(texts)} |"
