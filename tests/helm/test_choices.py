"""What some values make of the objects, where no general rule would notice that it is missing."""

import fnmatch

import pytest
from chart import OVERLAYS, build, render
from chart_cases import CASES, SERVED


def named(objects, kind, name):
    (found,) = (
        each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


# Istio.


def lets(policy, source, method, path):
    """Whether an AuthorizationPolicy lets a request through; a source is a namespace, or None."""
    return any(
        _from(rule.get("from"), source) and _to(rule.get("to"), method, path)
        for rule in policy["spec"]["rules"]
    )


def _from(peers, namespace):
    return peers is None or any(namespace in peer["source"]["namespaces"] for peer in peers)


def _to(operations, method, path):
    return operations is None or any(
        method in each["operation"]["methods"]
        and any(fnmatch.fnmatch(path, pattern) for pattern in each["operation"]["paths"])
        for each in operations
    )


PREDICT, INFER = "/v1/models/poster-genre:predict", "/v2/models/poster-genre/infer"
REQUESTS = {
    # Pods without a sidecar have no namespace.
    "a rollout's step": ("Standard", None, "POST", PREDICT, True),
    "helm test": ("Standard", None, "POST", INFER, True),
    "somebody who wants to load models": ("Standard", None, "POST", "/v2/repository/x/load", False),
    "somebody who looks around": ("Standard", None, "GET", "/v1/models", False),
    "Prometheus": ("Standard", None, "GET", "/metrics", True),
    "a gateway": ("Knative", "istio-system", "POST", PREDICT, True),
    "past the gateway": ("Knative", None, "POST", PREDICT, False),
    "a pod that ends": ("Knative", None, "GET", "/wait-for-drain", True),
    "a page of the gateway's": ("Standard", "istio-system", "GET", "/", True),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_with_istio_the_servers_are_asked_by_who_has_to(name):
    mode, source, method, path, may = REQUESTS[name]
    objects = render({**CASES["istio"], "kserve": {"mode": mode}})
    assert (
        lets(named(objects, "AuthorizationPolicy", "marquee-serving"), source, method, path) is may
    )


@pytest.mark.parametrize("case", ["served", "istio", "a-profile-of-kubeflow"])
def test_a_sidecar_reaches_its_control_plane(case):
    """Whether or not there are AuthorizationPolicies: a profile's namespace injects sidecars."""
    assert egress(CASES[case], "istio-system") == {(15010, "TCP"), (15012, "TCP")}
    assert egress(CASES["openshift"], "istio-system") == set()


def egress(values, namespace):
    policy = named(render(values), "NetworkPolicy", "marquee-egress")
    return {
        (port["port"], port["protocol"])
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
        if namespace in str(peer)
    }


def test_names_are_asked_where_the_values_say():
    assert egress({}, "kube-system") == {(53, "UDP"), (53, "TCP")}
    assert egress(CASES["openshift"], "openshift-dns") == {(5353, "UDP"), (5353, "TCP")}
    assert egress(CASES["openshift"], "169.254.20.10/32") == {(53, "UDP"), (53, "TCP")}


# The InferenceService.

SELECTED = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")


@pytest.mark.parametrize("where", ["chart", *(path.name for path in OVERLAYS)])
def test_servers_keep_what_selects_them_whatever_argo_cd_labels_the_object_with(where):
    overlays = {path.name: path for path in OVERLAYS}
    objects = build(overlays[where]) if where in overlays else render(SERVED)
    service = named(objects, "InferenceService", "poster-genre")
    # As KServe puts a pod's labels together, the last ones win: the runtime's, the object's, the
    # predictor's.
    labels = {
        **named(objects, "ServingRuntime", "marquee")["spec"]["labels"],
        **service["metadata"]["labels"],
        "app.kubernetes.io/instance": "marquee-dev",
        **service["spec"]["predictor"]["labels"],
    }
    for kind, name in (
        ("NetworkPolicy", "marquee-default-deny"),
        ("NetworkPolicy", "marquee-serving"),
    ):
        wanted = named(objects, kind, name)["spec"]["podSelector"]["matchLabels"]
        assert wanted.items() <= labels.items()
    budget = named(objects, "PodDisruptionBudget", "marquee-serving")
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


# Volumes.


@pytest.mark.parametrize(
    ("mode", "strategy"), [("ReadWriteOnce", "Recreate"), ("ReadWriteMany", "")]
)
def test_a_volume_that_one_node_has_is_let_go_before_it_is_taken(mode, strategy):
    storage = {"monitoring": "/mnt/marquee/m", "pvc": {"enabled": True, "accessMode": mode}}
    deployment = named(render({"storage": storage}), "Deployment", "marquee-exporter")
    assert deployment["spec"].get("strategy", {}).get("type", "") == strategy


# Pipelines.


def test_an_install_uploads_the_pipelines():
    pod = named(render({}), "Job", "marquee-pipelines")["spec"]["template"]["spec"]
    assert [container["args"] for container in pod["containers"]] == [["pipeline", "upload"]]
    assert "initContainers" not in pod
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert variables["MARQUEE_IMAGE_PREFIX"] == "marquee"


def test_schedules_are_made_after_the_upload():
    pod = named(render(CASES["everything"]), "Job", "marquee-pipelines")["spec"]["template"]["spec"]
    assert [container["args"] for container in pod["initContainers"]] == [["pipeline", "upload"]]
    assert [container["name"] for container in pod["containers"]] == ["daily", "often"]
