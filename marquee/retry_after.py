"""The header `Retry-After`, which a busy server sends."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Read `Retry-After`, in seconds or as a date.

    Args:
        headers: An answer's headers.
        now: The clock (seconds since 1970).

    Returns:
        Seconds to wait, or None if the server does not say.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.astimezone(UTC).timestamp() - now())
