"""Looks at Kubernetes, Kubeflow Pipelines, Trainer, and what Marquee can use besides."""

from collections.abc import Iterator
from dataclasses import replace

from marquee.verdict import Check, Severity
from pipelines.preflight.api import TRAINING_RUNTIMES
from pipelines.preflight.context import INSTALL, Cluster, dotted, judged, release
from pipelines.preflight.needs import RUNTIMES

_KUBERNETES, _PIPELINES, _TRAINER, _JOBSET = (1, 32), (2, 17), (2, 3), (0, 10)
"""The first versions that have what is used: KServe asks for this Kubernetes, the packages are made
with this release of Kubeflow Pipelines, and the runtimes' failure policies for this Trainer and the
onJobFailureMessagePatterns of this JobSet."""
ENDPOINT = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
_TRAINING_API = "trainer.kubeflow.org/v1alpha1"
_OPTIONAL = {
    "Istio": ("security.istio.io/v1", "authorizationpolicies", "istio.enabled"),
    "KEDA": ("keda.sh/v1alpha1", "scaledobjects", "inferenceService.autoscaling.class=keda"),
    "Katib": ("kubeflow.org/v1beta1", "experiments", "searches of hyperparameters"),
    "Prometheus operator": ("monitoring.coreos.com/v1", "podmonitors", "prometheus.operator"),
}
"""Where each can be told by, and what it is used for."""


def kubernetes_version(cluster: Cluster) -> Iterator[Check]:
    """Look at the API server's version."""
    said = cluster.api.raw("/version")["gitVersion"]
    yield judged(
        "Kubernetes: version",
        release(said) >= _KUBERNETES,
        measured=said,
        bound=f"{dotted(_KUBERNETES)} or later",
        remedy="upgrade the cluster: KServe is not made for older ones",
        severity=Severity.WARNING,
    )


def pipelines(cluster: Cluster) -> Iterator[Check]:
    """Ask Kubeflow Pipelines whether it is well, and how it is set up."""
    address = cluster.place("kfp-endpoint", "MARQUEE_KFP_ENDPOINT", ENDPOINT)
    namespace = cluster.place("kfp-namespace", "MARQUEE_KFP_NAMESPACE")
    health = cluster.api.ask_service(address, "/apis/v2beta1/healthz")
    yield judged(
        "Kubeflow Pipelines: answers",
        True,
        measured=f"{address}; pipelines are in {health.get('pipeline_store') or 'its database'}",
        bound="healthz of its v2beta1 API",
        remedy="",
    )
    several = bool(health.get("multi_user"))
    yield judged(
        "Kubeflow Pipelines: users",
        several == bool(namespace),
        measured=f"{'several users' if several else 'one user'}, "
        f"runs in {namespace or 'no namespace of their own'}",
        bound="pipelines.namespace where there are several users, and only there",
        remedy="set pipelines.namespace of the chart to the profile's namespace"
        if several
        else "set pipelines.namespace of the chart to nothing",
    )


def pipelines_version(cluster: Cluster) -> Iterator[Check]:
    """Look whether Kubeflow Pipelines is as new as the packages."""
    check = running(cluster, "Kubeflow Pipelines", _PIPELINES, "ml-pipeline")
    yield replace(check, severity=Severity.WARNING)


def training_api(cluster: Cluster) -> Iterator[Check]:
    """Look whether Trainer's kinds are there, as the train step uses them."""
    wanted = {"trainjobs", "clustertrainingruntimes"}
    there = wanted <= cluster.kinds(_TRAINING_API)
    fields = _fields(cluster.schema(_TRAINING_API, "TrainJob")) if there else set()
    yield judged(
        "Trainer: API",
        "runtimePatches" in fields,
        measured=f"{_TRAINING_API} {_with(there, 'runtimePatches' in fields)}",
        bound=f"{_TRAINING_API} with runtimePatches",
        remedy=f"install Kubeflow Trainer {dotted(_TRAINER)} or later",
    )


