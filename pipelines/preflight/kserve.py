"""Looks at KServe, its gateway, and Prometheus: what a rollout stands on."""

import json
from collections.abc import Iterator, Sequence

from components.rollout.backends.inference_service import OURS, Mode
from components.rollout.backends.prometheus import COUNTERS
from marquee.verdict import Check, Severity
from pipelines.preflight.api import GATEWAYS, INFERENCE_SERVICES, STORAGE_CONTAINERS
from pipelines.preflight.context import Cluster, judged
from pipelines.preflight.kubeflow import running

_KSERVE = (0, 16)
"""The first that knows the modes by their names of today."""
_OF_THE_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""What our InferenceService says of all containers of its pods; Knative does not let it."""
_PATCH = json.dumps(
    {
        "spec": {
            "container": {
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    **_OF_THE_POD,
                }
            }
        }
    },
    separators=(",", ":"),
)
_CONFIG = "the ConfigMap inferenceservice-config"
_GATEWAY = "kserve/kserve-ingress-gateway"
"""KServe's, unless it is told another."""


def inference_api(cluster: Cluster) -> Iterator[Check]:
    """Look whether KServe's kinds are there."""
    there = "inferenceservices" in cluster.kinds(INFERENCE_SERVICES.version)
    runtimes = "servingruntimes" in cluster.kinds("serving.kserve.io/v1alpha1")
    yield judged(
        "KServe: API",
        there and runtimes,
        measured=f"{INFERENCE_SERVICES.version} {'is' if there else 'is not'} there",
        bound="InferenceService and ServingRuntime",
        remedy="install KServe",
    )


def inference_controller(cluster: Cluster) -> Iterator[Check]:
    """Look whether KServe runs."""
    yield running(cluster, "KServe", _KSERVE, "kserve-controller-manager")


def canaries(cluster: Cluster) -> Iterator[Check]:
    """Look whether models in this mode can have canaries."""
    schema = cluster.schema(INFERENCE_SERVICES.version, "InferenceService")
    spec = schema.get("properties", {}).get("spec", {}).get("properties", {})
    knative = "v1" in cluster.groups.get("serving.knative.dev", ())
    yield judged(
        "KServe: canaries",
        knative if cluster.mode is Mode.KNATIVE else "canary" in spec,
        measured=f"{cluster.mode} mode; Knative is {'' if knative else 'not '}there, "
        f"spec.canary is {'' if 'canary' in spec else 'not '}known",
        bound="Knative in Knative mode, spec.canary in Standard mode",
        remedy="install Knative Serving, or deploy in Standard mode (kserve.mode)"
        if cluster.mode is Mode.KNATIVE
        else "install KServe 0.20 or later, or deploy in Knative mode (kserve.mode)",
    )


def initializer(cluster: Cluster) -> Iterator[Check]:
    """Look whether Pod Security lets in the container that fetches bundles."""
    if STORAGE_CONTAINERS.plural not in cluster.kinds(STORAGE_CONTAINERS.version):
        return
    found = cluster.api.find(STORAGE_CONTAINERS, "default")
    context = ((found or {}).get("spec", {}).get("container") or {}).get("securityContext") or {}
    if cluster.mode is Mode.STANDARD:
        context = _OF_THE_POD | context
    restricted = (
        context.get("allowPrivilegeEscalation") is False
        and "ALL" in ((context.get("capabilities") or {}).get("drop") or ())
        and context.get("runAsNonRoot") is True
        and (context.get("seccompProfile") or {}).get("type") == "RuntimeDefault"
    )
    level = cluster.security_level
    yield judged(
        "KServe: storage initializer",
        restricted,
        measured="not there"
        if found is None
        else "keeps to restricted"
        if restricted
        else f"does not keep to restricted; the namespace enforces {level or 'no level'}",
        bound="the ClusterStorageContainer default keeps to the level restricted",
        remedy=f"kubectl patch clusterstoragecontainer default --type=merge -p '{_PATCH}'",
        severity=Severity.CRITICAL if level == "restricted" else Severity.INFO,
    )


