"""What a server is told when it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.ingest.tmdb_server.faults import check_shares
from components.ingest.tmdb_server.films import MAX_FILMS, POSTER_WIDTHS
from marquee.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a server offers, and how it treats its clients.

    Raises:
        UsageError: A value is out of range.
    """

    films: int = 200
    """How many films; the first of them are the same in every catalogue."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 0
    """The port; 0 for any free one."""
    token: str | None = None
    """The only token that is accepted; without it any token is, but not none at all."""
    rate_limit: int | None = None
    """Calls of the API a second, images not counted; beyond it they are answered 429."""
    faults: Mapping[str, float] = field(default_factory=dict)
    """Of each kind (`faults.KINDS`) the share of requests that it befalls."""
    seed: int = 0
    """Chooses the requests that faults befall."""
    hold: float = 60.0
    """Seconds that the fault `timeout` keeps a client waiting."""
    throttle_seconds: float = 0.0
    """How long every request is answered 429, once, from the 200th on."""
    log: Path | None = None
    """Where to write a line of JSON for each request."""
    cache: Path | None = None
    """Where posters are kept; in a temporary folder without it."""
    prepare: str | None = None
    """The size of which all posters are drawn before the server is ready."""

    def __post_init__(self) -> None:
        check_shares(self.faults)
        if not 1 <= self.films <= MAX_FILMS:
            raise UsageError(
                f"cannot serve {self.films} films", remedy=f"ask for 1 to {MAX_FILMS:,}"
            )
        if self.rate_limit is not None and self.rate_limit < 1:
            raise UsageError(f"the rate limit is {self.rate_limit}", remedy="use 1 or more")
        if self.throttle_seconds < 0:
            raise UsageError(f"the spell is {self.throttle_seconds:g} s", remedy="use 0 or more")
        if self.prepare is not None and self.prepare not in POSTER_WIDTHS:
            raise UsageError(
                f"there is no poster size {self.prepare!r}",
                remedy=f"use one of: {', '.join(POSTER_WIDTHS)}",
            )
