"""What a rollout knows: enough to go on after its own death at any point."""

import enum
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from components.rollout.judge import Evidence
from components.rollout.policy import Policy
from marquee import signing
from marquee.bundle import Bundle, load
from marquee.contract import check_schema_version, parse_json

SCHEMA_VERSION = 1
_EVENTS, _VERDICTS = 100, 30
"""Events that are kept, and those of the last of them whose numbers are: an InferenceService's
annotations have 256 KiB, and an event with numbers takes 3 kB."""


class Phase(enum.StrEnum):
    """Where a rollout stands."""

    VALIDATE = "validate"
    """The bundle is checked; nothing is deployed."""
    DARK = "dark launch"
    """The canary runs and gets no traffic but what is replayed."""
    STEP = "step"
    """The canary gets a share of the traffic."""
    PROMOTE = "promote"
    """The canary becomes the stable model."""
    ROLL_BACK = "roll back"
    """The world is put back as it was."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A bundle that is or may be served."""

    version: str
    uri: str
    signed: bool = False
    """Whether it is refused, wherever it is used, unless somebody who is trusted signed it."""

    def open(self) -> Bundle:
        """Fetch its bundle, and verify its sums and its signature.

        Raises:
            DataError: It is missing, damaged, or its signature does not count.
        """
        bundle = load(self.uri, self.version)
        self.check_signature(bundle)
        return bundle

    def check_signature(self, bundle: Bundle) -> None:
        """Verify the signature of its bundle.

        Raises:
            Untrusted: It does not count.
        """
        signing.check(bundle, self.uri, required=self.signed)


@dataclass(frozen=True, kw_only=True)
class World:
    """What is to be served."""

    stable: Model | None
    """None before anything was deployed."""
    canary: Model | None = None
    percent: int = 0
    """Of the traffic, to the canary."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of a rollout's timeline."""

    time: float
    """Unix time."""
    phase: str
    percent: int
    what: str
    verdict: dict[str, Any] | None = None
    """The numbers behind it."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that leads a rollout, and until when it may."""

    host: str = ""
    process: int = 0
    token: str = ""
    until: float = 0.0
    """Unix time; who leads it renews it at every look."""

    @classmethod
    def me(cls, until: float) -> Self:
        """Name this process."""
        return cls(
            host=socket.gethostname(), process=os.getpid(), token=uuid.uuid4().hex, until=until
        )


@dataclass(frozen=True, kw_only=True)
class State:
    """A rollout."""

    rollout: str
    """Its id."""
    phase: Phase
    stable: Model | None
    """None for the first model of a place."""
    canary: Model
    policy: Policy
    started: float
    """Unix time, as all times here."""
    since: float
    """When its phase, or its step, began."""
    looked: float
    """Until when traffic is in the evidence."""
    step: int = 0
    """Which of the policy's steps."""
    evidence: Evidence = field(default_factory=Evidence)
    paused: str = ""
    """Why it does not go on; empty if it does."""
    asked: bool = False
    """Whether it waits for a person's answer."""
    returns: int = 0
    """How often it went back from all traffic to the step before."""
    approved: bool = False
    """Whether a person let this step pass."""
    obeyed: str = ""
    """The last request that was obeyed."""
    reason: str = ""
    """Why it is rolled back."""
    at_fault: bool = False
    """Whether it is rolled back because of what the canary itself is or does."""
    run: str = ""
    """The run of the training pipeline that asked for it, if one did."""
    original: dict[str, Any] = field(default_factory=dict)
    """What the backend needs to put the world back as it was."""
    owner: Owner = field(default_factory=Owner)
    timeline: tuple[Event, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def percent(self) -> int:
        """The canary's share of the traffic in this phase."""
        if self.phase is Phase.STEP:
            return self.policy.steps[self.step]
        return 100 if self.phase in (Phase.PROMOTE, Phase.PROMOTED) else 0

    @property
    def world(self) -> World:
        """What has to be served in this phase."""
        if self.phase in (Phase.PROMOTE, Phase.PROMOTED):
            return World(stable=self.canary)
        if self.phase in (Phase.DARK, Phase.STEP):
            return World(stable=self.stable, canary=self.canary, percent=self.percent)
        return World(stable=self.stable)

    @property
    def both(self) -> World:
        """The stable model and the canary, whatever is served of them."""
        return World(stable=self.stable, canary=self.canary)

    @property
    def judged(self) -> Event | None:
        """The last line of the timeline that has a verdict."""
        return next((event for event in reversed(self.timeline) if event.verdict), None)

    @property
    def subject(self) -> str:
        """Who is judged, beside whom."""
        beside = f" beside {self.stable.version[:12]}" if self.stable else ""
        return f"{self.canary.version[:12]}{beside}"

    def move(self, phase: Phase, now: float, what: str, **changes: Any) -> Self:
        """Go to another phase or step.

        Args:
            phase: Which one.
            now: Unix time.
            what: What to say of it in the timeline.
            changes: Other fields to their new values, `verdict` among them.
        """
        verdict = changes.pop("verdict", None)
        moved = replace(self, phase=phase, since=now, looked=now, **changes)
        return moved.note(now, what, verdict)

    def note(self, now: float, what: str, verdict: dict[str, Any] | None = None) -> Self:
        """Add to the timeline; the oldest of too many are dropped, but not the first."""
        event = Event(time=now, phase=self.phase, percent=self.percent, what=what, verdict=verdict)
        kept = (
            self.timeline
            if len(self.timeline) < _EVENTS
            else (self.timeline[0], *self.timeline[2:])
        )
        bare = [event for event in kept if event.verdict][: -_VERDICTS + 1]
        thinned = [replace(e, verdict=None) if e in bare else e for e in kept]
        return replace(self, timeline=(*thinned, event))

    def to_json(self) -> str:
        """Write the state."""
        document = {
            **{name: getattr(self, name) for name in _PLAIN},
            "stable": asdict(self.stable) if self.stable else None,
            "canary": asdict(self.canary),
            "policy": asdict(self.policy),
            "evidence": self.evidence.to_dict(),
            "owner": asdict(self.owner),
            "timeline": [asdict(event) for event in self.timeline],
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Read a state.

        Args:
            text: What `to_json` wrote.
            where: Where it was, for messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document: dict[str, Any] = parse_json(text, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        plain = {name: document[name] for name in _PLAIN}
        return cls(
            **plain | {"phase": Phase(document["phase"])},
            stable=Model(**document["stable"]) if document["stable"] else None,
            canary=Model(**document["canary"]),
            policy=Policy(**document["policy"]),
            evidence=Evidence.from_dict(document["evidence"]),
            owner=Owner(**document["owner"]),
            timeline=tuple(Event(**event) for event in document["timeline"]),
        )


_PLAIN = (
    *("rollout", "phase", "run", "started", "since", "looked", "step", "paused"),
    *("asked", "returns", "approved", "obeyed", "reason", "at_fault", "original", "schema_version"),
)
