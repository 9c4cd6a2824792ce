"""The status that a cluster's controllers would write, at once."""

import copy


def ready(document):
    """Bring up whatever is asked for."""
    kind = document["kind"]
    if kind in _FOLLOWERS and (kind in _AGAIN or not document.get("status")):
        document["status"] = _FOLLOWERS[kind](copy.deepcopy(document.get("spec", {})), document)


def _deployment(spec, document):
    count = spec.get("replicas", 1)
    return {
        "observedGeneration": document["metadata"].get("generation", 1),
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": count,
        "availableReplicas": count,
        "conditions": [
            _condition("Available"),
            _condition("Progressing", "NewReplicaSetAvailable"),
        ],
    }


def _stateful_set(spec, document):
    return _deployment(spec, document) | {
        "currentReplicas": spec.get("replicas", 1),
        "currentRevision": "one",
        "updateRevision": "one",
    }


def _daemon_set(spec, document):
    return {
        "observedGeneration": document["metadata"].get("generation", 1),
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 1,
        "numberAvailable": 1,
        "numberMisscheduled": 0,
        "numberReady": 1,
        "updatedNumberScheduled": 1,
    }


def _job(spec, document):
    return {
        "startTime": "2026-11-30T00:00:00Z",
        "completionTime": "2026-11-30T00:00:01Z",
        "succeeded": spec.get("completions", 1),
        "conditions": [_condition("Complete")],
    }


def _pod(spec, document):
    ends = spec.get("restartPolicy", "Always") != "Always"
    return {"phase": "Succeeded" if ends else "Running", "conditions": [_condition("Ready")]}


def _claim(spec, document):
    return {"phase": "Bound", "accessModes": spec.get("accessModes", [])}


def _crd(spec, document):
    return {
        "acceptedNames": spec["names"],
        "conditions": [_condition("NamesAccepted"), _condition("Established")],
        "storedVersions": [v["name"] for v in spec["versions"] if v["storage"]],
    }


def _condition(kind, reason="Fine"):
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-11-30T00:00:00Z",
    }


_FOLLOWERS = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Pod": _pod,
    "PersistentVolumeClaim": _claim,
    "CustomResourceDefinition": _crd,
    "Namespace": lambda spec, document: {"phase": "Active"},
}
_AGAIN = ("Deployment", "StatefulSet", "DaemonSet")
"""Whose status follows every change."""
