"""Where a rollout takes place: what the state machine asks of a cluster or of a laptop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.rollout.evidence import Sighting
from components.rollout.replay import Ask, Poster
from components.rollout.state import Model, State, World
from marquee.client import Client
from marquee.errors import DataError
from marquee.records import REPLAY_CLIENT


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether what is to be served is served."""

    ready: bool
    reason: str = ""
    """What is missing."""
    hopeless: bool = False
    """Whether waiting does not help: it crashed, or cannot be scheduled."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks of a rollout."""

    id: str
    """A rollout obeys each request once."""
    what: str
    """`pause`, `resume` or `abort`."""
    who: str
    reason: str = ""


_ANSWER_SECONDS = 10.0
"""How long a replayed poster may take: one of a model that hangs must not take minutes."""


def asking(url: str, token: str = "") -> Ask:
    """Give a way to ask a model itself.

    What it answers to a poster that it refuses is an error, as the stable model takes it.

    Args:
        url: Its address.
        token: Its access token; none is sent without it.
    """
    client = Client(
        url, token=token, patience=0.0, client_id=REPLAY_CLIENT, answer_seconds=_ANSWER_SECONDS
    )

    def ask(poster: Poster) -> Mapping[str, float]:
        answer = client.ask([poster.data])[0]
        if "error" in answer:
            raise DataError(f"poster {poster.poster_id}: {answer['error']}")
        return dict(answer["probabilities"])

    return ask


class Backend(Protocol):
    """A place where a stable model and a canary are served.

    What it is told to arrange it arranges whatever is there, as often as it is told: whoever leads
    a rollout may have died after any call.
    """

    @property
    def url(self) -> str:
        """Where users send requests; empty if nobody knows yet."""
        ...

    @property
    def records(self) -> str:
        """Where the models' prediction records are."""
        ...

    def stable(self) -> Model | None:
        """Give the model that is served; None if there is none yet."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Give what `arrange` needs to put the world back as it is now."""
        ...

    def read(self) -> tuple[State | None, str]:
        """Give the latest rollout, and a token that names this version of it."""
        ...

    def write(self, state: State, token: str) -> str:
        """Replace the state unless somebody else did so; give the new token.

        Raises:
            Conflict: It was changed since `token`.
        """
        ...

    def request(self) -> Request | None:
        """Give what a person asked for last."""
        ...

    def post(self, request: Request) -> None:
        """Leave what a person asks for; a later request replaces it."""
        ...

    def arrange(self, world: World, original: dict[str, Any], token: str) -> None:
        """Begin to serve a world, or go on with it.

        Args:
            world: What is to be served.
            original: What `snapshot` gave before the rollout.
            token: Of the state that asks for it.

        Raises:
            Conflict: The state was changed since: somebody else leads.
            InfrastructureError: Something that is needed cannot be reached.
        """
        ...

    def rehearse(self, world: World, original: dict[str, Any]) -> None:
        """Find out whether a world would be refused; change nothing.

        Raises:
            UsageError: It would.
        """
        ...

    def readiness(self, world: World) -> Readiness:
        """Tell whether a world is served."""
        ...

    def sighting(self, since: float, until: float) -> Sighting:
        """Give what was seen of both models in a stretch of time (Unix times)."""
        ...

    def ask(self, canary: bool) -> Ask:
        """Give a way to ask one of the models itself, past the splitter."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait; no longer than until there is a new request."""
        ...
