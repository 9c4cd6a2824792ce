"""Preflight over a cluster in which nothing is missing, and over ones in which one thing is."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from command import marquee
from crds import FOLDER
from helpers import ROOT
from kubeflow_cluster import ISTIO, NAMESPACE, running_kubeflow, secret
from kubernetes.config import kube_config
from kubernetes_schemas import whole

from marquee.cli import preflight as cli
from marquee.errors import InfrastructureError, UsageError
from marquee.verdict import Outcome, Severity
from pipelines.preflight import preflight as module
from pipelines.preflight.context import Question, judged
from pipelines.preflight.preflight import preflight

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs the CRDs of ../shared/crds")
STEPS = f"system:serviceaccount:{NAMESPACE}:pipeline-runner"
UNKNOWABLE = {"Network: policies"}


@pytest.fixture(scope="module")
def kubeflow():
    with running_kubeflow() as server:
        yield server


@pytest.fixture
def api(kubeflow):
    """A cluster in which nothing is missing, until the test has it otherwise."""
    with kubeflow.undone():
        yield kubeflow
    kubeflow.kfp.multi_user, kubeflow.kfp.page = False, False
    kubeflow.prometheus.metrics = list(ISTIO)


@pytest.fixture
def look(api, tmp_path, monkeypatch):
    """Look at the cluster, as an administrator or as `user`."""

    def see(user=None, **options):
        path = api.kubeconfig(tmp_path, user=user)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", path)
        return preflight(Question(namespace=NAMESPACE, **options))

    return see


def odd(verdict):
    """The checks that do not hold, but for those that never can."""
    return {c.name: c for c in verdict.checks if not c.holds and c.name not in UNKNOWABLE}


def test_nothing_is_missing(api, look, tmp_path):
    change(api, "ConfigMap", "marquee", {"data.models": str(tmp_path / "models")})
    verdict = look(run_uris=[str(tmp_path / "runs")])
    assert odd(verdict) == {}
    assert verdict.outcome is Outcome.PASSED
    names = [check.name for check in verdict.checks]
    # And each of them is in the table of the page.
    page = (ROOT / "docs/preflight.md").read_text()
    assert [name for name in names if f"`{general(name)}`" not in page] == []
    assert len(names) == len(set(names)) > 50
    assert f"Storage: {tmp_path}/runs: two writers" in names
    assert list((tmp_path / "models").rglob(".preflight*")) == []


def general(name):
    """Name a check as the page does, for whatever account, secret or URI."""
    name = re.sub(r"(Permissions: )[^:]+: .+", r"\1ACCOUNT: KIND", name)
    name = re.sub(r"(Secret: ).+", r"\1NAME", name)
    return re.sub(r"(Storage: )/\S+?(: two writers)?$", r"\1URI\2", name)


def at(document, path):
    """Give what holds the last step of a path, and that step; numbers are places in lists."""
    *steps, last = path.split(".")
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document, last


def change(api, kind, name, changes, namespace=NAMESPACE):
    """Change fields of an object, or remove those that are to be None."""
    document = api.get(kind, name, namespace)
    for path, value in changes.items():
        place, last = at(document, path)
        if value is None:
            del place[last]
        else:
            place[last] = value
    api.put(document)


def settings(api, section, **changes):
    """Change KServe's settings."""
    data = api.get("ConfigMap", "inferenceservice-config", "kserve")["data"]
    new = json.dumps({**json.loads(data[section]), **changes})
    change(api, "ConfigMap", "inferenceservice-config", {f"data.{section}": new}, "kserve")


def revoke(api, kind, name, resource, verb, namespace=NAMESPACE):
    role = api.get(kind, name, namespace)
    for rule in role["rules"]:
        if resource in rule["resources"]:
            rule["verbs"] = [v for v in rule["verbs"] if v != verb]
    api.put(role)


def controller(name, namespace, **changes):
    return lambda api: change(
        api,
        "Deployment",
        name,
        {path.replace("__", "."): v for path, v in changes.items()},
        namespace,
    )


def unready(name, namespace):
    def do(api):
        api.controllers.clear()
        change(api, "Deployment", name, {"status.readyReplicas": 0}, namespace)

    return do


