"""Looks at nodes and at what the namespace lets pods have."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from marquee.verdict import Check, Outcome, Severity
from pipelines.preflight.api import (
    LIMIT_RANGES,
    NODES,
    POLICIES,
    QUOTAS,
    TRAINING_RUNTIMES,
    Document,
)
from pipelines.preflight.context import LEVEL, Cluster, judged

_GPU = "nvidia.com/gpu"
_TOLERATED = ({"key": _GPU, "operator": "Exists", "effect": "NoSchedule"},)
"""What the chart tolerates by default."""
_INJECTED = {"istio-injection": "enabled", "istio.io/rev": ""}
"""Labels by which Istio gives a namespace's pods sidecars; empty is any value."""
_ISTIOD = 15012
_COMPUTE = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def gpus(cluster: Cluster) -> Iterator[Check]:
    """Look whether there are nodes with GPUs that our trainings may go to."""
    nodes = [node for node in cluster.api.list(NODES) if _count(node) > 0]
    total = sum(_count(node) for node in nodes)
    yield judged(
        "GPUs: nodes",
        bool(nodes),
        measured=f"{_GPU}: {total}, nodes: {len(nodes)}",
        bound="some",
        remedy="add nodes with GPUs and NVIDIA's device plugin; without them trainings run on CPUs "
        "(a cluster that makes such nodes when they are wanted has none now)",
        severity=Severity.WARNING,
    )
    if not nodes:
        return
    pod = _training_pod(cluster, "gpu")
    shut = [node["metadata"]["name"] for node in nodes if not _open_to(node, pod)]
    yield judged(
        "GPUs: open to trainings",
        len(shut) < len(nodes),
        measured=f"{len(nodes) - len(shut)} of {len(nodes)}",
        bound="one at least, by node selector and tolerations of marquee-gpu",
        remedy="set training.gpu.tolerations and training.gpu.nodeSelector of the chart to what "
        "kubectl describe node says",
        severity=Severity.WARNING,
        blame=shut,
    )


def _count(node: Document) -> int:
    return int(node.get("status", {}).get("allocatable", {}).get(_GPU, 0))


def _training_pod(cluster: Cluster, kind: str) -> Mapping[str, Any]:
    """Give the pod of a ClusterTrainingRuntime; with what the chart has, if there is none."""
    prefix = cluster.runtime_prefix
    found = cluster.api.find(TRAINING_RUNTIMES, f"{prefix}-{kind}")
    if found is None:
        return {"tolerations": _TOLERATED, "containers": []}
    (job,) = [
        job for job in found["spec"]["template"]["spec"]["replicatedJobs"] if job["name"] == "node"
    ]
    pod: Mapping[str, Any] = job["template"]["spec"]["template"]["spec"]
    return pod


