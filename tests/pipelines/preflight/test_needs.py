"""The table of what accounts need is what the code asks for, and what the chart's Roles give."""

import inspect
from collections import Counter

import pytest
from chart import NAMESPACE, render
from crds import FOLDER
from kserve_controller import DISALLOWED, kserve, kserve_config
from kubernetes_api import running_kubernetes
from kubernetes_controllers import ready

from components.rollout.backends import Request
from components.rollout.backends.cluster import Cluster
from components.rollout.backends.kserve import KServeBackend
from components.rollout.evidence import Answers, Traffic
from components.rollout.policy import Policy
from components.rollout.state import Model, Phase, State, World
from components.train.job_client import JobClient
from pipelines.preflight.needs import ROLLOUT, TRAINING, Scope, needs

SCHEDULES = [{"name": "daily", "pipeline": "marquee-monitoring", "every": "24h"}]
VALUES = {
    "everything": {"schedules": SCHEDULES, "kserve": {"namespace": "serving"}},
    "no trainings": {"schedules": SCHEDULES, "training": {"enabled": False}},
    "no schedules": {},
}
PLACES = {NAMESPACE: Scope.RELEASE, "serving": Scope.KSERVE, "kserve": Scope.KSERVE}


def given(objects, binding):
    """What the chart lets accounts do, by a binding's name: scope, group, resource, verb, name."""
    roles = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Role"}
    for each in objects:
        if each["kind"] != "RoleBinding" or each["metadata"]["name"] != binding:
            continue
        scope = PLACES[each["metadata"]["namespace"]]
        for rule in roles[each["roleRef"]["name"]]["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield scope, group, resource, verb, name


@pytest.mark.parametrize("case", VALUES)
def test_the_chart_gives_just_what_is_needed(case):
    objects = render(VALUES[case])
    wanted = needs(training=case != "no trainings")
    steps = (
        *given(objects, "marquee-steps"),
        *given(objects, f"marquee-{NAMESPACE}-kserve-config"),
    )
    found = {
        "marquee-steps": set(steps),
        "marquee-pipelines": set(given(objects, "marquee-pipelines")),
        "marquee-schedules": set(given(objects, "marquee-schedules")),
    }
    assert found == {
        binding: {
            (need.scope, need.group, need.resource, verb, name)
            for need in each
            for verb in need.verbs
            for name in need.names or ("",)
            if binding != "marquee-schedules" or case != "no schedules"
        }
        for binding, each in wanted.items()
    }


def test_the_chart_gives_nothing_in_the_whole_cluster():
    kinds = Counter(each["kind"] for each in render(VALUES["everything"]))
    assert not {"ClusterRole", "ClusterRoleBinding"} & set(kinds)


# What the code asks for. Each test calls every public method of what speaks to the API server.

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:pipeline-runner"
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "step", "uid": "1"}
JOB = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainJob",
    "metadata": {"name": "train", "namespace": NAMESPACE},
    "spec": {"runtimeRef": {"name": "marquee-cpu"}},
}


class Evidence:
    """No traffic, and no answers."""

    uri = "/records"

    def traffic(self, target, since, until, *, lenient):
        return Traffic()

    def answers(self, version, since, until):
        return Answers()


@pytest.fixture
def api():
    if not FOLDER.exists():
        pytest.skip("needs ../shared/crds")
    with running_kubernetes(
        namespaces=(NAMESPACE, "kserve"), crds=("kserve", "trainer"), controllers=[ready, kserve]
    ) as server:
        for each in render({"inferenceService": {"storageUri": "gs://films/registry/versions/a"}}):
            if each["kind"] in ("Role", "RoleBinding", "InferenceService"):
                server.put(each)
        server.put(kserve_config(DISALLOWED))
        yield server


def public(kind):
    found = inspect.getmembers(
        kind, lambda member: callable(member) or isinstance(member, property)
    )
    return {name for name, _ in found if not name.startswith("_")}


def asked(api):
    return {(group, plural, verb) for user, verb, group, plural in api.asked if user == ACCOUNT}


def told(table):
    return {(need.group, need.resource, verb) for need in table for verb in need.verbs}


def test_a_training_asks_for_what_the_table_says_and_may_do_it(api, tmp_path):
    client = JobClient(NAMESPACE, api.kubeconfig(tmp_path, user=ACCOUNT))
    calls = {
        "create": lambda: client.create(JOB),
        "get": lambda: client.get("train"),
        "own": lambda: client.own("train", OWNER),
        "pods": lambda: client.pods("train"),
        "log": lambda: client.log("pod"),
        "warnings": lambda: client.warnings("train"),
        "delete": lambda: client.delete("train"),
    }
    assert set(calls) == public(JobClient)
    for call in calls.values():
        call()
    assert asked(api) == told(TRAINING)


def test_a_rollout_asks_for_what_the_table_says_and_may_do_it(api, tmp_path):
    cluster = Cluster(NAMESPACE, api.kubeconfig(tmp_path, user=ACCOUNT))
    backend = KServeBackend(
        cluster, "poster-genre", lambda _: Evidence(), Evidence(), lambda uri: uri
    )
    world = World(stable=backend.stable())
    state = State(
        rollout="r",
        phase=Phase.DARK,
        stable=world.stable,
        canary=Model(version="b", uri="gs://films/registry/versions/b"),
        policy=Policy(),
        started=1.0,
        since=1.0,
        looked=1.0,
    )
    original, token = backend.snapshot(), backend.read()[1]
    calls = {
        "url": lambda: backend.url,
        "records": lambda: backend.records,
        "stable": backend.stable,
        "snapshot": backend.snapshot,
        "read": backend.read,
        "write": lambda: backend.write(state, token),
        "request": backend.request,
        "post": lambda: backend.post(Request(id="1", what="pause", who="me", reason="")),
        "arrange": lambda: backend.arrange(world, original, backend.read()[1]),
        "rehearse": lambda: backend.rehearse(world, original),
        "readiness": lambda: backend.readiness(world),
        "sighting": lambda: backend.sighting(0.0, 1.0),
        "ask": lambda: backend.ask(canary=False),
        "wait": lambda: backend.wait(0.3),
    }
    assert set(calls) == public(KServeBackend)
    for call in calls.values():
        call()
    assert asked(api) == told(ROLLOUT)
