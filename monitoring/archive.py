"""The folder of all reports: where each window's report lies, and what earlier ones said."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from monitoring.collect import Window
from monitoring.report import SCHEMA_VERSION, Past

REPORT_FILE = "drift.json"
WORKSPACE = "workspace"
"""The folder of Evidently's workspace, beside those of the windows."""


def folder_of(out: str, window: Window) -> str:
    """Name the folder of a window's report: folders sort by time."""
    return storage.join(out, f"{window.since:%Y%m%dT%H%M%SZ}_{window.until:%Y%m%dT%H%M%SZ}")


def read_report(out: str, window: Window) -> dict[str, Any] | None:
    """Read the report on a window; give None if there is none.

    Args:
        out: The folder of all reports.
        window: The window.

    Raises:
        DataError: It is damaged, or a newer Marquee wrote it.
    """
    file = storage.join(folder_of(out, window), REPORT_FILE)
    return _read(file) if storage.exists(file) else None


def documents(out: str) -> Iterator[dict[str, Any]]:
    """Read all reports, the latest window first.

    Args:
        out: The folder of all reports.

    Yields:
        What `drift.json` holds; a report is read once it is asked for.

    Raises:
        DataError: A report is damaged, or a newer Marquee wrote it.
    """
    names = [name for name in storage.list_files(out) if name.endswith(f"/{REPORT_FILE}")]
    for name in sorted(names, reverse=True):
        yield _read(storage.join(out, name))


def read_past(out: str, version: str, window: Window, most: int = 12) -> list[Past]:
    """Read what reports of earlier windows said of the same model.

    Args:
        out: The folder of all reports.
        version: The model's version.
        window: The window before which they end.
        most: How many to read at most.

    Returns:
        The latest ones, in order of time.
    """
    found: list[Past] = []
    for document in documents(out):
        past = _past(document)
        if document["version"] == version and past.window.until <= window.since:
            found.append(past)
        if len(found) == most:
            break
    return found[::-1]


def _read(file: str) -> dict[str, Any]:
    document = parse_json(storage.read_text(file), file)
    check_schema_version(document, SCHEMA_VERSION, file)
    return document


def _past(document: dict[str, Any]) -> Past:
    since, until = (datetime.fromisoformat(document[name]) for name in ("since", "until"))
    return Past(
        window=Window(since=since, until=until),
        records=document["counted"]["records"],
        drift_share=document["drift_share"],
        causes=tuple(cause["name"] for cause in document["causes"]),
        scores=document.get("scores", {}),
    )
