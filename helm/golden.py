"""Files that a script writes and git keeps: which are stale, and their renewal."""

from collections.abc import Iterable
from pathlib import Path


def stale(wanted: dict[Path, str], there: Iterable[Path]) -> list[Path]:
    """Give the files that are not as they are to be, those that nothing writes any more too.

    Args:
        wanted: The files, and their texts.
        there: The files that are there and that nobody but the script writes.

    Returns:
        Their paths, sorted.
    """
    differ = {
        path for path, text in wanted.items() if not path.exists() or path.read_text() != text
    }
    return sorted(differ | (set(there) - set(wanted)))


def renew(wanted: dict[Path, str], there: Iterable[Path]) -> None:
    """Write the files that are stale, and remove those that nothing writes any more.

    Args:
        wanted: The files, and their texts.
        there: The files that are there and that nobody but the script writes.
    """
    for path in stale(wanted, there):
        if path not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
