"""The chart and the overlays on an API server: a real one, and ours where nothing else is at hand.

The real one is that of `MARQUEE_TEST_KUBECONFIG`, in a namespace that is removed afterwards. It
needs no controllers; definitions of kinds that are missing there are made, and stay.
"""

import itertools
import json
import os
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from chart import CHART, OVERLAYS, build, render
from chart_cases import BUNDLE, CASES, PLACES
from crds import FOLDER, Loader, places
from helpers import require_tool
from kubernetes_api import running_kubernetes
from kubernetes_controllers import ready
from objects import name_of, pods_of

from pipelines.preflight.needs import needs

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")

KINDS = ("kserve", "trainer", "prometheus-operator", "keda", "istio", "gateway-api", "jobset")
GROUPS = (
    "serving.kserve.io",
    "trainer.kubeflow.org",
    "jobset.x-k8s.io",
    "monitoring.coreos.com",
    "keda.sh",
    "security.istio.io",
    "networking.istio.io",
    "gateway.networking.k8s.io",
)
ACCOUNTS = {
    "pipeline-runner": "marquee-steps",
    "marquee-monitoring": "marquee-pipelines marquee-schedules",
    "marquee-serving": "",
    "marquee-training": "",
}
"""Each service account, and the bindings that give it something."""
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class Place:
    """A namespace of a cluster."""

    def __init__(self, kubeconfig, namespace, home):
        self.namespace = namespace
        self.environment = {"KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    def run(self, name, *words, code=0, stdin=None):
        """Run helm or kubectl; give what it says, or with `code` what it complains about."""
        done = subprocess.run(
            [require_tool(name, folder="helm"), *map(str, words)],
            capture_output=True,
            text=True,
            env=os.environ | self.environment,
            input=stdin,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def kubectl(self, *words, **options):
        return self.run("kubectl", "-n", self.namespace, *words, **options)

    def helm(self, *words, **options):
        return self.run("helm", "-n", self.namespace, *words, **options)

    @property
    def values(self):
        """The cluster's objects are named after the namespace, so that others' are not touched."""
        words = {
            **{f"storage.{name}": uri for name, uri in PLACES.items()},
            "inferenceService.storageUri": BUNDLE,
            "kserve.namespace": self.namespace,
            "training.runtimePrefix": f"m-{self.namespace}"[:30].rstrip("-"),
            "prometheus.operator": "true",
            "pipelines.upload": "false",
        }
        return [word for name, value in words.items() for word in ("--set", f"{name}={value}")]

    def ours(self):
        """Name everything that a release has left here or in the cluster."""
        kinds = self.kubectl("api-resources", "--verbs=list", "-o", "name").split()
        selected = ("-A", "-l", "app.kubernetes.io/name=marquee", "-o", "json")
        return sorted(
            name_of(each)
            for each in json.loads(self.kubectl("get", ",".join(kinds), *selected))["items"]
            if each["metadata"].get("namespace") == self.namespace
            or self.namespace in each["metadata"]["name"]
        )


@pytest.fixture(scope="module", params=["ours", pytest.param("real", marks=pytest.mark.cluster)])
def place(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    name = f"marquee-test-{uuid.uuid4().hex[:8]}"
    if request.param == "ours":
        with running_kubernetes(crds=KINDS, controllers=[ready]) as server:
            yield from _namespace(Place(server.kubeconfig(home), name, home))
        return
    found = Place(os.environ["MARQUEE_TEST_KUBECONFIG"], name, home)
    _ensure_kinds(found)
    yield from _namespace(found)


def _ensure_kinds(place):
    """Make the definitions that are missing."""
    definitions = "customresourcedefinitions"
    known = place.run("kubectl", "get", definitions, "-o", "name").split()
    for (group, _), text in places().items():
        if group not in GROUPS:
            continue
        definition = yaml.load(text, Loader)
        definition.pop("status", None)
        name = definition["metadata"]["name"]
        if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in known:
            text = json.dumps(definition)
            place.run("kubectl", "apply", "--server-side", "-f", "-", stdin=text)
            place.run("kubectl", "wait", "--for=condition=Established", f"{definitions}/{name}")


def _namespace(place):
    document = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": place.namespace, "labels": RESTRICTED},
    }
    place.run("kubectl", "create", "-f", "-", stdin=json.dumps(document))
    try:
        place.kubectl("create", "serviceaccount", "pipeline-runner")
        place.kubectl("create", "serviceaccount", "nobody")
        yield place
    finally:
        place.run("kubectl", "delete", "namespace", place.namespace)


@pytest.fixture
def release(place):
    """A release that is installed, and gone afterwards."""
    place.helm("install", "marquee", CHART, *place.values)
    yield place
    place.helm("uninstall", "marquee", "--ignore-not-found")
    place.kubectl("delete", "inferenceservice", "--all")


@pytest.mark.slow
def test_a_release_comes_changes_goes_back_and_leaves_nothing(release):
    installed = release.ours()
    assert {"InferenceService/poster-genre", "ServingRuntime/marquee"} <= set(installed)
    changed = ("images.tag=0.2.0", "exporter.port=9109", "serving.resources.limits.cpu=3")
    words = [word for change in changed for word in ("--set", change)]
    release.helm("upgrade", "marquee", CHART, *release.values, *words)
    image = ("get", "servingruntime", "marquee", "-o", "jsonpath={.spec.containers[0].image}")
    assert release.kubectl(*image) == "marquee-serving:0.2.0"
    release.helm("rollback", "marquee", "1")
    assert release.kubectl(*image) != "marquee-serving:0.2.0"
    assert release.ours() == installed
    release.helm("uninstall", "marquee")
    assert release.ours() == ["InferenceService/poster-genre"]
    release.kubectl("delete", "inferenceservice", "-l", "app.kubernetes.io/name=marquee")
    assert release.ours() == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_is_applied_strictly(overlay, place):
    """As a rehearsal: what is the cluster's would be others' too."""
    objects = build(overlay)
    for each in objects:
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = place.namespace
    said = place.kubectl(
        "apply", "-f", "-", "--server-side", "--dry-run=server", "--validate=strict",
        "--force-conflicts", "-o", "name", stdin=yaml.safe_dump_all(objects),
    )  # fmt: skip
    assert len(said.split()) == len(objects)


def test_an_unknown_field_is_refused(place):
    (runtime,) = [each for each in build(OVERLAYS[0]) if each["kind"] == "ServingRuntime"]
    runtime["metadata"]["namespace"] = place.namespace
    runtime["spec"]["contaners"] = []
    words = ("apply", "-f", "-", "--server-side", "--dry-run=server", "--validate=strict")
    assert "contaners" in place.kubectl(*words, code=1, stdin=json.dumps(runtime))


def pods():
    """Give each different pod that the chart's values and the overlays lead to."""
    rendered = [*map(render, CASES.values()), *map(build, OVERLAYS)]
    return {
        json.dumps([pod.owner, pod.spec], sort_keys=True): pod
        for objects in rendered
        for pod in pods_of(objects)
    }.values()


@pytest.mark.cluster
@pytest.mark.parametrize("place", ["real"], indirect=True)
def test_the_profile_restricted_admits_every_pod(release):
    def rehearse(number, spec):
        name = f"admission-{number}"
        spec = {**spec, "serviceAccountName": "nobody"}  # whose account it is does not matter
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        words = ("create", "-f", "-", "--dry-run=server", "-o", "name")
        return release.kubectl(*words, stdin=json.dumps(pod)).strip() == f"pod/{name}"

    found = list(pods())
    with ThreadPoolExecutor(8) as pool:
        numbers = itertools.count()
        assert all(pool.map(lambda pod: rehearse(next(numbers), pod.spec), found))
    privileged = json.loads(json.dumps(found[0].spec))
    privileged["containers"][0]["securityContext"]["privileged"] = True
    privileged["serviceAccountName"] = "nobody"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": privileged}
    words = ("create", "-f", "-", "--dry-run=server")
    assert "PodSecurity" in release.kubectl(*words, code=1, stdin=json.dumps(pod))


@pytest.fixture
def may(place):
    """Ask the API server whether a service account may do something."""
    from kubernetes import client, config

    api = client.AuthorizationV1Api(config.new_client_from_config(place.environment["KUBECONFIG"]))

    def ask(account, verb, group, resource, namespace, name=""):
        resource, _, subresource = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        review = {
            "spec": {
                "user": f"system:serviceaccount:{place.namespace}:{account}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{place.namespace}",
                    "system:authenticated",
                ],
                "resourceAttributes": attributes,
            }
        }
        return api.create_subject_access_review(review).status.allowed

    return ask


@pytest.fixture
def scheduled(place):
    """A release with a schedule: its Job has an account that is allowed something."""
    schedule = ["schedules[0].name=daily", "schedules[0].pipeline=marquee-monitoring"]
    schedule += ["schedules[0].every=24h"]
    words = [word for value in schedule for word in ("--set", value)]
    place.helm("install", "marquee", CHART, *place.values, *words, "--no-hooks")
    yield place
    place.helm("uninstall", "marquee", "--no-hooks")


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_may_do_what_it_needs_and_nothing_else(account, scheduled, may):
    needed = [need for binding in ACCOUNTS[account].split() for need in needs()[binding]]
    for need in needed:  # KServe's namespace is the release's here
        for verb, name in itertools.product(need.verbs, need.names or ("",)):
            where = scheduled.namespace
            assert may(account, verb, need.group, need.resource, where, name), (verb, need)
    expected = {
        (need.group, need.resource, verb)
        for need in needed
        if not need.names
        for verb in need.verbs
        if verb in VERBS
    }
    kinds = scheduled.kubectl("api-resources", "-o", "name").split()
    resources = [(group, plural) for plural, _, group in (kind.partition(".") for kind in kinds)]
    resources += [("", "pods/log"), ("", "pods/exec"), ("", "serviceaccounts/token")]
    resources += [("pipelines.kubeflow.org", n.resource) for n in needed if "pipelines" in n.group]
    asked = list(itertools.product(dict.fromkeys(resources), VERBS))

    def allowed(who):
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda ask: may(who, ask[1], *ask[0], scheduled.namespace), asked)
        return {(*kind, verb) for (kind, verb), yes in zip(asked, answers, strict=True) if yes}

    # What everybody with an account may do is not the chart's.
    assert allowed(account) - allowed("nobody") == expected
