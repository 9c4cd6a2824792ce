"""The API server of our tests, held against the real helm, kubectl and Python client."""

import json
import os
import subprocess
import threading
from datetime import UTC, datetime

import pytest
import requests
from crds import FOLDER
from helpers import require_tool
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes_api import running_kubernetes
from kubernetes_controllers import ready

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "films"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
    },
}
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    "values.yaml": "image: web:1\n",
    "templates/web.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: {{ .Values.image | quote }}}]
""",
    "templates/test.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: web-test, annotations: {helm.sh/hook: test}}
spec:
  restartPolicy: Never
  containers: [{name: test, image: "web:1"}]
""",
}


@pytest.fixture
def api():
    crds = ("kserve",) if FOLDER.exists() else ()
    with running_kubernetes(controllers=[ready], crds=crds) as server:
        yield server


@pytest.fixture
def tool(api, tmp_path):
    """Run helm or kubectl, give what it says; with `code`, what it complains about."""
    environment = {"KUBECONFIG": api.kubeconfig(tmp_path), "HOME": str(tmp_path)}

    def run(name, *words, code=0, stdin=None):
        done = subprocess.run(
            [require_tool(name, folder="helm"), *words],
            capture_output=True,
            text=True,
            env=os.environ | environment,
            input=json.dumps(stdin) if stdin else None,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    return run


@pytest.fixture
def chart(tmp_path):
    for name, text in CHART.items():
        path = tmp_path / "chart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "chart")


def image(api):
    containers = api.get("Deployment", "web", "films")["spec"]["template"]["spec"]["containers"]
    return containers[0]["image"]


def test_helm_installs_upgrades_rolls_back_and_leaves_nothing(api, tool, chart):
    tool("helm", "install", "tiny", chart, "--wait", "--timeout", "20s")
    assert image(api) == "web:1"
    tool("helm", "upgrade", "tiny", chart, "--set", "image=web:2", "--wait", "--timeout", "20s")
    assert image(api) == "web:2"
    tool("helm", "rollback", "tiny", "1", "--wait", "--timeout", "20s")
    assert image(api) == "web:1"
    assert "Succeeded" in tool("helm", "test", "tiny", "--timeout", "20s")
    tool("helm", "uninstall", "tiny")
    assert [d["kind"] for d in api.all("Deployment") + api.all("Secret")] == []


def test_helm_says_which_field_is_unknown(tool, chart, tmp_path):
    path = tmp_path / "chart/templates/web.yaml"
    path.write_text(path.read_text().replace("  selector:", "  sellector: {}\n  selector:"))
    assert "sellector" in tool("helm", "install", "tiny", chart, code=1)


def test_kubectl_applies_gets_and_deletes(api, tool):
    changed = json.loads(json.dumps(DEPLOYMENT))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    for how in ((), ("--server-side", "--force-conflicts")):
        tool("kubectl", "apply", *how, "-f", "-", stdin=DEPLOYMENT)
        assert image(api) == "web:1"
        tool("kubectl", "apply", *how, "-f", "-", stdin=changed)
        assert image(api) == "web:2"
        tool("kubectl", "rollout", "status", "deployment/web", "--timeout=20s")
        assert "web" in tool("kubectl", "get", "deployments")
        tool("kubectl", "delete", "deployment", "web")
        assert api.get("Deployment", "web", "films") is None
    assert "NotFound" in tool("kubectl", "get", "deployment", "web", code=1)


def test_kubectl_runs_a_dry_run_and_is_told_of_unknown_fields(api, tool):
    tool("kubectl", "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=DEPLOYMENT)
    assert api.all("Deployment") == []
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicaz": 2}}
    assert 'unknown field "spec.replicaz"' in tool(
        "kubectl", "apply", "-f", "-", stdin=wrong, code=1
    )


def test_an_apply_takes_only_what_it_gave(api, tool):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "labels": {"a": "1", "b": "1"}},
        "spec": {"ports": [{"name": "one", "port": 1}, {"name": "two", "port": 2}]},
    }

    def applied(manager, **changes):
        words = ("apply", "--server-side", "--field-manager", manager, "-f", "-")
        tool("kubectl", *words, stdin={**service, **changes})
        return api.get("Service", "s", "films")

    applied("chart")
    ours = {"metadata": {"name": "s", "labels": {"c": "1"}}, "spec": {"ports": [{"port": 3}]}}
    assert len(applied("rollout", **ours)["spec"]["ports"]) == 3
    less = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "two", "port": 2}]}}
    after = applied("chart", **less)
    assert after["metadata"]["labels"] == {"c": "1"}
    assert [port["port"] for port in after["spec"]["ports"]] == [2, 3]
    # What another has changed is a conflict, unless it is forced.
    mine = {"spec": {"ports": [{"name": "mine", "port": 2}]}}
    words = ("apply", "--server-side", "--field-manager", "rollout", "-f", "-")
    told = tool("kubectl", *words, stdin={**service, "metadata": {"name": "s"}, **mine}, code=1)
    assert 'conflict with "chart"' in told
    tool("kubectl", *words, "--force-conflicts", stdin={**service, **mine})
    assert api.get("Service", "s", "films")["spec"]["ports"][0]["name"] == "mine"


