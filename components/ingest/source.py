"""What a source of posters is to the ingest step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from marquee.catalog import Facts, Refusal


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A poster that a source offers; its bytes are read only when they are needed."""

    facts: Facts
    row: int | None
    """Where the source says it, for messages."""
    read: Callable[[], bytes]
    """Reads the poster's bytes; raises `InvalidImage` where there are none."""


class PosterSource(Protocol):
    """A place that posters come from.

    A source gives its posters in the same order every time, and each id at most once.
    """

    name: str
    """Tells this source from others in the quarantine of a catalog."""

    def total(self) -> int | None:
        """Count what `items` will give, or None if that is not known beforehand."""
        ...

    def items(self) -> Iterator[Offer | Refusal]:
        """Give each poster, or the reason why a row holds none."""
        ...
