"""The folder of all reports: where each window's report lies, and what earlier ones said."""

import logging
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError
from monitoring.collect import Window
from monitoring.report import SCHEMA_VERSION, Past

logger = logging.getLogger(__name__)

REPORT_FILE = "drift.json"
_WINDOW = re.compile(r"\d{8}T\d{6}Z_\d{8}T\d{6}Z")
_LOOKED_BACK = 60
"""How many reports are read to find those of one model."""
WORKSPACE = "workspace"
"""The folder of Evidently's workspace, beside those of the windows."""


def folder_of(out: str, window: Window) -> str:
    """Name the folder of a window's report: folders sort by time."""
    return storage.join(out, f"{window.since:%Y%m%dT%H%M%SZ}_{window.until:%Y%m%dT%H%M%SZ}")


def reports_folder(out: str) -> str:
    """Give the folder of all reports, of which people may name the monitoring run's instead."""
    return storage.join(out, "drift") if storage.exists(storage.join(out, "drift")) else out


def read_report(out: str, window: Window) -> dict[str, Any] | None:
    """Read the report on a window; give None if there is none that can be read.

    Args:
        out: The folder of all reports.
        window: The window.
    """
    file = storage.join(folder_of(out, window), REPORT_FILE)
    return _read(file) if storage.exists(file) else None


def documents(out: str) -> Iterator[dict[str, Any]]:
    """Read all reports, the latest window first; those that are damaged are left out.

    Args:
        out: The folder of all reports.

    Yields:
        What `drift.json` holds; a report is read once it is asked for.
    """
    for name in sorted(filter(_WINDOW.fullmatch, storage.list_folders(out)), reverse=True):
        file = storage.join(out, name, REPORT_FILE)
        document = _read(file) if storage.exists(file) else None
        if document:
            yield document


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
    for document in islice(documents(out), _LOOKED_BACK):
        past = _past(document)
        if document["version"] == version and past.window.until <= window.since:
            found.append(past)
        if len(found) == most:
            break
    return found[::-1]


def _read(file: str) -> dict[str, Any] | None:
    try:
        document = parse_json(storage.read_text(file), file)
        check_schema_version(document, SCHEMA_VERSION, file)
    except (DataError, UnicodeDecodeError) as error:
        logger.warning("%s is no drift report: %s", file, error)
        return None
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
