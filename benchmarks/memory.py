"""Runs a command and watches the memory of all its processes."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marquee.processes import family

_EVERY = 0.05


@dataclass(frozen=True)
class Run:
    """How long a command took, and what it held."""

    seconds: float
    peak_mb: float
    """The most anonymous memory (RssAnon, MB) that all its processes held together."""
    largest_mb: float
    """The most that one process held."""


def rss_anon(pid: int) -> int:
    """Give a process's anonymous memory in KiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def watch(command: Sequence[str], **options: object) -> Run:
    """Run a command to its end.

    Args:
        command: The command.
        options: For `subprocess.Popen`.

    Raises:
        SystemExit: The command failed.
    """
    start = time.monotonic()
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    peak = largest = 0
    while process.poll() is None:
        held = [rss_anon(pid) for pid in family(process.pid)]
        peak, largest = max(peak, sum(held)), max(largest, *held, 0)
        time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(process.returncode)
    return Run(time.monotonic() - start, peak / 1024, largest / 1024)