def _open_to(node: Document, pod: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    fits = all(labels.get(key) == value for key, value in (pod.get("nodeSelector") or {}).items())
    taints = [t for t in node.get("spec", {}).get("taints") or () if t["effect"] != _SOFT]
    tolerations = pod.get("tolerations") or ()
    return fits and all(any(_tolerates(t, taint) for t in tolerations) for taint in taints)


_SOFT = "PreferNoSchedule"


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    same_value = toleration.get("value", "") == taint.get("value", "")
    return toleration.get("key") == taint["key"] and same_value


def pod_security(cluster: Cluster) -> Iterator[Check]:
    """Look at the namespace's level of Pod Security."""
    level = cluster.security_level
    yield judged(
        "Namespace: Pod Security",
        level == "restricted",
        measured=level or "no level",
        bound="restricted; our pods keep to it",
        remedy=f"kubectl label namespace {cluster.namespace} {LEVEL}=restricted, if other pods "
        "there keep to it too",
        severity=Severity.INFO,
    )


def quota(cluster: Cluster) -> Iterator[Check]:
    """Look whether the namespace's quotas leave room for a training on CPUs."""
    found = cluster.api.list(QUOTAS, cluster.namespace)
    if not found:
        return
    wanted = _wanted(_training_pod(cluster, "cpu").get("containers") or ())
    tight = [
        f"{key} of {item['metadata']['name']}"
        for item in found
        for key, left in _left(item).items()
        if left < wanted.get(key, Decimal(0))
    ]
    yield judged(
        "Namespace: quota",
        not tight,
        measured="room" if not tight else f"too little {', '.join(tight)}",
        bound="room for a training of marquee-cpu",
        remedy="raise the ResourceQuota, lower training.resources of the chart, or wait until "
        "others have ended",
        severity=Severity.WARNING,
    )


def defaults(cluster: Cluster) -> Iterator[Check]:
    """Look whether pods that say nothing of CPU and memory are let in where there are quotas."""
    found = cluster.api.list(QUOTAS, cluster.namespace)
    asked = {key for item in found for key in _left(item) if key in _COMPUTE}
    if not asked:
        return
    limits = [
        limit
        for item in cluster.api.list(LIMIT_RANGES, cluster.namespace)
        for limit in item["spec"]["limits"]
        if limit["type"] == "Container"
    ]
    given = {f"requests.{name}" for limit in limits for name in limit.get("defaultRequest") or ()}
    # Who has a limit and no request asks for the limit.
    for name in {name for limit in limits for name in limit.get("default") or ()}:
        given |= {f"limits.{name}", f"requests.{name}"}
    missing = sorted(
        key for key in asked if (key if "." in key else f"requests.{key}") not in given
    )
    yield judged(
        "Namespace: defaults under a quota",
        not missing,
        measured="a LimitRange gives them" if not missing else f"none for {', '.join(missing)}",
        bound="a LimitRange with defaults for what a ResourceQuota counts",
        remedy="make a LimitRange with default and defaultRequest of cpu and memory: the train "
        "step's own pod and some of Argo's containers name none, and a quota refuses such pods",
        severity=Severity.WARNING,
    )


def sidecars(cluster: Cluster) -> Iterator[Check]:
    """Look whether pods that Istio gives a sidecar reach its control plane."""
    injected = [
        f"{label}={cluster.labels[label]}"
        for label, value in _INJECTED.items()
        if cluster.labels.get(label) and value in ("", cluster.labels[label])
    ]
    policies = cluster.api.list(POLICIES, cluster.namespace) if injected else []
    ours = [item for item in policies if item["metadata"]["name"].startswith("marquee-")]
    ports = {
        port.get("port")
        for item in ours
        for rule in item["spec"].get("egress") or ()
        for port in rule.get("ports") or ()
    }
    yield judged(
        "Istio: sidecars",
        not injected or not ours or _ISTIOD in ports,
        measured=f"{injected[0]}, {'the policies' if ours else 'no policies'} of ours"
        if injected
        else "not injected",
        bound="port 15012 of the control plane is open to our pods where sidecars are injected",
        remedy="set networkPolicies.istioNamespace of the chart to where istiod is: without it no "
        "pod with a sidecar gets ready",
    )


def _wanted(containers: Sequence[Mapping[str, Any]]) -> dict[str, Decimal]:
    """Give what a pod takes of a quota."""
    wanted = {"pods": Decimal(1)}
    for container in containers:
        for kind, amounts in (container.get("resources") or {}).items():
            for name, amount in amounts.items():
                key = f"{kind}.{name}"
                wanted[key] = wanted.get(key, Decimal(0)) + parse_quantity(amount)
    plain = {k.removeprefix("requests."): v for k, v in wanted.items() if k.startswith("requests.")}
    return wanted | plain


def _left(item: Document) -> dict[str, Decimal]:
    hard = item.get("status", {}).get("hard") or item["spec"].get("hard") or {}
    used = item.get("status", {}).get("used") or {}
    return {key: parse_quantity(hard[key]) - parse_quantity(used.get(key, 0)) for key in hard}


def network_policies(cluster: Cluster) -> Iterator[Check]:
    """Say what cannot be seen."""
    yield Check(
        name="Network: policies",
        outcome=Outcome.INCONCLUSIVE,
        measured="cannot be asked",
        bound="a network plugin that enforces NetworkPolicies",
        severity=Severity.INFO,
        remedy="see the documents of the cluster's network plugin",
    )