def _fields(schema: dict) -> set[str]:
    return set(schema.get("properties", {}).get("spec", {}).get("properties", {}))


def _with(there: bool, field: bool) -> str:
    if not there:
        return "is not there"
    return "with runtimePatches" if field else "without runtimePatches"


def jobset_api(cluster: Cluster) -> Iterator[Check]:
    """Look whether JobSet's kind is there, of which Trainer makes trainings."""
    versions = cluster.groups.get("jobset.x-k8s.io", ())
    yield judged(
        "JobSet: API",
        "v1alpha2" in versions,
        measured=", ".join(versions) or "not there",
        bound="jobset.x-k8s.io/v1alpha2",
        remedy="install JobSet; Trainer's manifests bring it",
    )


def trainer_controller(cluster: Cluster) -> Iterator[Check]:
    """Look whether Trainer runs."""
    yield running(cluster, "Trainer", _TRAINER, "kubeflow-trainer-controller-manager")


def jobset_controller(cluster: Cluster) -> Iterator[Check]:
    """Look whether JobSet runs."""
    yield running(cluster, "JobSet", _JOBSET, "jobset-controller-manager", "jobset-controller")


def running(cluster: Cluster, what: str, oldest: tuple[int, ...], *names: str) -> Check:
    """Look whether a controller runs, and in which version.

    Args:
        cluster: Where.
        what: What it is.
        oldest: The first version that will do.
        names: What its Deployment may be called.
    """
    found = cluster.controllers(*names)
    ready = sum(item.get("status", {}).get("readyReplicas", 0) for item in found)
    version = _version_of(found[0]) if found else ()
    said = f"{dotted(version) or 'unknown version'}, pods ready: {ready}"
    return judged(
        f"{what}: controller",
        ready > 0 and (not version or version >= oldest),
        measured=said if found else f"no Deployment {names[0]}",
        bound=f"{dotted(oldest)} or later, a pod ready",
        remedy=f"see kubectl describe deployment {names[0]} -n {found[0]['metadata']['namespace']}"
        if found and not (ready and version < oldest)
        else f"install {what} {dotted(oldest)} or later",
    )


def _version_of(deployment: dict) -> tuple[int, ...]:
    """Give the version of the controller itself, whatever runs beside it; none if unknown."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    own = [c for c in containers if c["name"] == "manager" or len(containers) == 1]
    return release(own[0]["image"].rpartition(":")[2]) if own else ()


def training_runtimes(cluster: Cluster) -> Iterator[Check]:
    """Look whether the chart's ClusterTrainingRuntimes are there."""
    if not cluster.is_installed:
        return
    names = [f"{cluster.runtime_prefix}-{name}" for name in RUNTIMES]
    missing = [name for name in names if cluster.api.find(TRAINING_RUNTIMES, name) is None]
    yield judged(
        "Trainer: our runtimes",
        not missing,
        measured=f"{len(names) - len(missing)} of {len(names)}",
        bound=", ".join(names),
        remedy="set training.enabled of the chart, and upgrade the release",
        blame=missing,
    )


def optional_parts(cluster: Cluster) -> Iterator[Check]:
    """Look which parts are there that Marquee can use and can do without."""
    for name, (version, plural, use) in _OPTIONAL.items():
        there = plural in cluster.kinds(version)
        yield judged(
            f"{name}: API",
            there,
            measured=f"{version} is {'' if there else 'not '}there",
            bound=f"may be there, for {use}",
            remedy=f"install it if you want {use}",
            severity=Severity.INFO,
        )


def chart(cluster: Cluster) -> Iterator[Check]:
    """Look whether the chart is installed: much else can be asked only then."""
    there = cluster.config is not None
    yield judged(
        "Marquee: installed",
        there,
        measured=f"{'the' if there else 'no'} ConfigMap marquee in {cluster.namespace}",
        bound="the chart's ConfigMap marquee",
        remedy=INSTALL.replace("NAMESPACE", cluster.namespace),
        severity=Severity.WARNING,
    )
