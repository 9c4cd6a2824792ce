"""Kubernetes objects as plain documents: what strict schemas say to them, and their pods."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import crds
import kubernetes_validate
from jsonschema import Draft202012Validator

VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
"""The versions of Kubernetes that the chart is for: `kubeVersion` in Chart.yaml, and newer."""
WITHOUT_SCHEMA = {"Application", "AppProject", "ApplicationSet", "Kustomization"}
"""Kinds that nothing here has a schema of; golden files show them."""


def set_field(document, path, value):
    """Set a field by its path; a number counts in a list, its length appends."""
    *path, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    for name in path:
        document = document[name] if isinstance(name, int) else document.setdefault(name, {})
    if isinstance(document, list) and last == len(document):
        document.append(value)
    else:
        document[last] = value


def name_of(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def problem_of(document):
    """Say what strict schemas refuse in an object, in any of `VERSIONS`; nothing if it is valid."""
    return _problem_of(json.dumps(document, sort_keys=True))


@cache
def _problem_of(text):
    document = json.loads(text)
    if crds.has_schema(document):
        return crds.problem_of(document)
    for version in VERSIONS:
        errors = _built_in(version, document["apiVersion"], document["kind"]).iter_errors(document)
        for error in errors:
            return f"{'.'.join(map(str, error.path))}: {error.message[:200]} (Kubernetes {version})"
    return ""


@cache
def _built_in(version, api_version, kind):
    """Give the validator of a kind that a version of Kubernetes has built in.

    `kubernetes_validate.validate` reads two megabytes of schemas for each object.
    """
    for name, schema in _definitions(version).items():
        for each in schema.get("x-kubernetes-group-version-kind", ()):
            group = f"{each['group']}/{each['version']}".lstrip("/")
            if (group, each["kind"]) == (api_version, kind):
                root = {"$ref": f"#/$defs/{name}", "$defs": _definitions(version)}
                return Draft202012Validator(root)
    raise KeyError(f"Kubernetes {version} has no {kind} of {api_version}")


@cache
def _definitions(version):
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    file = folder / f"v{version}.0-local-strict/_definitions.json"
    return json.loads(file.read_text())["$defs"]


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes.

    Attributes:
        owner: Kind and name of the object.
        labels: Labels that are known beforehand.
        spec: Its PodSpec.
        declared: The metadata that the object gives its pods.
        joined: Ports of containers that others put into it.
    """

    owner: str
    labels: dict
    spec: dict
    declared: dict
    joined: tuple = ()


def pods_of(objects):
    """Give the pods that objects make, those of KServe and Trainer among them."""
    for document in objects:
        kind, spec = document["kind"], document.get("spec", {})
        if kind == "Pod":
            yield _pod(document, document)
        elif kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield _pod(document, spec["template"])
        elif kind == "CronJob":
            yield _pod(document, spec["jobTemplate"]["spec"]["template"])
        elif kind in ("ClusterTrainingRuntime", "TrainingRuntime"):
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield _pod(document, job["template"]["spec"]["template"])
        elif kind in ("ServingRuntime", "ClusterServingRuntime"):
            services = [each for each in objects if each["kind"] == "InferenceService"]
            for service in services or [_ANY]:
                yield _served(document, service)


def _pod(document, template):
    metadata = template.get("metadata", {})
    return Pod(name_of(document), metadata.get("labels", {}), template["spec"], metadata)


_ANY = {
    "metadata": {"name": "any"},
    "spec": {"predictor": {"automountServiceAccountToken": False}},
}
"""What a runtime has to do without, if nobody has made an InferenceService yet."""
_QUEUE = (8012, 8013, 8022, 9090, 9091)
"""Ports of Knative's proxy, through which a pod is asked."""
_PREDICTOR = ("securityContext", "serviceAccountName", "automountServiceAccountToken", "volumes")


def _served(runtime, service):
    """Join a runtime and a predictor as KServe does; the predictor's word counts."""
    spec, metadata = runtime["spec"], service["metadata"]
    predictor = service.get("spec", {}).get("predictor", {})
    joined = {key: value for key, value in spec.items() if key in ("containers", "volumes")}
    joined |= {key: predictor[key] for key in _PREDICTOR if key in predictor}
    labels = {
        **spec.get("labels", {}),
        **metadata.get("labels", {}),
        "serving.kserve.io/inferenceservice": metadata["name"],
        "component": "predictor",
    }
    declared = {"labels": spec.get("labels", {}), "annotations": spec.get("annotations", {})}
    mode = metadata.get("annotations", {}).get("serving.kserve.io/deploymentMode")
    return Pod(name_of(runtime), labels, joined, declared, _QUEUE if mode == "Knative" else ())


def containers_of(spec):
    """Give the containers of a PodSpec, those that come first among them."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


@cache
def _syntax(pattern):
    return re.compile(pattern).fullmatch


def is_label_value(value):
    return isinstance(value, str) and bool(
        _syntax(r"(|[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)")(value)
    )


def is_object_name(value):
    return len(value) <= 253 and bool(
        _syntax(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")(value)
    )
