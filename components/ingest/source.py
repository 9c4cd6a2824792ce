"""What a source of posters is to the ingest step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from marquee.catalog import Facts, Known, Refusal


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A poster that a source offers; its bytes are read only when they are needed."""

    facts: Facts
    row: int | None
    """Where the source says it, for messages."""
    read: Callable[[], bytes]
    """Reads the poster's bytes, maybe in another process; raises `InvalidImage` where there are
    none."""


@dataclass(frozen=True)
class Kept:
    """A poster that the catalog holds already, as it should be."""

    poster_id: str


@dataclass(frozen=True)
class Skipped:
    """A film that is no poster for us, though nothing is wrong with it."""

    reason: str


Item = Offer | Refusal | Kept | Skipped


class PosterSource(Protocol):
    """A place that posters come from.

    A source gives each id at most once.
    """

    name: str
    """Tells this source from others in the quarantine of a catalog."""

    def total(self, known: Known) -> int | None:
        """Count what `items` will give, or None if that is not known beforehand."""
        ...

    def items(self, known: Known) -> Iterator[Item]:
        """Give each poster, or the reason why a row holds none.

        Args:
            known: What the catalog holds; a source to which a poster is dear does not fetch it
                again.
        """
        ...