@pytest.fixture
def python(api, tmp_path):
    return config.new_client_from_config(api.kubeconfig(tmp_path))


def test_the_python_client_sees_versions_and_conflicts(api, python):
    apps = client.AppsV1Api(python)
    first = apps.create_namespaced_deployment("films", DEPLOYMENT)
    assert first.status is None or first.status.ready_replicas == 1
    scaled = apps.patch_namespaced_deployment("web", "films", {"spec": {"replicas": 3}})
    assert (scaled.metadata.generation, scaled.status.ready_replicas) == (2, 3)
    with pytest.raises(ApiException) as refused:
        apps.replace_namespaced_deployment("web", "films", first)
    assert refused.value.status == 409
    merged = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}}}}
    containers = apps.patch_namespaced_deployment(
        "web", "films", merged
    ).spec.template.spec.containers
    assert [container.name for container in containers] == ["web", "side"]
    assert apps.list_namespaced_deployment("films", label_selector="app=x").items == []
    assert (
        len(apps.list_namespaced_deployment("films", field_selector="metadata.name=web").items) == 1
    )


def test_a_watch_sees_what_happens(api, python):
    core = client.CoreV1Api(python)
    since = core.list_namespaced_config_map("films").metadata.resource_version
    seen = []

    def look():
        events = watch.Watch().stream(
            core.list_namespaced_config_map, "films", resource_version=since, timeout_seconds=2
        )
        seen.extend((event["type"], event["object"].metadata.name) for event in events)

    watcher = threading.Thread(target=look)
    watcher.start()
    core.create_namespaced_config_map("films", {"metadata": {"name": "a"}, "data": {"x": "1"}})
    core.patch_namespaced_config_map("a", "films", {"data": {"x": "2"}})
    core.delete_namespaced_config_map("a", "films")
    watcher.join()
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    api.forget()
    with pytest.raises(ApiException) as refused:
        look()
    assert refused.value.status == 410


def test_who_is_owned_goes_with_the_owner(api, python):
    core = client.CoreV1Api(python)
    owner = core.create_namespaced_config_map("films", {"metadata": {"name": "owner"}})
    of = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    core.create_namespaced_secret("films", {"metadata": {"name": "s", "ownerReferences": [of]}})
    core.delete_namespaced_config_map("owner", "films")
    assert api.all("Secret") == []


@pytest.mark.skipif(not FOLDER.exists(), reason="needs the CRDs of ../shared/crds")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"predictor": {"model": {"modelFormat": {"name": "m"}}}}, 201),
        ({"predictor": {"model": {"modelFormat": {"name": "m"}}, "modell": {}}}, 400),
        ({"predictor": {"canaryTrafficPercent": "5"}}, 422),
    ],
)
def test_kinds_of_crds_are_checked(python, change, code):
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "posters"},
        "spec": change,
    }
    place = ("serving.kserve.io", "v1beta1", "films", "inferenceservices")
    objects = client.CustomObjectsApi(python)
    try:
        objects.create_namespaced_custom_object(*place, body, field_validation="Strict")
        answered = 201
    except ApiException as error:
        answered = error.status
    assert answered == code


def test_roles_are_evaluated(api, tool):
    api.put(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "r", "namespace": "films"},
            "rules": [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}],
        }
    )
    api.put(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "r", "namespace": "films"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "steps", "namespace": "films"}],
        }
    )
    who = ("--as", "system:serviceaccount:films:steps")
    may = ("auth", "can-i", "get", "pods", "--subresource=log", *who)
    assert tool("kubectl", *may) == "yes\n"
    tool("kubectl", "auth", "can-i", "delete", "pods", *who, code=1)
    assert "cannot list" in tool("kubectl", "get", "pods", *who, code=1)
    api.refuse.add(("get", "pods/log"))
    tool("kubectl", *may, code=1)


