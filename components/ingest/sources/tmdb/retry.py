"""How calls over a network are paced and tried again."""

import threading
import time
from functools import partial
from typing import Any

import tenacity

_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=30, jitter=0.5)


def is_temporary(code: int) -> bool:
    """Tell whether a server that answers with this HTTP code may answer otherwise later."""
    return code in (408, 429) or code >= 500


class TemporaryError(Exception):
    """A call failed in a way that may pass.

    Args:
        reason: What happened.
        retry_after: Seconds that the server asks to wait.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Throttled(TemporaryError):
    """The server asks for fewer calls (HTTP 429)."""


class Pacer:
    """Spaces the calls to one host, across threads.

    Args:
        rate: Calls a second; 0 sets no limit.
    """

    def __init__(self, rate: float = 0) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next free moment; give the seconds until then."""
        with self._lock:
            now = time.monotonic()
            moment = max(now, self._next)
            self._next = moment + self._gap
            return moment - now

    def pause(self, seconds: float) -> None:
        """Let nobody call for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def policy(patience: float, kind: type[TemporaryError] = TemporaryError) -> dict[str, Any]:
    """Say how often a call is tried: the arguments of `tenacity.Retrying`.

    Exponential backoff with jitter, or what the server asks for; a server in trouble may ask for
    more than it needs, and is asked four times at least.

    Args:
        patience: Seconds after which to give up.
        kind: What is tried again.
    """
    return {
        "retry": tenacity.retry_if_exception_type(kind),
        "wait": partial(_wait, patience),
        "stop": tenacity.stop_before_delay(patience),
        "reraise": True,
    }


def _wait(patience: float, state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    if asked is not None and not isinstance(error, Throttled):
        asked = min(asked, patience / 4)
    # Jitter, or all who were told to wait would be back at the same moment.
    return float(_backoff(state)) if asked is None else asked + _backoff(state) / 10