def older_crd(api, name, version, field):
    """Serve a kind's CRD as it was before a field."""
    resource = next(r for r in api.resources.values() if (r.plural, r.version) == (name, version))
    crd = json.loads(json.dumps(whole(resource.crd)))
    (found,) = (v for v in crd["spec"]["versions"] if v["name"] == version)
    del found["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][field]
    api.put(crd)


def no_kinds(api, *groups):
    for key in [key for key in api.resources if key[0] in groups]:
        del api.resources[key]


def no_kserve(api):
    no_kinds(api, "serving.kserve.io")
    api.drop("ConfigMap", "inferenceservice-config", "kserve")
    api.drop("Deployment", "kserve-controller-manager", "kserve")


def knative(api):
    service = api.get("InferenceService", "poster-genre", NAMESPACE)
    service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Knative"
    api.put(service)
    api.prometheus.metrics = [
        f"http_server_request_duration_seconds_{part}" for part in ("count", "bucket")
    ]


def knative_without_knative(api):
    knative(api)
    no_kinds(api, "serving.knative.dev")


def several_users(api):
    api.kfp.multi_user = True


def sidecars(api):
    labels = {"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}
    change(api, "Namespace", NAMESPACE, {"metadata.labels": labels}, "")
    change(api, "NetworkPolicy", "marquee-egress", {"spec.egress": []})


def quota(api, used="3500m", limits=("default", "defaultRequest")):
    """A quota of CPUs, and a LimitRange; one with `default` alone is of memory."""
    kind = "cpu" if "defaultRequest" in limits else "memory"
    limit = {"type": "Container"} | {name: {kind: "100m"} for name in limits}
    api.put(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "defaults", "namespace": NAMESPACE},
            "spec": {"limits": [limit]},
        }
    )
    api.put(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "small", "namespace": NAMESPACE},
            "spec": {"hard": {"requests.cpu": "4"}},
            "status": {"hard": {"requests.cpu": "4"}, "used": {"requests.cpu": used}},
        }
    )


def claim(api):
    api.controllers.clear()
    api.put(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "marquee-storage", "namespace": NAMESPACE},
            "spec": {"accessModes": ["ReadWriteMany"]},
            "status": {"phase": "Pending"},
        }
    )


def other_taint(api):
    taint = {"key": "spot", "value": "true", "effect": "NoSchedule"}
    change(api, "Node", "gpu-1", {"spec.taints": [taint]}, "")


@dataclass(frozen=True)
class Case:
    name: str
    break_: Callable
    check: str
    remedy: str
    severity: Severity = Severity.CRITICAL
    outcome: Outcome = Outcome.FAILED
    also: tuple[str, ...] = field(default=())


