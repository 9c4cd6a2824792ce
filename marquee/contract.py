"""What every stored document has in common: JSON objects with a `schema_version`."""

import json
from typing import Any

from marquee.errors import DataError


def parse_json(data: bytes | str, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: The document.
        where: Its URI, for error messages.

    Returns:
        The object.

    Raises:
        DataError: It is not JSON, or not an object.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise DataError(
            f"{where} is not valid JSON ({error})", remedy="restore it or write it anew"
        ) from None
    if not isinstance(document, dict):
        raise DataError(f"{where} holds no JSON object", remedy="restore it or write it anew")
    return document


def check_schema_version(document: dict[str, Any], supported: int, where: str) -> None:
    """Refuse a document written by a newer Marquee; older ones are read.

    Args:
        document: The parsed document.
        supported: The newest version this code reads.
        where: Its URI, for error messages.

    Raises:
        DataError: The version is missing, no number, or newer than `supported`.
    """
    version = document.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"{where} has schema_version {version!r}", remedy="is this the right file?")
    if version > supported:
        raise DataError(
            f"{where} has schema_version {version}, this Marquee reads up to {supported}",
            remedy="upgrade Marquee",
        )
