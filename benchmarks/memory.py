"""Runs a command and watches the memory of all its processes."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marquee.processes import family

_EVERY = 0.1


@dataclass(frozen=True)
class Run:
    """How long a command took, and what it held."""

    seconds: float
    peak_mb: float
    """The most anonymous memory (MB) that all its processes held together (`together`)."""
    largest_mb: float
    """The most that one process held (RssAnon)."""


def rss_anon(pid: int) -> int:
    """Give a process's anonymous memory in KiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def together(pid: int) -> int:
    """Give the anonymous memory in KiB of a process and all below it; 0 if it has ended.

    What forked processes share counts once (Pss_Anon): RssAnon would count it in each of them.
    """
    total = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon"))
    return total


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
        peak = max(peak, together(process.pid))
        largest = max(largest, *(rss_anon(pid) for pid in family(process.pid)), 0)
        time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(process.returncode)
    return Run(time.monotonic() - start, peak / 1024, largest / 1024)