def _put_pod(api, *containers):
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "films"},
            "spec": {"containers": [{"name": name, "image": "i:1"} for name in containers]},
        }
    )


def test_a_log_is_followed_to_its_end(api, python):
    core = client.CoreV1Api(python)
    _put_pod(api, "c")
    api.logs[("films", "p")] = ["one"]
    lines = core.read_namespaced_pod_log("p", "films", follow=True, _preload_content=False).stream()
    assert next(lines) == b"one\n"
    api.logs[("films", "p")].append("two")
    assert next(lines) == b"two\n"
    api.put(api.get("Pod", "p", "films") | {"status": {"phase": "Succeeded"}})
    assert list(lines) == []


LOGS = {
    "all of it": ({}, "one\ntwo\nthree\n"),
    "with times": (
        {"timestamps": True, "tail_lines": 2}, "2020-01-01T00:00:01.5Z two\n{now} three\n",
    ),
    "the last line": ({"tail_lines": 1}, "three\n"),
    "more lines than there are": ({"tail_lines": 9}, "one\ntwo\nthree\n"),
    "the last seconds": ({"since_seconds": 60}, "three\n"),
    "of a container": ({"container": "c", "tail_lines": 1}, "three\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_of_a_log_what_is_asked_for_is_given(name, api, python):
    options, wanted = LOGS[name]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _put_pod(api, "c")
    api.logs[("films", "p")] = [
        *("2020-01-01T00:00:00Z one", "2020-01-01T00:00:01.5Z two"), f"{now} three",
    ]  # fmt: skip
    core = client.CoreV1Api(python)
    found = core.read_namespaced_pod_log("p", "films", _preload_content=False, **options)
    assert found.data.decode() == wanted.format(now=now)


CONTAINERS = {
    "one that is not there": ("x", "container x is not valid for pod p"),
    "none of two": (None, "a container name must be specified for pod p"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_log_is_one_containers(name, api, python):
    container, message = CONTAINERS[name]
    _put_pod(api, "c", "d")
    options = {"container": container} if container else {}
    with pytest.raises(ApiException, match=message) as caught:
        client.CoreV1Api(python).read_namespaced_pod_log("p", "films", **options)
    assert caught.value.status == 400


def _train_job(**changes):
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "t"},
        "spec": {"runtimeRef": {"name": "marquee-cpu"}, **changes},
    }


def _schedule(**status):
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "ScheduledWorkflow",
        "metadata": {"name": "s"},
        "spec": {"anything": {"passes": [1]}},
        **status,
    }


REAL = {
    "a TrainJob": (_train_job(), 201),
    "no such runtime, which only the webhook refuses": (_train_job(suspend=True), 201),
    "a storageUri without a scheme": (
        _train_job(initializer={"model": {"storageUri": "no-scheme"}}),
        422,
    ),
    "numProcPerNode as text": (_train_job(trainer={"numProcPerNode": "auto"}), 422),
    "a field that is gone": (_train_job(podTemplateOverrides=[]), 400),
    "a schedule with its status": (_schedule(status={}), 201),
    "a schedule without": (_schedule(), 422),
}
"""What a real API server answered, as ../shared/crds/README.md has it."""


@pytest.mark.skipif(not FOLDER.exists(), reason="needs the CRDs of ../shared/crds")
@pytest.mark.parametrize("name", REAL)
def test_it_answers_as_a_real_one_did(tmp_path, name):
    document, code = REAL[name]
    with running_kubernetes(crds=("trainer", "kfp")) as api:
        path = f"/apis/{document['apiVersion']}/namespaces/films/{document['kind'].lower()}s"
        answered = requests.post(f"{api.url}{path}?fieldValidation=Strict", json=document)
    assert answered.status_code == code, answered.text


@pytest.mark.skipif(not FOLDER.exists(), reason="needs the CRDs of ../shared/crds")
def test_what_may_not_change_does_not(tmp_path):
    with running_kubernetes(crds=("trainer",)) as api:
        path = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/films/trainjobs"
        made = requests.post(f"{api.url}{path}", json=_train_job()).json()
        made["spec"]["runtimeRef"]["name"] = "marquee-gpu"
        assert requests.put(f"{api.url}{path}/t", json=made).status_code == 422
