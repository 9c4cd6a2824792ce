"""How a rollout goes: its steps, what is asked of the canary, and what happens when in doubt."""

import enum
import json
import tomllib
from dataclasses import dataclass, field, fields
from typing import Any

from marquee import storage
from marquee.errors import UsageError
from marquee.settings import build, check_range

_MOST_STEPS = 20
"""The state keeps the numbers of every step, and an annotation has room for so many."""


class Doubt(enum.StrEnum):
    """What to do with a canary of which a step could not tell whether it is good."""

    WAIT = "wait"
    """Go on watching; roll back when the rollout has taken `max_hours`."""
    ROLL_BACK = "rollback"
    ASK = "ask"
    """Pause until a person resumes or aborts."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A rollout's policy: the content of `--policy FILE` (TOML or JSON), all names optional.

    Shares and probabilities are 0..1.
    """

    steps: list[int] = field(default_factory=lambda: [5, 25, 50, 100])
    """Per cent of the traffic that the canary gets, step by step; the last one is 100."""
    step_seconds: float = 300.0
    """How long a step lasts at least."""
    max_step_minutes: float = 60.0
    """When a step that is still undecided is a doubt."""
    max_hours: float = 24.0
    """When a rollout that is still undecided is rolled back."""
    interval_seconds: float = 15.0
    """How often the judge looks."""
    doubt: str = Doubt.WAIT.value
    """What to do in doubt: wait, rollback or ask."""
    min_samples: int = 200
    """Answers of the canary that a step needs before it can pass."""
    error_rate: float = 0.01
    """Share of failed requests that is tolerated whatever the stable model's is."""
    error_ratio: float = 1.5
    """How many times the stable model's error rate the canary's may be."""
    latency_ratio: float = 1.5
    """How many times the stable model's p50 and p99 the canary's may be."""
    latency_slack_ms: float = 1.0
    """By how much they may be longer whatever the ratio: a canary with little traffic has cold
    caches, which tells of a model that answers within a ms or two."""
    probability_shift: float = 0.15
    """How far a genre's distribution of probabilities may move (Wasserstein-1 distance)."""
    unsure_shift: float = 0.15
    """By how much the share of unsure answers may grow."""
    agreement: float = 0.4
    """Share of replayed posters on which both models name the same genre first, at least."""
    brier_loss: float = 0.02
    """By how much the Brier score on labelled replayed posters may be worse."""
    false_alarm: float = 0.001
    """Chance that a check fails in the course of a rollout of a model that is as good."""
    records_seconds: float = 90.0
    """After how long all prediction records exist: 1.5 times the servers' `--record-seconds`."""
    replay_passes: int = 4
    """How often each poster is replayed in the dark launch."""
    ready_seconds: float = 600.0
    """How long the canary may take to get ready."""

    def __post_init__(self) -> None:
        steps = self.steps
        # KFP hands whole numbers over as floats.
        whole = [int(step) for step in steps if isinstance(step, int | float) and step % 1 == 0]
        if len(whole) != len(steps) or whole != sorted(set(whole)):
            raise UsageError(
                f"policy.steps is {steps}", remedy="give rising whole per cents, such as 5, 25, 100"
            )
        if len(whole) < 2 or whole[0] < 1 or whole[-1] != 100:
            raise UsageError(
                f"policy.steps is {steps}",
                remedy="begin at 1 or more and end with 100; beside less than 100 % of the traffic "
                "the canary is compared with the stable model",
            )
        object.__setattr__(self, "steps", whole)
        if len(whole) > _MOST_STEPS:
            raise UsageError(
                f"policy.steps has {len(whole)} steps", remedy=f"give at most {_MOST_STEPS}"
            )
        if self.doubt not in list(Doubt):
            raise UsageError(
                f"policy.doubt is {self.doubt!r}", remedy=f"use one of: {', '.join(Doubt)}"
            )
        for name, low, high in _RANGES:
            check_range(f"policy.{name}", getattr(self, name), low, high)

    def allowed_latency(self, stable_ms: float) -> float:
        """Give how many ms a canary may take where the stable model takes so many."""
        return max(self.latency_ratio * stable_ms, stable_ms + self.latency_slack_ms)

    @property
    def latency_bound(self) -> str:
        """What is asked of a canary's latencies, in words."""
        slack = f", or {self.latency_slack_ms:g} ms more" if self.latency_slack_ms else ""
        return f"at most {self.latency_ratio:g} times the stable model's{slack}"


@dataclass(frozen=True, kw_only=True)
class RolloutSettings(Policy):
    """`[rollout]` of the settings: the policy, and where to."""

    backend: str = "auto"
    """`auto`, `knative`, `standard` or `local`."""
    namespace: str = ""
    """Of the InferenceService; that of this pod or context without it."""
    samples: str = ""
    """Posters that users sent (`serve --samples`), to replay; none without it."""

    @property
    def policy(self) -> Policy:
        """The policy alone."""
        return Policy(**{item.name: getattr(self, item.name) for item in fields(Policy)})


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("step_seconds", 0, 86_400),
    ("max_step_minutes", 0.05, 1440),
    ("max_hours", 0.01, 720),
    ("interval_seconds", 0.1, 600),
    ("min_samples", 30, 1_000_000),
    ("error_rate", 0.000_1, 0.5),
    ("error_ratio", 1, 100),
    ("latency_ratio", 1, 100),
    ("latency_slack_ms", 0, 60_000),
    ("probability_shift", 0.01, 1),
    ("unsure_shift", 0.01, 1),
    ("agreement", 0, 1),
    ("brier_loss", 0, 1),
    ("false_alarm", 0.000_001, 0.05),
    ("records_seconds", 1, 3600),
    ("replay_passes", 1, 100),
    ("ready_seconds", 1, 7200),
)


def read_policy(uri: str) -> Policy:
    """Read a policy.

    Args:
        uri: A TOML file, or a JSON one if its name ends so; empty for the defaults.

    Raises:
        UsageError: There is none, it is damaged, a name is unknown or a value out of range.
    """
    if not uri:
        return Policy()
    try:
        text = storage.read_text(uri)
        values: dict[str, Any] = json.loads(text) if uri.endswith(".json") else tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"there is no policy {uri}", remedy="check --policy") from None
    except ValueError as error:
        raise UsageError(f"the policy {uri} is damaged: {error}", remedy="mend the line") from None
    policy: Policy = build(Policy, "policy", values)
    return policy
