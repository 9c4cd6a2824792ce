"""A release beside its rollouts: what a rollout did to the InferenceService, nothing takes back.

helm and kubectl are the real ones, the rollout's hands are `KServeBackend`; the cluster is a server
of ours in which a KServe of ours follows.
"""

import copy
import os
import re
import shlex
import subprocess

import pytest
from chart import CHART
from chart_cases import BUNDLE, PLACES
from crds import FOLDER
from helpers import ROOT, require_tool
from kserve_controller import DISALLOWED, kserve, kserve_config
from kubernetes_api import running_kubernetes
from kubernetes_controllers import ready

from components.rollout.backends.cluster import Cluster
from components.rollout.backends.kserve import KServeBackend
from components.rollout.policy import Policy
from components.rollout.state import Model, Phase, State, World

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")

NAME = "poster-genre"
MODES = ("Standard", "Knative")
SECOND = Model(version="b" * 64, uri="gs://films/registry/versions/" + "b" * 64)
KINDS = ("kserve", "trainer", "prometheus-operator", "keda", "istio", "gateway-api", "jobset")


@pytest.fixture
def api():
    namespaces = ("default", "films", "kserve")
    with running_kubernetes(
        namespaces=namespaces, crds=KINDS, controllers=[ready, kserve]
    ) as server:
        server.put(kserve_config(DISALLOWED))
        yield server


