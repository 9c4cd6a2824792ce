"""A training as a TrainJob of Kubeflow Trainer: plain values in, a plain document out."""

import hashlib
import itertools
import os
from collections.abc import Mapping
from typing import Any

from components.train.order import ANY_GPU, GPU_TYPES, NODE_DISK, Order, Place
from components.train.pods import NODE, Document, check_seen, runtime_patch
from components.train.settings import LaunchSettings
from marquee import storage

DIGEST = "marquee.dev/training"
"""The annotation that tells one training from another of the same name."""
IMAGE = "MARQUEE_TRAIN_IMAGE"
"""The variable of the task with the image that its pods run."""
_IMAGE_HERE = "MARQUEE_TRAIN_IMAGE_HERE"
"""The one with the image that this cluster wants instead, such as one with a digest."""
_RUNTIMES = "MARQUEE_TRAINING_RUNTIMES"
"""What the names of our runtimes begin with: they are the whole cluster's."""
_MANAGER = "marquee.dev/train"
_GPU = "nvidia.com/gpu"
_FEATURES, _FEATURES_PATH = "marquee-features", "/mnt/marquee-features"


def job_name(order: Order) -> str:
    """Name the TrainJob of a run's architecture, always alike.

    Args:
        order: What is to be trained.

    Returns:
        A name of at most 40 characters: JobSet adds to it to name pods and hosts.
    """
    key = f"{order.run or order.bundle_uri} {order.architecture}"
    shown = order.architecture.replace("_", "-")[:23].rstrip("-")
    return f"train-{shown}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def runtime_of(place: Place) -> str:
    """Name the ClusterTrainingRuntime of our chart that a training needs."""
    if place.nodes > 1:
        kind = "multi-node-gpu" if place.gpus else "multi-node"
    elif place.gpus > 1:
        kind = "multi-gpu"
    else:
        kind = "gpu" if place.gpus else "cpu"
    return f"{os.environ.get(_RUNTIMES) or 'marquee'}-{kind}"


def train_job(
    order: Order, place: Place, launch: LaunchSettings, digest: str, owner: Document | None
) -> Document:
    """Build the TrainJob of a training.

    Args:
        order: What is to be trained.
        place: On what.
        launch: How trainings are started.
        digest: What tells this training from another of the same name.
        owner: The pod that starts it, as an owner reference: the job goes with it.

    Returns:
        The object, without a namespace.

    Raises:
        UsageError: Pods would not find what they are to read.
    """
    _check_shared(order, place)
    metadata: Document = {
        "name": job_name(order),
        "labels": {
            "app.kubernetes.io/name": "marquee",
            "app.kubernetes.io/component": "training",
            "app.kubernetes.io/managed-by": "marquee",
            "marquee.dev/architecture": order.architecture,
        },
        "annotations": {DIGEST: digest, "marquee.dev/run": order.run or order.bundle_uri},
    }
    if owner:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": {
            "runtimeRef": {"name": runtime_of(place)},
            "activeDeadlineSeconds": round(3600 * launch.deadline_hours),
            "trainer": _trainer(order, place),
            "runtimePatches": [_patch(place, launch)],
        },
    }


