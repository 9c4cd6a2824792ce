"""Posters that users sent, kept for some hours on the operator's say-so: a rollout replays them.

`<uri>/until=<YYYY-MM-DDTHH>/<sha256>` is a file as it was sent. The hour (UTC) at which it has to
be gone is part of its name, so whoever comes across an expired one removes it.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from marquee import storage

_UNTIL, _HOUR = "until=", "%Y-%m-%dT%H"


def keep_sample(uri: str, image: bytes, now: datetime, hours: int) -> str:
    """Keep a poster; the same one again is kept once an hour.

    Args:
        uri: The folder of all samples.
        image: The file as it was sent.
        now: The time (UTC).
        hours: How long it may be kept, at most.

    Returns:
        Its URI.
    """
    until = f"{_UNTIL}{now + timedelta(hours=hours):{_HOUR}}"
    place = storage.join(uri, until, hashlib.sha256(image).hexdigest())
    storage.write_bytes(place, image)
    return place


def forget_samples(uri: str, now: datetime) -> int:
    """Remove what may no longer be kept.

    Args:
        uri: The folder of all samples.
        now: The time (UTC).

    Returns:
        How many posters were removed.
    """
    expired = [file for file, until in _files(uri) if until <= now]
    for file in expired:
        storage.remove(storage.join(uri, file))
    return len(expired)


def recent_samples(uri: str, most: int, now: datetime) -> Iterator[tuple[str, bytes]]:
    """Give the samples that may be kept for longest, and remove those that may not.

    Args:
        uri: The folder of all samples.
        most: How many to give at most.
        now: The time (UTC).

    Yields:
        The sha256 of a poster, and its file.
    """
    forget_samples(uri, now)
    seen: set[str] = set()
    for file, _ in sorted(_files(uri), reverse=True):
        name = file.rpartition("/")[2]
        if name not in seen and len(seen) < most:
            seen.add(name)
            with contextlib.suppress(FileNotFoundError):  # its time was over just now
                yield name, storage.read_bytes(storage.join(uri, file))


def _files(uri: str) -> list[tuple[str, datetime]]:
    """List samples and when they have to be gone."""
    found = []
    for file in storage.list_files(uri):
        folder, _, _ = file.partition("/")
        with contextlib.suppress(ValueError):  # not ours
            until = datetime.strptime(folder, f"{_UNTIL}{_HOUR}").replace(tzinfo=UTC)
            found.append((file, until))
    return found
