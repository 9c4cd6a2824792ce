"""What the server does to a client on purpose: faults, a limit, a spell of refusals."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from marquee.errors import UsageError

KINDS = ("5xx", "timeout", "truncate", "type")
"""An error of the server, no answer at all, half an answer, an answer of another type."""

MAX_SHARE = 0.9
"""So that a request that is repeated succeeds in the end."""

SPELL_BEGINS = 200
"""The request that a spell of refusals begins with."""

_STATUS_CODES = (11, 43, 9, 46, 24)
"""TMDB's codes for HTTP 500, 502, 503, 503 and 504."""


@dataclass(frozen=True)
class Fault:
    """What befalls a request."""

    kind: str
    """One of `KINDS`."""
    code: int
    """TMDB's status code (kind `5xx`)."""
    retry_after: int | None
    """Seconds to put into `Retry-After` (kind `5xx`)."""


def check_shares(shares: Mapping[str, float]) -> None:
    """Check how much of the traffic each fault is to befall.

    Args:
        shares: Of each of `KINDS` its share, 0 to 1.

    Raises:
        UsageError: A kind is unknown, or a share or their sum is out of range.
    """
    for kind, share in shares.items():
        if kind not in KINDS:
            raise UsageError(f"unknown fault {kind!r}", remedy=f"use {', '.join(KINDS)}")
        if not 0 <= share <= 1:
            raise UsageError(
                f"the share {share:g} of the fault {kind} is outside 0..1",
                remedy="give a share of all requests, such as .05 for one in twenty",
            )
    if sum(shares.values()) > MAX_SHARE + 1e-9:
        raise UsageError(
            f"the faults' shares sum to {sum(shares.values()):g}, above {MAX_SHARE}",
            remedy="leave a tenth of the requests or more without a fault",
        )


def parse_shares(text: str) -> dict[str, float]:
    """Read shares such as `5xx=.05,timeout=.02`.

    Args:
        text: Kinds and shares.

    Returns:
        The share of each kind.

    Raises:
        UsageError: The text is of another form, or see `check_shares`.
    """
    shares = {}
    for part in text.split(","):
        kind, _, share = part.strip().partition("=")
        try:
            shares[kind] = float(share)
        except ValueError:
            raise UsageError(
                f"cannot read the fault {part.strip()!r}",
                remedy="write kinds and shares, such as 5xx=.05,timeout=.02",
            ) from None
    check_shares(shares)
    return shares


def spread(rate: float) -> dict[str, float]:
    """Spread a share evenly over all kinds.

    Args:
        rate: The share of requests that any fault befalls.

    Returns:
        The share of each kind.

    Raises:
        UsageError: The rate is below 0 or above .9.
    """
    shares = dict.fromkeys(KINDS, rate / len(KINDS))
    check_shares(shares)
    return shares


class Faults:
    """Decides what befalls each request, in a way that can be repeated.

    A decision follows from the request and how often it was made before, not from what other
    clients ask in between: the same run meets the same faults, and a repeated request succeeds
    sooner or later.

    Args:
        shares: Of each kind its share of the requests.
        seed: Another seed gives other faults.
    """

    def __init__(self, shares: Mapping[str, float], seed: int = 0) -> None:
        self._shares = {kind: share for kind, share in shares.items() if share}
        self._seed = seed
        self._asked: Counter[str] = Counter()

    def draw(self, request: str) -> Fault | None:
        """Decide about a request.

        Args:
            request: Its method, path and query.

        Returns:
            What befalls it, or None.
        """
        if not self._shares:
            return None
        self._asked[request] += 1
        rng = Random(f"fault/{self._seed}/{request}/{self._asked[request]}")
        luck = rng.random()
        for kind, share in self._shares.items():
            luck -= share
            if luck < 0:
                code = rng.choice(_STATUS_CODES)
                return Fault(kind, code, 1 if code == 9 else None)
        return None


class RateLimit:
    """Admits so many requests in any one second.

    Args:
        rate: Requests a second; None for no limit.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._admitted: deque[float] = deque(maxlen=rate)

    def admits(self, now: float) -> bool:
        """Tell whether a request may pass; one that may not does not count.

        Args:
            now: Seconds on a clock that never goes back.
        """
        if self._rate is None:
            return True
        if len(self._admitted) == self._rate and now - self._admitted[0] < 1:
            return False
        self._admitted.append(now)
        return True


class Spell:
    """Refuses everything for a while, once, from the `SPELL_BEGINS`th request on.

    Args:
        seconds: How long; 0 for never.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._requests = 0
        self._end = 0.0

    def refuses(self, now: float) -> bool:
        """Count a request, and tell whether it falls into the spell.

        Args:
            now: Seconds on a clock that never goes back.
        """
        self._requests += 1
        if self._requests == SPELL_BEGINS:
            self._end = now + self._seconds
        return now < self._end