def pod_owner() -> Document | None:
    """Give this pod as an owner reference; None outside of Kubeflow Pipelines."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    if not name or not uid:
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def task_of_pod() -> str:
    """Name what this pod is one try of; empty outside of Kubeflow Pipelines."""
    # Argo names the pods of all tries alike, but for what follows the last hyphen.
    return os.environ.get("KFP_POD_NAME", "").rpartition("-")[0]


def _check_shared(order: Order, place: Place) -> None:
    mounts = [mount["mountPath"] for mount in place.task.get("volume_mounts") or []]
    check_seen(
        (order.catalog_uri, order.split_uri, order.bundle_uri, order.exchange),
        mounts,
        "give the run a run_uri in a bucket, or compile the pipeline with MARQUEE_STORAGE_PVC and "
        f"put it below {storage.VOLUME}",
    )


def _trainer(order: Order, place: Place) -> Document:
    variables = {item["name"]: item for item in place.task.get("env") or []}
    if place.storage_class != NODE_DISK:
        variables["MARQUEE_CACHE"] = {"name": "MARQUEE_CACHE", "value": _FEATURES_PATH}
    trainer: Document = {
        # Not a bare torchrun: it would hide the exit code that the runtime's failure policy reads.
        "command": ["python", "-m", "components.train.torchrun", order.exchange],
        "numNodes": place.nodes,
        # Otherwise Trainer would start a process for each CPU.
        "numProcPerNode": max(1, place.gpus),
        "env": list(variables.values()),
    }
    image = os.environ.get(_IMAGE_HERE) or variables.get(IMAGE, {}).get("value")
    if image:
        trainer["image"] = image
    resources = _resources(place)
    if resources:
        trainer["resourcesPerNode"] = resources
    return trainer


def _resources(place: Place) -> Document:
    """Give what a pod asks for: the task's CPUs and memory, and the GPUs."""
    given: Mapping[str, Any] = place.task.get("resources") or {}
    resources = {kind: dict(given.get(kind) or {}) for kind in ("requests", "limits")}
    for amounts in resources.values():
        amounts.pop(_GPU, None)
        if place.gpus:
            # In both: Trainer merges them into the runtime's one by one, and the two must be equal.
            amounts[_GPU] = place.gpus
    return {kind: amounts for kind, amounts in resources.items() if amounts}


def _patch(place: Place, launch: LaunchSettings) -> Document:
    """Give what the task carries for pods as a patch of the runtime's."""
    volumes = list(place.task.get("volumes") or [])
    mounts = list(place.task.get("volume_mounts") or [])
    if place.storage_class != NODE_DISK:
        volumes.append(_features(place.storage_class, launch.features_gigabytes))
        mounts.append({"name": _FEATURES, "mountPath": _FEATURES_PATH})
    tolerations = list(place.task.get("tolerations") or [])
    if tolerations and place.gpus:
        # A patch's tolerations stand for the runtime's, which has this one.
        tolerations.append({"key": _GPU, "operator": "Exists", "effect": "NoSchedule"})
    container = {"name": NODE, **({"volumeMounts": mounts} if mounts else {})}
    pod = {
        "nodeSelector": place.task.get("node_selector"),
        "tolerations": tolerations,
        "affinity": _affinity(place),
        "volumes": volumes,
        "containers": [container],
    }
    return runtime_patch(_MANAGER, {key: value for key, value in pod.items() if value})


def _features(storage_class: str, gigabytes: int) -> Document:
    """Give a volume that each pod has for itself, and that goes with it."""
    claim: Document = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{gigabytes}Gi"}},
    }
    if storage_class:
        claim["storageClassName"] = storage_class
    return {"name": _FEATURES, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _affinity(place: Place) -> Document:
    """Give the task's affinity, and that nodes must have the GPU that is asked for."""
    affinity: Document = dict(place.task.get("affinity") or {})
    if not place.gpus or place.gpu_type == ANY_GPU:
        return affinity
    node = dict(affinity.get("nodeAffinity") or {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = []
    # One term must hold, and all of what it says.
    for theirs, ours in itertools.product(
        required.get("nodeSelectorTerms") or [{}], _labelled(place.gpu_type)
    ):
        expressions = [*(theirs.get("matchExpressions") or []), ours]
        terms.append({**theirs, "matchExpressions": expressions})
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": node}


def _labelled(gpu_type: str) -> list[Document]:
    """Give the labels that nodes with a type of GPU have, by who labels them."""
    discovered, gke, short = GPU_TYPES[gpu_type]
    labels = {
        "nvidia.com/gpu.product": discovered,
        "cloud.google.com/gke-accelerator": gke,
        "karpenter.k8s.aws/instance-gpu-name": (short,),
        "eks.amazonaws.com/instance-gpu-name": (short,),
    }
    return [
        {"key": key, "operator": "In", "values": list(values)}
        for key, values in labels.items()
        if values
    ]
