"""What the status of a TrainJob and of its pods says, in words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
_FINE = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True)
class State:
    """Where a TrainJob stands."""

    kind: str
    """`Complete`, `Failed`, `Suspended` or `Running`."""
    words: str = ""
    """Why, as Trainer says it."""
    percent: int | None = None
    """What the training says of how far it is."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.kind in ("Complete", "Failed")


def state_of(job: Document) -> State:
    """Read where a TrainJob stands."""
    status = job.get("status", {})
    percent = status.get("trainerStatus", {}).get("progressPercentage")
    true = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in true:
            condition = true[kind]
            return State(kind, f"{condition['reason']}: {condition['message']}", percent)
    return State("Running", percent=percent)


def leader(pods: Iterable[Document]) -> Document | None:
    """Give the newest of the pods that lead, if there is one."""
    leading = [pod for pod in pods if pod["metadata"].get("labels", {}).get(INDEX) == "0"]
    return max(leading, key=_age, default=None)


def _age(pod: Document) -> tuple[str, bool]:
    """Order pods by when they were made; of the same second, one that failed came before."""
    return pod["metadata"]["creationTimestamp"], pod.get("status", {}).get("phase") != "Failed"


def started(pod: Document) -> bool:
    """Tell whether a pod's container runs or has run: it then has a log."""
    containers = pod.get("status", {}).get("containerStatuses", [])
    return any("running" in c["state"] or "terminated" in c["state"] for c in containers)


def all_started(pods: list[Document], nodes: int) -> bool:
    """Tell whether each node of a training has a pod that runs or has run."""
    return len({p["metadata"]["labels"].get(INDEX) for p in pods if started(p)}) >= nodes


def troubles(pods: Iterable[Document]) -> dict[str, str]:
    """Say what is wrong with pods.

    Args:
        pods: The pods of a TrainJob.

    Returns:
        What is wrong, a pod.
    """
    found = {}
    for pod in pods:
        words = "; ".join(_troubles(pod))
        if words:
            found[pod["metadata"]["name"]] = words
    return found


def _troubles(pod: Document) -> Iterator[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"no node takes it ({condition.get('message', condition.get('reason', ''))})"
    if status.get("reason"):
        yield f"{status['reason']} ({status.get('message', '')})"
    for container in status.get("containerStatuses", []):
        waiting = container["state"].get("waiting")
        if waiting and waiting.get("reason") not in (None, *_FINE):
            yield f"{waiting['reason']} ({waiting.get('message', container.get('image', ''))})"
        ended = container["state"].get("terminated")
        if ended and ended["exitCode"]:
            yield _end_of(ended)


def _end_of(ended: Document) -> str:
    if ended.get("reason") == "OOMKilled":
        return "killed for want of memory (OOMKilled)"
    return f"ended with {ended['exitCode']}"


def ran_out_of_memory(found: dict[str, str]) -> bool:
    """Tell whether one of the pods' troubles is memory."""
    return any("OOMKilled" in words for words in found.values())
