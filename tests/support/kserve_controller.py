"""A KServe of ours: it writes the status that the real one would once all pods are up."""

import copy
import json
from contextlib import contextmanager

from kubernetes_api import running_kubernetes

MODE = "serving.kserve.io/deploymentMode"
DISALLOWED = ("marquee.dev/rollout", "marquee.dev/rollout-request")
DISALLOWED += ("marquee.dev/rollout-canary-revision",)
"""What KServe is told not to copy to revisions."""


@contextmanager
def running_kserve():
    """Run an API server in which KServe follows."""
    with running_kubernetes(
        namespaces=("films", "kserve"), crds=("kserve",), controllers=[kserve]
    ) as server:
        server.put(kserve_config(DISALLOWED))
        yield server


def kserve_config(disallowed):
    """Give KServe's settings: which annotations it does not copy to pods."""
    told = json.dumps({"serviceAnnotationDisallowedList": list(disallowed)})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {"inferenceService": told},
    }


def kserve(document):
    """Follow InferenceServices, as one of a server's controllers."""
    if document["kind"] == "InferenceService":
        follow(document)


def follow(service):
    """Write the status that KServe would, once all pods are up."""
    status = service.setdefault("status", {})
    # That of what is below it, which tells nothing of the InferenceService.
    status["observedGeneration"] = 1
    annotations = service["metadata"].get("annotations", {})
    ready = [{"type": "Ready", "status": "True"}, {"type": "PredictorReady", "status": "True"}]
    if annotations.get(MODE) == "Standard":
        canaries = service["spec"].get("canary", [])
        status["canaryStatuses"] = [
            {
                "name": canary["predictor"]["name"],
                "ready": True,
                "trafficPercent": canary["trafficPercent"],
            }
            for canary in canaries
        ]
        if canaries:
            ready.append({"type": "CanaryPredictorReady", "status": "True"})
    else:
        _knative(service, status)
    status["conditions"] = ready


def _knative(service, status):
    """Revisions: a new one for each change of the template; the one that had all traffic stays.

    The template has the annotations in it, but for those that KServe was told not to copy.
    """
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    component = status.setdefault("components", {}).setdefault("predictor", {})
    template = {key: value for key, value in predictor.items() if key != "canaryTrafficPercent"}
    annotations = metadata.get("annotations", {}).items()
    template["annotations"] = {k: v for k, v in annotations if k not in DISALLOWED}
    revisions = component.setdefault("x", [])  # of this server, not of KServe
    if not revisions or revisions[-1] != template:
        revisions.append(copy.deepcopy(template))
    latest = f"{metadata['name']}-predictor-{len(revisions):05}"
    component.update(latestCreatedRevision=latest, latestReadyRevision=latest)
    traffic = _traffic(component, predictor.get("canaryTrafficPercent"))
    host = f"{metadata['name']}.films.example.com"
    component["traffic"] = [
        {
            "revisionName": revision,
            "latestRevision": tag == "latest",
            "percent": share,
            "tag": tag,
            "url": f"http://{tag}-{host}",
        }
        for tag, revision, share in traffic
    ]


def _traffic(component, percent):
    """Share the traffic as KServe does: what has all of it is what it falls back to later."""
    latest, rolled_out = component["latestReadyRevision"], component.get("latestRolledoutRevision")
    if rolled_out == latest and percent is not None and percent < 100:
        rolled_out = component.get("previousRolledoutRevision")
    if percent is not None and percent < 100 and rolled_out:
        return [("latest", latest, percent), ("prev", rolled_out, 100 - percent)]
    if component.get("latestRolledoutRevision") != latest:
        component["previousRolledoutRevision"] = component.get("latestRolledoutRevision")
        component["latestRolledoutRevision"] = latest
    return [("latest", latest, 100)]