@pytest.fixture
def tool(api, tmp_path):
    """Run helm or kubectl against the server; give what it says."""
    environment = {"KUBECONFIG": api.kubeconfig(tmp_path), "HOME": str(tmp_path)}
    environment |= {"HELM_QPS": "500", "HELM_BURST_LIMIT": "500"}

    def run(name, *words, code=0):
        done = subprocess.run(
            [require_tool(name, folder="helm"), *map(str, words)],
            capture_output=True,
            text=True,
            env=os.environ | environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    return run


class Rollout:
    """What a rollout does to an InferenceService, without judging anything."""

    def __init__(self, api, folder):
        self.api = api
        none = object()
        self.backend = KServeBackend(
            Cluster("films", api.kubeconfig(folder)),
            NAME,
            lambda _: none,
            none,
            lambda uri: uri.rpartition("/")[2],
        )
        self.first = self.backend.stable()
        self.original = self.backend.snapshot()

    def arrange(self, world, phase):
        _, token = self.backend.read()
        state = State(
            rollout="r",
            phase=phase,
            stable=self.first,
            canary=SECOND,
            policy=Policy(),
            started=1.0,
            since=1.0,
            looked=1.0,
        )
        self.backend.write(state, token)
        for _ in range(10):  # one step follows another, as KServe follows
            self.backend.arrange(world, self.original, self.backend.read()[1])
        assert self.backend.readiness(world).ready

    def canary(self, percent):
        self.arrange(World(stable=self.first, canary=SECOND, percent=percent), Phase.STEP)

    def promote(self):
        self.arrange(World(stable=self.first, canary=SECOND, percent=100), Phase.STEP)
        self.arrange(World(stable=SECOND), Phase.PROMOTED)


def service(api):
    """What rollouts own of the InferenceService."""
    found = api.get("InferenceService", NAME, "films")
    return found["spec"], found["metadata"]["annotations"], found["metadata"]["uid"]


def runtime_image(api):
    found = api.get("ServingRuntime", "marquee", "films")
    return found["spec"]["containers"][0]["image"]


def values(mode, **changes):
    words = {
        **{f"storage.{name}": uri for name, uri in PLACES.items()},
        "inferenceService.storageUri": BUNDLE,
        "kserve.mode": mode,
        "prometheus.operator": "true",
        **changes,
    }
    return [word for name, value in words.items() for word in ("--set", f"{name}={value}")]


def everything(api):
    """Name all of ours that is there."""
    found = [
        f"{resource.kind}/{document['metadata']['name']}"
        for resource in set(api.resources.values())
        for document in api.all(f"{resource.kind}.{resource.group}")
        if document["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "marquee"
    ]
    return sorted(set(found))


@pytest.mark.parametrize("mode", MODES)
def test_helm_never_takes_back_what_a_rollout_did(mode, api, tool, tmp_path):
    waiting = ("--wait", "--timeout", "60s")
    tool("helm", "install", "marquee", CHART, "-n", "films", *values(mode), *waiting)
    rollout = Rollout(api, tmp_path)
    assert rollout.first.uri == BUNDLE
    newer = values(mode, **{"images.tag": "0.2.0", "inferenceService.maxReplicas": 9})
    newer += ["--set", "inferenceService.storageUri=gs://films/models/another"]
    for step in (lambda: rollout.canary(25), rollout.promote):
        step()
        before = service(api)
        tool("helm", "upgrade", "marquee", CHART, "-n", "films", *newer)
        assert runtime_image(api).endswith(":0.2.0")
        assert service(api) == before
        tool("helm", "rollback", "marquee", "1", "-n", "films")
        assert not runtime_image(api).endswith(":0.2.0")
        assert service(api) == before
    assert rollout.backend.stable() == SECOND
    assert rollout.backend.read()[0].phase is Phase.PROMOTED

    tool("helm", "uninstall", "marquee", "-n", "films")
    assert everything(api) == [f"InferenceService/{NAME}"]
    assert service(api) == before
    selector = "app.kubernetes.io/name=marquee,app.kubernetes.io/instance=marquee"
    tool("kubectl", "delete", "inferenceservice", "-n", "films", "-l", selector)
    assert everything(api) == []


def documented(heading):
    """Give the commands of the first block below a heading of docs/install.md."""
    page = (ROOT / "docs/install.md").read_text()
    block = re.search(rf"^## {heading}\n.*?```sh\n(.*?)```", page, re.M | re.S)
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def test_what_is_documented_uninstalls_all_of_it(api, tool):
    volume = values("Standard", **{"storage.pvc.enabled": "true"})
    tool("helm", "install", "marquee", CHART, "-n", "films", *volume)
    assert {"PersistentVolumeClaim/marquee-storage", f"InferenceService/{NAME}"} <= set(
        everything(api)
    )
    for command in documented("Uninstall"):
        if "pvc" in str(command):
            # A volume that a pod has mounted would not go: kubectl would wait for ever.
            assert api.all("Deployment") == []
        tool(*command)
    assert everything(api) == []


def test_what_helm_says_next_is_for_where_it_is_said(api, tool):
    """Nobody outside the cluster reaches its Services by their names."""
    for choice in ({}, {"inferenceService.storageUri": ""}, {"pipelines.upload": "false"}):
        said = tool(
            "helm", "upgrade", "--install", "marquee", CHART, "-n", "films",
            *values("Standard", **choice),
        )  # fmt: skip
        assert "marquee pipeline submit" in said
        assert "svc.cluster.local" not in said
        uploads = "MARQUEE_IMAGE_PREFIX=marquee marquee pipeline upload" in said
        assert uploads == ("pipelines.upload" in choice)


def test_a_release_without_hooks_would_own_what_rollouts_own(api, tool):
    plain = values("Standard", helmHooks="false")
    tool("helm", "template", "marquee", CHART, "-n", "films", *plain)
    said = tool("helm", "install", "marquee", CHART, "-n", "films", *plain, code=1)
    assert "helmHooks is false" in said
    tool("helm", "install", "marquee", CHART, "-n", "films", *values("Standard"))
    said = tool("helm", "upgrade", "marquee", CHART, "-n", "films", *plain, code=1)
    assert "helmHooks is false" in said


def test_the_first_bundle_may_come_with_an_upgrade(api, tool):
    first = values("Standard", **{"inferenceService.storageUri": ""})
    tool("helm", "install", "marquee", CHART, "-n", "films", *first)
    assert api.get("InferenceService", NAME, "films") is None
    tool("helm", "upgrade", "marquee", CHART, "-n", "films", *values("Standard"))
    assert service(api)[0]["predictor"]["model"]["storageUri"] == BUNDLE


@pytest.mark.parametrize(
    ("mode", "how"),
    [("Standard", []), ("Knative", ["--server-side"])],
    ids=["client-side", "server-side"],
)
def test_a_second_apply_as_documented_takes_nothing_back(mode, how, api, tool, tmp_path):
    overlay = ROOT / "manifests/overlays" / mode.lower()
    tool("kubectl", "apply", "-k", overlay, *how)
    rollout = Rollout(api, tmp_path)
    rollout.canary(25)
    before = service(api)
    runtime = api.get("ServingRuntime", "marquee", "films")
    touched = copy.deepcopy(runtime)
    touched["spec"]["containers"][0]["image"] = "somebody/else:1"
    api.put(touched)
    again = ("kubectl", "apply", "-k", overlay, *how, "-l", "marquee.dev/bootstrap!=true")
    tool(*again, *(["--force-conflicts"] if how else []))
    assert service(api) == before
    assert runtime_image(api) == runtime["spec"]["containers"][0]["image"]
    rollout.promote()
    before = service(api)
    tool(*again)
    assert service(api) == before


def test_without_the_selector_an_apply_would_take_it_back(api, tool, tmp_path):
    """The trap is real: what the label is for."""
    overlay = ROOT / "manifests/overlays/standard"
    tool("kubectl", "apply", "-k", overlay)
    rollout = Rollout(api, tmp_path)
    rollout.promote()
    before = service(api)
    tool("kubectl", "apply", "-k", overlay)
    assert service(api) != before
    assert rollout.backend.stable() != SECOND