def annotations(cluster: Cluster) -> Iterator[Check]:
    """Look whether KServe keeps the rollout's annotations from pods, which they would restart."""
    kept = cluster.kserve_settings("inferenceService").get("serviceAnnotationDisallowedList", ())
    missing = [name for name in OURS if name not in kept]
    yield judged(
        "KServe: annotations of rollouts",
        not missing,
        measured=f"{len(OURS) - len(missing)} of {len(OURS)} kept from pods"
        if cluster.kserve_config
        else f"{_CONFIG} is not in {cluster.kserve_namespace}",
        bound="serviceAnnotationDisallowedList names all",
        remedy=f"add them to inferenceService.serviceAnnotationDisallowedList in {_CONFIG} of "
        f"{cluster.kserve_namespace} (docs/rollout.md)"
        if cluster.kserve_config
        else "install KServe, or set kserve.namespace of the chart to where it is",
        blame=missing,
    )


def gateway_setting(cluster: Cluster) -> Iterator[Check]:
    """Look whether KServe shares traffic by the Gateway API, as canaries in Standard mode need."""
    if cluster.mode is not Mode.STANDARD:
        return
    enabled = cluster.kserve_settings("ingress").get("enableGatewayApi", False)
    yield judged(
        "Gateway: KServe uses it",
        bool(enabled) and "gateway.networking.k8s.io" in cluster.groups,
        measured=f"enableGatewayApi is {str(bool(enabled)).lower()}, the Gateway API is "
        f"{'' if 'gateway.networking.k8s.io' in cluster.groups else 'not '}there",
        bound="enableGatewayApi, and Gateway API's CRDs",
        remedy="install the Gateway API's CRDs and an implementation, and set enableGatewayApi in "
        f"ingress of {_CONFIG}",
    )


def gateway(cluster: Cluster) -> Iterator[Check]:
    """Look whether the gateway that KServe's routes go through is up."""
    if cluster.mode is not Mode.STANDARD or "gateway.networking.k8s.io" not in cluster.groups:
        return
    if cluster.kserve_config is None:
        return
    named = cluster.kserve_settings("ingress").get("kserveIngressGateway", _GATEWAY)
    namespace, _, name = named.partition("/")
    found = cluster.api.find(GATEWAYS, name, namespace)
    conditions = (found or {}).get("status", {}).get("conditions", ())
    up = any(c["type"] == "Programmed" and c["status"] == "True" for c in conditions)
    yield judged(
        "Gateway: programmed",
        up,
        measured=f"{named} {'is not there' if found is None else 'is up' if up else 'is not up'}",
        bound="kserveIngressGateway is Programmed",
        remedy=f"make the Gateway {named}, or name another in ingress of {_CONFIG}"
        if found is None
        else f"see kubectl describe gateway {name} -n {namespace}",
    )


def prometheus(cluster: Cluster) -> Iterator[Check]:
    """Ask Prometheus for the metrics that rollouts are judged by."""
    address = cluster.place("prometheus", "MARQUEE_PROMETHEUS")
    if not address:
        yield judged(
            "Prometheus: address",
            False,
            measured="none",
            bound="rollouts ask it how canaries do",
            remedy="set prometheus.address of the chart; without it no rollout starts",
            severity=Severity.WARNING,
        )
        return
    wanted = sorted(set().union(*(names for mode in Mode for names in _metrics(mode))))
    query = f'count by (__name__) ({{__name__=~"{"|".join(wanted)}"}})'
    found = cluster.api.ask_service(address, "/api/v1/query", query=query)["data"]["result"]
    there = {series["metric"]["__name__"] for series in found}
    yield judged("Prometheus: answers", True, measured=address, bound="answers a query", remedy="")
    sets = _metrics(cluster.mode)
    yield judged(
        "Prometheus: metrics of traffic",
        any(names <= there for names in sets),
        measured=", ".join(sorted(there)) or "none of them",
        bound=" or ".join(" and ".join(sorted(names)) for names in sets),
        remedy="they come with the first requests; let Prometheus scrape Knative's queue proxies"
        if cluster.mode is Mode.KNATIVE
        else "they come with the first requests; let Prometheus scrape Istio's gateway",
        severity=Severity.WARNING,
    )


def _metrics(mode: Mode) -> Sequence[set[str]]:
    """Give the names of the metrics that a rollout asks for; one of these sets will do."""
    return [
        {
            counter.partition("{")[0]
            for counter in (counters.requests, counters.errors, counters.buckets)
        }
        for counters in COUNTERS[mode]
    ]
