"""What each account has to be allowed: one table. A test holds it against the chart's Roles."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Scope(enum.StrEnum):
    """Where something has to be allowed."""

    RELEASE = "release"
    """In the namespace of the release."""
    KSERVE = "kserve"
    """Where KServe is."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Verbs on a kind of objects.

    Args:
        group: The API group; empty for Kubernetes' oldest.
        resource: The plural, with its subresource, such as `pods/log`.
        verbs: All of which are needed.
        why: What they are needed for.
        names: The objects; any without them.
        scope: Where.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    scope: Scope = Scope.RELEASE

    @property
    def full(self) -> str:
        """As a Role's message names it, such as `trainjobs.trainer.kubeflow.org`."""
        return f"{self.resource}.{self.group}".rstrip(".")


RUNTIMES = ("cpu", "gpu", "multi-gpu", "multi-node", "multi-node-gpu")
"""The ClusterTrainingRuntimes, after their prefix."""


def needs(*, training: bool = True) -> Mapping[str, Sequence[Need]]:
    """Give what each kind of account needs.

    Args:
        training: Whether trainings run on Trainer.

    Returns:
        By the name of the RoleBinding in the release's namespace that gives it.
    """
    steps = [*ROLLOUT, *TRAINING] if training else [*ROLLOUT]
    return {"marquee-steps": steps, "marquee-pipelines": _UPLOAD, "marquee-schedules": _SCHEDULES}


ROLLOUT = (
    Need(
        group="serving.kserve.io",
        resource="inferenceservices",
        verbs=("get", "watch", "update"),
        why="the rollout's step moves traffic",
    ),
    Need(
        group="",
        resource="configmaps",
        verbs=("get",),
        names=("inferenceservice-config",),
        scope=Scope.KSERVE,
        why="the rollout's step looks how KServe is set up",
    ),
)


TRAINING = (
    Need(
        group="trainer.kubeflow.org",
        resource="trainjobs",
        verbs=("get", "create", "delete", "patch"),
        why="the train step starts trainings",
    ),
    Need(
        group="", resource="pods", verbs=("list",), why="the train step follows a training's pods"
    ),
    Need(group="", resource="pods/log", verbs=("get",), why="the train step follows their logs"),
    Need(
        group="",
        resource="events",
        verbs=("list",),
        why="the train step tells why pods do not start",
    ),
)

_PIPELINES = "pipelines.kubeflow.org"
_UPLOAD = (
    Need(
        group=_PIPELINES,
        resource="pipelines",
        verbs=("get", "list", "create"),
        why="the pipelines' Job uploads pipelines",
    ),
    Need(
        group=_PIPELINES,
        resource="pipelines/versions",
        verbs=("get", "list", "create"),
        why="the pipelines' Job uploads pipelines",
    ),
)
_SCHEDULES = (
    Need(
        group=_PIPELINES,
        resource="experiments",
        verbs=("get", "list", "create"),
        why="the pipelines' Job makes the experiment",
    ),
    Need(
        group=_PIPELINES,
        resource="jobs",
        verbs=("get", "list", "create", "delete", "enable", "disable"),
        why="the pipelines' Job makes recurring runs",
    ),
)
