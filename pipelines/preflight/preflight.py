"""Looks at everything, side by side; what one look meets does not hide what another one sees."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from marquee.errors import InfrastructureError, MarqueeError, explain
from marquee.kubernetes import Forbidden
from marquee.verdict import Check, Outcome, Severity, Verdict
from pipelines.preflight import kserve, kubeflow, nodes, storage
from pipelines.preflight.api import Api
from pipelines.preflight.context import Cluster, Question
from pipelines.preflight.permissions import permission_looks

_SECONDS = 60.0
"""How long all looks may take together: storage that cannot be reached may never answer."""

Look = tuple[str, Callable[[Cluster], Iterator[Check]]]
"""What it looks at, for messages if it sees nothing, and the look."""

_FIRST: Sequence[Look] = (
    ("Kubernetes: version", kubeflow.kubernetes_version),
    ("Marquee: installed", kubeflow.chart),
    ("Kubeflow Pipelines: answers", kubeflow.pipelines),
    ("Kubeflow Pipelines: controller", kubeflow.pipelines_version),
    ("KServe: API", kserve.inference_api),
    ("KServe: controller", kserve.inference_controller),
    ("KServe: canaries", kserve.canaries),
    ("KServe: annotations of rollouts", kserve.annotations),
    ("KServe: storage initializer", kserve.initializer),
    ("Gateway: KServe uses it", kserve.gateway_setting),
    ("Gateway: programmed", kserve.gateway),
    ("Prometheus: answers", kserve.prometheus),
)
_TRAINER: Sequence[Look] = (
    ("Trainer: API", kubeflow.training_api),
    ("Trainer: controller", kubeflow.trainer_controller),
    ("JobSet: API", kubeflow.jobset_api),
    ("JobSet: controller", kubeflow.jobset_controller),
    ("Trainer: our runtimes", kubeflow.training_runtimes),
)
_LAST: Sequence[Look] = (
    ("Storage: default class", storage.storage_classes),
    ("Storage: volume marquee-storage", storage.claim),
    ("Accounts: ours", storage.accounts),
    ("Secrets", storage.secrets),
    ("GPUs: nodes", nodes.gpus),
    ("Namespace: Pod Security", nodes.pod_security),
    ("Namespace: quota", nodes.quota),
    ("Namespace: defaults under a quota", nodes.defaults),
    ("Istio: sidecars", nodes.sidecars),
    ("Optional parts", kubeflow.optional_parts),
    ("Network: policies", nodes.network_policies),
)


def preflight(question: Question) -> Verdict:
    """Look at a cluster.

    Args:
        question: What is asked.

    Returns:
        The verdict of the gate `preflight`. What this account may not look at is a note.

    Raises:
        UsageError: Nothing says which cluster.
        InfrastructureError: Its API server cannot be reached.
    """
    cluster = Cluster(Api(), question)
    cluster.api.raw("/version")
    looks = [
        *_FIRST,
        *(_TRAINER if cluster.runtime_prefix else ()),
        *_permission_looks(cluster),
        *_storage_looks(cluster),
        *_LAST,
    ]
    return Verdict(
        gate="preflight",
        subject=f"{question.namespace} at {cluster.api.address}",
        checks=tuple(_see_all(looks, cluster)),
    )


def _permission_looks(cluster: Cluster) -> list[Look]:
    try:
        return list(permission_looks(cluster))
    except MarqueeError as error:
        return [("Permissions", partial(_raise, error))]


def _storage_looks(cluster: Cluster) -> list[Look]:
    try:
        return [(f"Storage: {u}", partial(_try_storage, u)) for u in storage.uris(cluster)]
    except MarqueeError as error:
        return [("Storage", partial(_raise, error))]


def _raise(error: Exception, _: Cluster) -> Iterator[Check]:
    raise error


def _try_storage(uri: str, cluster: Cluster) -> Iterator[Check]:
    try:
        yield from storage.place(cluster, uri)
    except MarqueeError:
        raise
    except Exception as fault:  # each storage's client has errors of its own
        raise storage.explain_storage(fault, uri) from fault


def _see_all(looks: Sequence[Look], cluster: Cluster) -> Iterator[Check]:
    seen: list[list[Check]] = [[] for _ in looks]
    threads = [
        threading.Thread(target=_see, args=(look, cluster, checks), daemon=True)
        for look, checks in zip(looks, seen, strict=True)
    ]
    deadline = time.monotonic() + _SECONDS
    for thread in threads:
        thread.start()
    for (name, _), thread, checks in zip(looks, threads, seen, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        # Asked first: one that ends from here on adds its last check before the list is read.
        late = thread.is_alive()
        yield from list(checks)
        if late:
            error = InfrastructureError(f"no answer within {_SECONDS:.0f} s", remedy="try again")
            yield _unseen(name, error)


def _see(look: Look, cluster: Cluster, checks: list[Check]) -> None:
    """Add what a look sees to the checks, up to what stops it."""
    name, see = look
    try:
        for check in see(cluster):
            checks.append(check)  # noqa: PERF402 - one by one: what it saw before a fault counts
    except Exception as fault:  # whatever it is, the other looks go on
        unknown = InfrastructureError(f"{type(fault).__name__}: {fault}", remedy="report this")
        checks.append(_unseen(name, explain(fault) or unknown))


def _unseen(name: str, error: MarqueeError) -> Check:
    """Say that a look saw nothing: a note if it was not allowed to."""
    forbidden = isinstance(error, Forbidden)
    return Check(
        name=name,
        outcome=Outcome.INCONCLUSIVE if forbidden else Outcome.FAILED,
        measured=error.message,
        bound="can be seen",
        severity=Severity.INFO if forbidden else Severity.CRITICAL,
        remedy="run it with an administrator's kubeconfig to see it" if forbidden else error.remedy,
    )