WARNING, NOTE = Severity.WARNING, Severity.INFO
CASES = [
    Case(
        "KFP is away",
        lambda api: api.services.pop(("kubeflow", "ml-pipeline")),
        "Kubeflow Pipelines: answers",
        "the service's pods",
    ),
    Case(
        "KFP is behind a login",
        lambda api: setattr(api.kfp, "page", True),
        "Kubeflow Pipelines: answers",
        "login",
    ),
    Case(
        "an old KFP",
        controller(
            "ml-pipeline",
            "kubeflow",
            spec__template__spec__containers__0__image="kfp-api-server:2.5.0",
        ),
        "Kubeflow Pipelines: controller",
        "2.17 or later",
        WARNING,
    ),
    Case(
        "no KServe",
        no_kserve,
        "KServe: API",
        "install KServe",
        also=(
            *("KServe: controller", "KServe: canaries", "KServe: annotations of rollouts"),
            "Gateway: KServe uses it",
        ),
    ),
    Case(
        "no Gateway API",
        lambda api: no_kinds(api, "gateway.networking.k8s.io"),
        "Gateway: KServe uses it",
        "install the Gateway API's CRDs",
    ),
    Case(
        "the steps are bound to nothing",
        lambda api: api.drop("RoleBinding", "marquee-steps", NAMESPACE),
        "Permissions: pipeline-runner: trainjobs.trainer.kubeflow.org",
        "bind the chart's Roles",
        also=tuple(
            f"Permissions: pipeline-runner: {kind}"
            for kind in ("inferenceservices.serving.kserve.io", "pods", "pods/log", "events")
        ),
    ),
    Case("several users", several_users, "Kubeflow Pipelines: users", "pipelines.namespace"),
    Case(
        "no Trainer",
        lambda api: no_kinds(api, "trainer.kubeflow.org"),
        "Trainer: API",
        "install Kubeflow Trainer 2.3",
        also=("Trainer: our runtimes",),
    ),
    Case(
        "an old Trainer",
        lambda api: older_crd(api, "trainjobs", "v1alpha1", "runtimePatches"),
        "Trainer: API",
        "2.3 or later",
    ),
    Case(
        "Trainer's image is old",
        controller(
            "kubeflow-trainer-controller-manager",
            "kubeflow-system",
            spec__template__spec__containers__0__image="ghcr.io/kubeflow/trainer:v2.2.0",
        ),
        "Trainer: controller",
        "install Trainer 2.3",
    ),
    Case(
        "Trainer does not run",
        unready("kubeflow-trainer-controller-manager", "kubeflow-system"),
        "Trainer: controller",
        "kubectl describe deployment kubeflow-trainer-controller-manager -n kubeflow-system",
    ),
    Case(
        "no JobSet", lambda api: no_kinds(api, "jobset.x-k8s.io"), "JobSet: API", "install JobSet"
    ),
    Case(
        "JobSet's image is older than failure policies by message",
        controller(
            "jobset-controller-manager",
            "kubeflow-system",
            spec__template__spec__containers__0__image="registry.k8s.io/jobset/jobset:v0.9.1",
        ),
        "JobSet: controller",
        "install JobSet 0.10",
    ),
    Case(
        "JobSet's controller is missing",
        lambda api: api.drop("Deployment", "jobset-controller-manager", "kubeflow-system"),
        "JobSet: controller",
        "install JobSet",
    ),
    Case(
        "a runtime is missing",
        lambda api: api.drop("ClusterTrainingRuntime", "marquee-gpu"),
        "Trainer: our runtimes",
        "training.enabled",
    ),
    Case(
        "KServe's controller is missing",
        lambda api: api.drop("Deployment", "kserve-controller-manager", "kserve"),
        "KServe: controller",
        "install KServe",
    ),
    Case(
        "an old KServe",
        controller(
            "kserve-controller-manager",
            "kserve",
            spec__template__spec__containers__0__image="kserve/kserve-controller:v0.15.2",
        ),
        "KServe: controller",
        "install KServe 0.16",
    ),
    Case(
        "an old KServe in Standard mode",
        lambda api: older_crd(api, "inferenceservices", "v1beta1", "canary"),
        "KServe: canaries",
        "KServe 0.20",
    ),
    Case(
        "Knative mode without Knative",
        knative_without_knative,
        "KServe: canaries",
        "install Knative Serving",
    ),
    Case(
        "annotations go to pods",
        lambda api: settings(api, "inferenceService", serviceAnnotationDisallowedList=["a"]),
        "KServe: annotations of rollouts",
        "serviceAnnotationDisallowedList in the ConfigMap inferenceservice-config of kserve",
    ),
    Case(
        "KServe fetches bundles as Pod Security does not let it",
        lambda api: change(
            api,
            "ClusterStorageContainer",
            "default",
            {"spec.container.securityContext": None},
            "",
        ),
        "KServe: storage initializer",
        'kubectl patch clusterstoragecontainer default --type=merge -p \'{"spec":{"container":',
    ),
    Case(
        "KServe fetches bundles as root",
        lambda api: change(
            api,
            "ClusterStorageContainer",
            "default",
            {"spec.container.securityContext.runAsNonRoot": False},
            "",
        ),
        "KServe: storage initializer",
        "runAsNonRoot",
    ),
    Case(
        "KServe makes Ingresses",
        lambda api: settings(api, "ingress", enableGatewayApi=False),
        "Gateway: KServe uses it",
        "enableGatewayApi",
    ),
    Case(
        "no such gateway",
        lambda api: settings(api, "ingress", kserveIngressGateway="kserve/other"),
        "Gateway: programmed",
        "make the Gateway kserve/other",
    ),
    Case(
        "the gateway is not up",
        lambda api: change(
            api,
            "Gateway.gateway.networking.k8s.io",
            "kserve-ingress-gateway",
            {"status.conditions.0.status": "False"},
            "kserve",
        ),
        "Gateway: programmed",
        "kubectl describe gateway kserve-ingress-gateway",
    ),
    Case(
        "no address of Prometheus",
        lambda api: change(api, "ConfigMap", "marquee", {"data.prometheus": None}),
        "Prometheus: address",
        "prometheus.address",
        WARNING,
    ),
    Case(
        "Prometheus is away",
        lambda api: api.services.pop(("monitoring", "prometheus")),
        "Prometheus: answers",
        "the service's pods",
    ),
    Case(
        "Prometheus does not scrape the gateway",
        lambda api: setattr(api.prometheus, "metrics", ["istio_requests_total"]),
        "Prometheus: metrics of traffic",
        "Istio's gateway",
        WARNING,
    ),
    Case(
        "a verb of the rollout",
        lambda api: revoke(api, "Role", "marquee-steps", "inferenceservices", "update"),
        "Permissions: pipeline-runner: inferenceservices.serving.kserve.io",
        "bind the chart's Roles",
    ),
    Case(
        "a verb of the train step",
        lambda api: revoke(api, "Role", "marquee-steps", "pods/log", "get"),
        "Permissions: pipeline-runner: pods/log",
        "the train step",
    ),
    Case(
        "KServe's settings",
        lambda api: api.drop("RoleBinding", f"marquee-{NAMESPACE}-kserve-config", "kserve"),
        "Permissions: pipeline-runner: configmaps",
        "how KServe is set up",
    ),
    Case(
        "a verb of the upload",
        lambda api: revoke(api, "Role", "marquee-pipelines", "pipelines/versions", "create"),
        "Permissions: marquee-monitoring: pipelines/versions.pipelines.kubeflow.org",
        "the pipelines' Job",
        also=("Permissions: marquee-monitoring: pipelines.pipelines.kubeflow.org",),
    ),
    Case(
        "a verb of the schedules",
        lambda api: revoke(api, "Role", "marquee-schedules", "jobs", "disable"),
        "Permissions: marquee-monitoring: jobs.pipelines.kubeflow.org",
        "the pipelines' Job",
    ),
    Case(
        "storage that cannot be written",
        lambda api: change(api, "ConfigMap", "marquee", {"data.models": "/proc/nowhere"}),
        "Storage: /proc/nowhere",
        "write, read and delete",
    ),
    Case(
        "no default storage class",
        lambda api: change(api, "StorageClass", "standard", {"metadata.annotations": None}, ""),
        "Storage: default class",
        "make one the default",
        WARNING,
    ),
    Case(
        "the volume is not bound",
        claim,
        "Storage: volume marquee-storage",
        "kubectl describe pvc",
        WARNING,
    ),
    Case(
        "an account is missing",
        lambda api: api.drop("ServiceAccount", "marquee-training", NAMESPACE),
        "Accounts: ours",
        "upgrade the release",
    ),
    Case(
        "no tokens for the servers",
        lambda api: api.drop("Secret", "marquee-tokens", NAMESPACE),
        "Secret: marquee-tokens",
        "kubectl create secret generic marquee-tokens",
    ),
    Case(
        "a secret without its key",
        lambda api: api.put(secret("marquee-signing", {"other.pem": "eA=="})),
        "Secret: marquee-signing",
        "--from-file=key.pem",
        WARNING,
    ),
    Case(
        "no webhook",
        lambda api: api.drop("Secret", "marquee-webhook", NAMESPACE),
        "Secret: marquee-webhook",
        "nobody is told",
        NOTE,
    ),
    Case("no GPUs", lambda api: api.drop("Node", "gpu-1"), "GPUs: nodes", "device plugin", WARNING),
    Case("a taint", other_taint, "GPUs: open to trainings", "training.gpu.tolerations", WARNING),
    Case(
        "no Pod Security",
        lambda api: change(api, "Namespace", NAMESPACE, {"metadata.labels": {}}, ""),
        "Namespace: Pod Security",
        "kubectl label namespace films",
        NOTE,
    ),
    Case("a small quota", quota, "Namespace: quota", "raise the ResourceQuota", WARNING),
    Case(
        "a quota, and pods that name nothing",
        lambda api: quota(api, used="0", limits=("default",)),
        "Namespace: defaults under a quota",
        "the train step's own pod",
        WARNING,
    ),
    Case(
        "sidecars that reach nobody", sidecars, "Istio: sidecars", "networkPolicies.istioNamespace"
    ),
    Case("no Katib", lambda api: no_kinds(api, "kubeflow.org"), "Katib: API", "install it", NOTE),
    Case(
        "not installed",
        lambda api: api.drop("ConfigMap", "marquee", NAMESPACE),
        "Marquee: installed",
        "helm install marquee helm/marquee -n films",
        WARNING,
        also=("Prometheus: address",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_missing_is_named(api, look, case):
    case.break_(api)
    verdict = look()
    found = odd(verdict)
    assert set(found) == {case.check, *case.also}
    check = found[case.check]
    assert (check.outcome, check.severity) == (case.outcome, case.severity)
    assert case.remedy in check.remedy
    assert (verdict.outcome is Outcome.PASSED) is (case.severity is not Severity.CRITICAL)


def test_knative_mode_wants_other_metrics_and_no_gateway(api, look):
    knative(api)
    settings(api, "ingress", enableGatewayApi=False)
    assert odd(look()) == {}


def test_trainer_is_not_wanted_where_it_is_not_used(api, look):
    change(api, "ConfigMap", "marquee", {"data.training-runtimes": None})
    no_kinds(api, "trainer.kubeflow.org", "jobset.x-k8s.io")
    revoke(api, "Role", "marquee-steps", "trainjobs", "create")
    assert odd(look()) == {}


def test_sidecars_work_as_the_chart_is_installed(api, look):
    labels = {"istio.io/rev": "stable", "pod-security.kubernetes.io/enforce": "restricted"}
    change(api, "Namespace", NAMESPACE, {"metadata.labels": labels}, "")
    assert odd(look()) == {}


def test_what_the_pod_says_the_initializer_need_not(api, look):
    """KServe's own Helm chart names no seccompProfile. Knative takes none of a pod."""
    changes = {"spec.container.securityContext.seccompProfile": None}
    change(api, "ClusterStorageContainer", "default", changes, "")
    assert odd(look()) == {}
    knative(api)
    assert list(odd(look())) == ["KServe: storage initializer"]


def test_where_nothing_is_enforced_the_initializer_may_be_as_it_is(api, look):
    change(api, "Namespace", NAMESPACE, {"metadata.labels": {}}, "")
    changes = {"spec.container.securityContext": None}
    change(api, "ClusterStorageContainer", "default", changes, "")
    assert odd(look())["KServe: storage initializer"].severity is NOTE


def test_an_old_kubernetes_is_a_warning(api, look, monkeypatch):
    monkeypatch.setattr("kubernetes_api.VERSION", "1.31.4")
    found = odd(look())
    assert list(found) == ["Kubernetes: version"]
    assert found["Kubernetes: version"].severity is WARNING


def test_a_steps_account_sees_what_it_may_and_passes(api, look, monkeypatch):
    # It may not read the ConfigMap: `helm test` gives its pod what that says.
    pod = api.get("Pod", "marquee-test-preflight", NAMESPACE)
    assert pod["spec"]["serviceAccountName"] == STEPS.rpartition(":")[2]
    for variable in pod["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    verdict = look(user=STEPS)
    assert verdict.outcome is Outcome.PASSED
    found = odd(verdict)
    assert {check.severity for check in found.values()} == {NOTE}
    assert "KServe: annotations of rollouts" not in found
    unseen = ("KServe: controller", "GPUs: nodes", "Storage: default class", "Secrets")
    assert set(unseen) <= set(found)
    assert "may not list nodes" in found["GPUs: nodes"].measured
    # Its own permissions it may ask about, others' not.
    revoke(api, "Role", "marquee-steps", "trainjobs", "create")
    check = odd(look(user=STEPS))["Permissions: pipeline-runner: trainjobs.trainer.kubeflow.org"]
    assert (check.severity, check.measured) == (Severity.CRITICAL, "may not create")


def test_other_accounts_of_steps_are_named(look):
    found = odd(look(accounts=["default-editor"]))
    assert {check.severity for check in found.values()} == {Severity.CRITICAL}
    assert all(name.startswith("Permissions: default-editor: ") for name in found)


def test_a_binding_names_accounts_of_other_namespaces_and_people(api, look):
    accounts = [(NAMESPACE, "default-editor"), ("team-b", "default-editor")]
    subjects = [{"kind": "ServiceAccount", "namespace": n, "name": name} for n, name in accounts]
    group = "rbac.authorization.k8s.io"
    people = [
        {"kind": kind, "apiGroup": group, "name": "film-people"} for kind in ("User", "Group")
    ]
    change(api, "RoleBinding", "marquee-steps", {"subjects": [*subjects, *people]})
    looked = [c.name.split(": ", 2)[1:] for c in look().checks if c.name.startswith("Permissions")]
    names = [name for name, kind in looked if kind == "trainjobs.trainer.kubeflow.org"]
    # Besides, who asks.
    assert names[1:] == ["default-editor", "team-b:default-editor"]
    assert not {"film-people"} & {name for name, _ in looked}


def test_only_what_lies_on_the_volume_wants_it_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.storage.VOLUME", str(tmp_path / "volume"))
    written, _ = module.storage.place(None, str(tmp_path / "volume2/models"))
    assert written.measured == "written, read, removed"
    for place in ("volume", "volume/models"):
        (check,) = module.storage.place(None, str(tmp_path / place))
        assert check.measured == "not tried: the volume is not mounted here"


def test_a_bucket_is_tried_with_two_writers(api, look, bucket):
    change(api, "ConfigMap", "marquee", {"data.models": f"{bucket}/models"})
    found = odd(look())
    # The emulator takes conditions, and the accounts have no identity for it.
    assert list(found) == ["Accounts: identity for gs://"]
    missing = {"data.models": "gs://no-such-bucket/models"}
    change(api, "ConfigMap", "marquee", missing)
    assert odd(look())["Storage: gs://no-such-bucket/models"].severity is Severity.CRITICAL


def test_a_look_that_never_ends_hides_no_other(api, look, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 3.0)
    monkeypatch.setattr(module.storage, "place", lambda *_: iter(lambda: module.time.sleep(9), 1))
    found = odd(look(run_uris=["gs://films/runs"]))
    assert "no answer within 3 s" in found["Storage: gs://films/runs"].measured


def test_a_look_that_ends_as_it_is_given_up_keeps_its_last_check(monkeypatch):
    asked = threading.Event()

    class Late(threading.Thread):
        def is_alive(self):
            asked.set()
            threading.Thread.join(self)
            return super().is_alive()

        def join(self, timeout=None):
            """Waits in vain."""

    def look(_):
        asked.wait(30)
        yield judged("Late", True, measured="there", bound="there", remedy="")

    monkeypatch.setattr(module, "threading", SimpleNamespace(Thread=Late))
    assert [check.name for check in module._see_all([("Look", look)], None)] == ["Late"]


def test_a_look_that_is_at_fault_hides_no_other(look, monkeypatch):
    def fault(_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(module, "_LAST", [("Fault", fault), *module._LAST])
    found = odd(look())
    assert (list(found), found["Fault"].measured) == (["Fault"], "ZeroDivisionError: oh")


def test_no_cluster_is_an_error(api, look):
    api.fail = 100
    with pytest.raises(InfrastructureError, match="answered 500"):
        look()


# The command line.


@pytest.fixture
def environment(api, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig(tmp_path))


def test_the_command_prints_lines_and_exits_with_5(api, environment):
    api.drop("Deployment", "kserve-controller-manager", "kserve")
    api.put(secret("marquee-webhook", {"url": "aHR0cHM6Ly9ob29rcy5leGFtcGxlL3NlY3JldA=="}))
    command = [sys.executable, "-m", "marquee", "preflight"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5
    lines = done.stdout.splitlines()
    assert any(line.startswith("MISSING KServe: controller") for line in lines)
    assert "ok      Secret: marquee-webhook: there" in lines
    assert "1 of " in done.stderr
    assert "KServe: controller" in done.stderr
    # Never what a secret holds.
    assert "hooks.example" not in done.stdout
    assert "aHR0" not in done.stdout


def test_the_command_prints_the_verdict_as_json(environment):
    verdict = json.loads(marquee("preflight", "--json"))
    assert (verdict["gate"], verdict["outcome"]) == ("preflight", "passed")


def test_a_terminal_has_a_table(api, look, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    api.drop("Secret", "marquee-tokens", NAMESPACE)
    cli._show(look())
    said = capsys.readouterr().out
    assert "MISSING" in said
    assert "kubectl create secret generic marquee-tokens" in said


def test_nobody_says_which_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no cluster to talk to"):
        preflight(Question(namespace=NAMESPACE))


def test_a_cluster_that_is_away(tmp_path, monkeypatch):
    away = {"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}]}
    away |= {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
    away |= {"users": [{"name": "u", "user": {}}], "current-context": "c"}
    path = tmp_path / "away"
    path.write_text(json.dumps(away))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        preflight(Question(namespace=NAMESPACE))


@pytest.mark.cluster
def test_a_real_cluster(monkeypatch):
    monkeypatch.setenv("KUBECONFIG", os.environ["MARQUEE_TEST_KUBECONFIG"])
    command = [sys.executable, "-m", "marquee", "preflight", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    verdict = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["outcome"] == "passed" else 5)
    # Whatever is missing there, every look has seen something, and none was at fault.
    checks = {check["name"]: check for check in verdict["checks"]}
    assert checks["Kubernetes: version"]["measured"].startswith("v")
    assert not any("Error: " in check["measured"] for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["outcome"] != "passed")
