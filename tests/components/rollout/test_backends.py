"""One contract for all places of a rollout: KServe in both modes, and processes of this machine."""

import copy
import os
import threading
import time
from collections import Counter

import pytest
from bundles import tiny_bundle
from command import marquee
from crds import FOLDER, problem_of
from helpers import encode, noise_poster
from kserve_controller import MODE, kserve_config, running_kserve
from real_cluster import real_namespace

from components.rollout.backends import Request, cluster
from components.rollout.backends import inference_service as objects
from components.rollout.backends.cluster import Cluster
from components.rollout.backends.inference_service import Mode
from components.rollout.backends.kserve import KServeBackend
from components.rollout.backends.local import LocalBackend
from components.rollout.evidence import Answers, Side, Traffic
from components.rollout.policy import Policy
from components.rollout.replay import Poster
from components.rollout.state import Model, Phase, State, World
from marquee.client import Client
from marquee.errors import InfrastructureError, UsageError
from marquee.storage import Conflict

STABLE = Model(version="a" * 64, uri="gs://models/versions/" + "a" * 64)
CANARY = Model(version="b" * 64, uri="gs://models/versions/" + "b" * 64)


def service(mode):
    said = {Mode.KNATIVE: "Knative", Mode.STANDARD: "Standard"}[mode]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "posters", "namespace": "films", "annotations": {MODE: said}},
        "spec": {
            "predictor": {
                "minReplicas": 2,
                "maxReplicas": 4,
                "serviceAccountName": "marquee",
                "model": {"modelFormat": {"name": "marquee"}, "storageUri": STABLE.uri},
            }
        },
    }


@pytest.fixture
def api():
    if not FOLDER.exists():
        pytest.skip("needs KServe's CRDs: ../shared/crds")
    with running_kserve() as server:
        yield server


class Counted:
    """What was asked about, and no traffic."""

    uri = "/records"

    def __init__(self):
        self.asked = []

    def traffic(self, target, since, until, *, lenient):
        self.asked.append(target)
        return Traffic(requests=5)

    def answers(self, version, since, until):
        return Answers()


@pytest.fixture(params=[Mode.KNATIVE, Mode.STANDARD])
def kserve(request, api, tmp_path):
    """An InferenceService in one of the modes; its object, its backend, and what it counts."""
    api.put(service(request.param))
    backend = opened(api, tmp_path)
    assert backend.mode is request.param
    return backend


def opened(api, tmp_path):
    """The backend of the InferenceService that is there; `counted` is what it asks for traffic."""
    counted = Counted()
    backend = KServeBackend(
        Cluster("films", api.kubeconfig(tmp_path)),
        "posters",
        lambda _: counted,
        counted,
        lambda uri: uri.rpartition("/")[2],
    )
    backend.counted = counted
    return backend


def settle(backend, world, original, seconds=60.0):
    """Arrange a world until it is served."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        backend.arrange(world, original, backend.read()[1])
        readiness = backend.readiness(world)
        if readiness.ready:
            return
        assert not readiness.hopeless, readiness.reason
        time.sleep(0.05)
    pytest.fail(f"never served: {readiness.reason}")


def arrange(backend, percent):
    """Begin to give the canary a share."""
    world = World(stable=STABLE, canary=CANARY, percent=percent)
    backend.arrange(world, backend.snapshot(), backend.read()[1])


def a_state(stable=STABLE, canary=CANARY):
    return State(
        rollout="r",
        phase=Phase.DARK,
        stable=stable,
        canary=canary,
        policy=Policy(),
        started=1.0,
        since=1.0,
        looked=1.0,
    )


def contract(backend, stable, canary):
    """What every place has to do."""
    original = backend.snapshot()
    before = backend.stable()
    assert before == stable
    # The state is kept, and nobody overwrites another's.
    nothing, token = backend.read()
    assert nothing is None
    state = a_state(stable, canary)
    newer = backend.write(state, token)
    found, again = backend.read()
    assert (found.to_json(), again) == (state.to_json(), newer)
    with pytest.raises(Conflict):
        backend.write(state.note(2.0, "too late"), token)
    # So is a request.
    assert backend.request() is None
    asked = Request(id="1", what="pause", who="me", reason="lunch")
    backend.post(asked)
    assert backend.request() == asked
    # The traffic is shared as told, again and again, and then as it was.
    for percent in (0, 5, 5, 50, 100, 25):
        settle(backend, World(stable=stable, canary=canary, percent=percent), original)
        assert backend.stable() is not None
    settle(backend, World(stable=stable), original)
    assert backend.stable() == before
    assert backend.snapshot() == original
    # Or the canary stays.
    settle(backend, World(stable=stable, canary=canary, percent=100), original)
    settle(backend, World(stable=canary), original)
    assert backend.stable() == canary
    assert backend.read()[0].to_json() == state.to_json()
    # Who has lost the lead arranges nothing any more.
    with pytest.raises(Conflict):
        backend.arrange(World(stable=stable), original, token)
    assert backend.stable() == canary


def test_kserve_keeps_the_contract(kserve, api):
    contract(kserve, STABLE, CANARY)
    # A plain client's unknown fields are dropped without a word.
    writes = [path for method, path in api.requests if method in ("POST", "PUT", "PATCH")]
    assert writes and all("fieldValidation=Strict" in path for path in writes)


@pytest.mark.cluster
@pytest.mark.parametrize("mode", Mode)
def test_a_real_api_server_takes_every_step(mode):
    with real_namespace() as namespace:
        cluster = Cluster(namespace, os.environ["MARQUEE_TEST_KUBECONFIG"])
        document = service(mode)
        document["metadata"]["namespace"] = namespace
        cluster.create(document)
        counted = Counted()
        backend = KServeBackend(
            cluster,
            "posters",
            lambda _: counted,
            counted,
            lambda uri: uri.rpartition("/")[2],
            kserve_namespace=namespace,
        )
        contract(backend, STABLE, CANARY)


@pytest.mark.slow
def test_processes_keep_the_contract(tmp_path):
    one, two = (tiny_bundle(tmp_path / name, seed=n) for n, name in enumerate(("one", "two")))
    stable, canary = (Model(version=b.version, uri=str(b.folder)) for b in (one, two))
    backend = LocalBackend(tmp_path / "deployment")
    try:
        settle(backend, World(stable=stable), {})
        contract(backend, stable, canary)
    finally:
        backend.stop()


@pytest.mark.slow
def test_both_processes_can_be_asked_and_what_users_send_is_counted(tmp_path):
    one, two = (tiny_bundle(tmp_path / name, seed=n) for n, name in enumerate(("one", "two")))
    stable, canary = (Model(version=b.version, uri=str(b.folder)) for b in (one, two))
    backend = LocalBackend(tmp_path / "deployment")
    poster = Poster(poster_id="p", data=encode(noise_poster(1, 92, 138)), genres=None)
    try:
        settle(backend, World(stable=stable), {})
        settle(backend, World(stable=stable, canary=canary, percent=50), {})
        said = [backend.ask(canary=side)(poster) for side in (False, True)]
        assert said[0].keys() == said[1].keys() == set(one.info.genres)
        assert said[0] != said[1]
        begun = time.time() - 1
        answers = [Client(backend.url).ask([poster.data])[0] for _ in range(20)]
        shares = Counter(answer["model_version"] for answer in answers)
        time.sleep(1.5)
        seen = backend.sighting(begun, time.time())
    finally:
        backend.stop()
    # What was asked of a model itself is no user's.
    for side, version in ((seen.stable, one.version), (seen.canary, two.version)):
        assert (side.traffic.requests, side.traffic.errors) == (shares[version], 0)
        assert side.traffic.latencies.total == shares[version] > 0


def test_a_rehearsal_is_checked_and_changes_nothing(kserve, api):
    before = last(api)
    kserve.rehearse(World(stable=STABLE, canary=CANARY, percent=5), kserve.snapshot())
    assert last(api) == before
    bad = Model(version="c" * 64, uri="ftp://models/c")
    with pytest.raises(UsageError, match="its storageUri is"):
        kserve.rehearse(World(stable=STABLE, canary=bad, percent=5), kserve.snapshot())


def last(api):
    """The object as the server holds it."""
    return api.objects[("serving.kserve.io", "inferenceservices")][("films", "posters")]


def test_a_dark_launch_has_a_replica_and_an_address_of_its_own(kserve, api):
    original = kserve.snapshot()
    settle(kserve, World(stable=STABLE, canary=CANARY, percent=0), original)
    spec, mode = last(api)["spec"], kserve.mode
    if mode is Mode.KNATIVE:
        assert spec["predictor"]["canaryTrafficPercent"] == 0
        assert last(api)["metadata"]["annotations"][objects.TAG_ROUTING] == "true"
        for inside, place in ((False, "example.com"), (True, "films.svc.cluster.local")):
            for canary, tag in ((True, "latest"), (False, "prev")):
                url = objects.address(last(api), mode, canary=canary, inside=inside)
                assert url.startswith(f"http://{tag}-posters")
                assert url.endswith(place)
    else:
        (canary,) = spec["canary"]
        assert canary["trafficPercent"] == 0
        assert canary["predictor"]["minReplicas"] == 1
        assert "maxReplicas" not in canary["predictor"]
        assert spec["predictor"]["model"]["storageUri"] == STABLE.uri
        where = "http://posters-vbbbbbbbb-predictor.films.svc.cluster.local"
        assert canary["predictor"]["model"]["name"] == "kserve-container"
        assert objects.address(last(api), mode, canary=True, inside=True) == where


def test_in_knative_mode_a_roll_back_moves_the_traffic_first(api, tmp_path):
    api.put(service(Mode.KNATIVE))
    backend = opened(api, tmp_path)
    original = backend.snapshot()
    # At 100 % KServe would forget the stable revision.
    settle(backend, World(stable=STABLE, canary=CANARY, percent=100), original)
    assert last(api)["spec"]["predictor"]["canaryTrafficPercent"] == 99
    writes = []
    api.controllers.append(lambda document: writes.append(copy.deepcopy(document)))
    settle(backend, World(stable=STABLE), original)
    seen = [
        (
            w["spec"]["predictor"]["model"]["storageUri"][-1],
            w["spec"]["predictor"].get("canaryTrafficPercent"),
        )
        for w in writes
    ]
    assert seen == [("b", 0), ("a", 0), ("a", None)]
    assert last(api)["spec"] == service(Mode.KNATIVE)["spec"]
    assert objects.TAG_ROUTING not in last(api)["metadata"]["annotations"]


def test_in_knative_mode_the_canary_never_gets_all_traffic_on_the_way_back(api, tmp_path):
    """The stable bundle's new revision takes a while, and KServe takes the canary's for ready."""
    api.put(service(Mode.KNATIVE))
    backend = opened(api, tmp_path)
    original = backend.snapshot()
    settle(backend, World(stable=STABLE, canary=CANARY, percent=50), original)
    bad = objects.target(last(api), Mode.KNATIVE, canary=True)
    for _ in range(2):  # to 0 %, and to the stable bundle
        backend.arrange(World(stable=STABLE), original, backend.read()[1])
    status = last(api)["status"]["components"]["predictor"]
    status["latestReadyRevision"] = status["latestCreatedRevision"] = bad  # not seen yet
    backend.arrange(World(stable=STABLE), original, backend.read()[1])
    assert last(api)["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert not backend.readiness(World(stable=STABLE)).ready


def test_what_an_operator_changes_meanwhile_stays(kserve, api):
    original = kserve.snapshot()
    settle(kserve, World(stable=STABLE, canary=CANARY, percent=25), original)
    document = copy.deepcopy(last(api))
    document["spec"]["predictor"]["minReplicas"] = 4
    document["spec"]["predictor"]["containerConcurrency"] = 3
    api.put(document)
    settle(kserve, World(stable=STABLE), original)
    predictor = last(api)["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["containerConcurrency"]) == (4, 3)
    assert predictor["model"]["storageUri"] == STABLE.uri


@pytest.mark.parametrize(
    "canary", [{"canaryTrafficPercent": 10}, {}], ids=["in its predictor", "in its list"]
)
def test_a_service_with_a_canary_is_left_alone(kserve, api, canary):
    document = last(api)
    document["spec"]["predictor"] |= canary
    if not canary:
        document["spec"]["canary"] = [{"trafficPercent": 5, "predictor": {}}]
    with pytest.raises(UsageError, match="has a canary already"):
        kserve.snapshot()


def test_our_annotations_must_not_restart_pods(kserve, api):
    api.put(kserve_config(["marquee.dev/rollout"]))
    with pytest.raises(UsageError, match="-request to pods, which restarts") as it:
        kserve.snapshot()
    assert "serviceAnnotationDisallowedList" in it.value.remedy
    before = last(api)["status"]
    kserve.post(Request(id="1", what="pause", who="me"))
    assert last(api)["status"] == before


def test_in_standard_mode_a_promoted_canary_keeps_its_name(api, tmp_path):
    api.put(service(Mode.STANDARD))
    backend = opened(api, tmp_path)
    original = backend.snapshot()
    settle(backend, World(stable=STABLE, canary=CANARY, percent=100), original)
    settle(backend, World(stable=CANARY), original)
    predictor = last(api)["spec"]["predictor"]
    assert predictor["name"] == "vbbbbbbbb"
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 4)
    assert not last(api)["spec"].get("canary")


def test_what_is_counted_is_each_models_own(kserve):
    kserve.write(a_state(), kserve.read()[1])
    settle(kserve, World(stable=STABLE, canary=CANARY, percent=25), kserve.snapshot())
    seen = kserve.sighting(0.0, 10.0)
    assert isinstance(seen.canary, Side)
    stable, canary = kserve.counted.asked
    assert stable and canary and stable != canary


def test_conflicts_are_retried(kserve, api):
    api.conflicts = 3
    settle(kserve, World(stable=STABLE, canary=CANARY, percent=5), kserve.snapshot())
    assert api.conflicts == 0


def test_others_who_are_always_faster_are_told(kserve, api, monkeypatch):
    monkeypatch.setattr(cluster, "_TRIES", 3)
    api.conflicts = 1_000
    with pytest.raises(Conflict, match="too many writers"):
        arrange(kserve, 5)


@pytest.mark.parametrize("verb", ["get", "update"])
def test_a_missing_right_is_named(kserve, api, verb):
    original, token = kserve.snapshot(), kserve.read()[1]
    api.refuse = {(verb, "inferenceservices")}
    with pytest.raises(UsageError, match=f"may not {verb}") as caught:
        kserve.arrange(World(stable=STABLE, canary=CANARY, percent=5), original, token)
    assert f"the verb '{verb}' on inferenceservices.serving.kserve.io" in caught.value.remedy


def test_an_api_server_that_is_away_is_named(kserve, api):
    api.fail = 1
    with pytest.raises(InfrastructureError, match="answered 500"):
        kserve.read()


def test_a_watch_goes_on_after_what_the_server_has_forgotten(kserve, api, tmp_path):
    cluster = Cluster("films", api.kubeconfig(tmp_path))
    changes = cluster.changes("posters", 5.0)
    first = next(changes)
    api.put(last(api))
    api.forget()
    again = next(changes)
    assert int(again["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


def test_a_wait_ends_when_somebody_asks_for_something(kserve):
    def ask():
        time.sleep(0.3)
        kserve.post(Request(id="7", what="abort", who="me"))

    asking = threading.Thread(target=ask)
    asking.start()
    start = time.monotonic()
    kserve.wait(20.0)
    asking.join()
    assert time.monotonic() - start < 5


WRONG = {
    "no mode": ({"metadata": {"annotations": {}}}, "does not say how it is deployed"),
    "an unknown one": ({"metadata": {"annotations": {MODE: "Magic"}}}, "'Magic'"),
    "a default": (
        {"metadata": {"annotations": {}}, "status": {"deploymentMode": "Standard"}},
        "by the cluster's default",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mode_is_never_guessed(name):
    changes, message = WRONG[name]
    document = service(Mode.STANDARD)
    document["metadata"]["annotations"] = changes["metadata"]["annotations"]
    document["status"] = changes.get("status", {})
    with pytest.raises(UsageError, match=message):
        objects.mode_of(document)


def canary(name="c", percent=10, **changes):
    predictor = {"name": name, "model": {"storageUri": CANARY.uri}, **changes}
    return {"trafficPercent": percent, "predictor": predictor}


ACCEPTED_THOUGH_WRONG = {
    "more than all traffic": {
        "mode": Mode.KNATIVE,
        "predictor": {"canaryTrafficPercent": 150},
    },
    "fewer at most than at least": {"predictor": {"minReplicas": 5, "maxReplicas": 4}},
    "two frameworks": {"predictor": {"sklearn": {"storageUri": STABLE.uri}}},
    "canaries for more than all": {"canary": [canary("c", 60), canary("d", 60)]},
    "canaries of one name": {"canary": [canary("c"), canary("c")]},
    "a canary with more replicas": {"canary": [canary("c", minReplicas=3)]},
    "an unknown scheme": {"predictor": {"model": {"storageUri": "ftp://models/a"}}},
    "a share that this mode ignores": {"predictor": {"canaryTrafficPercent": 5}},
    "a canary that this mode ignores": {"mode": Mode.KNATIVE, "canary": [canary("c", 5)]},
}


@pytest.mark.parametrize("name", ACCEPTED_THOUGH_WRONG)
def test_what_the_api_server_would_take_is_refused(name):
    changes = ACCEPTED_THOUGH_WRONG[name]
    document = service(changes.get("mode", Mode.STANDARD))
    document["spec"]["predictor"] |= changes.get("predictor", {})
    if "canary" in changes:
        document["spec"]["canary"] = changes["canary"]
    with pytest.raises(UsageError, match="the InferenceService posters is wrong"):
        objects.check(document)
    objects.check(service(Mode.STANDARD))


def test_a_name_with_a_dot_is_refused():
    document = service(Mode.KNATIVE)
    document["metadata"]["name"] = "posters.v2"
    with pytest.raises(UsageError, match=r"its name is 'posters\.v2'"):
        objects.check(document)


@pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("percent", [0, 5, 100, None])
def test_every_object_is_valid(mode, percent):
    original = objects.snapshot(service(mode))
    arrange = {Mode.KNATIVE: objects.knative, Mode.STANDARD: objects.standard}[mode]
    world = (
        World(stable=CANARY)
        if percent is None
        else World(stable=STABLE, canary=CANARY, percent=percent)
    )
    assert problem_of(arrange(service(mode), world, original)) == ""


@pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")
def test_the_schema_check_can_fail():
    document = service(Mode.STANDARD)
    document["spec"]["predictor"]["canaryPercent"] = 5
    assert "canaryPercent" in problem_of(document)


def test_a_bundle_that_cannot_be_loaded_is_hopeless(kserve, api):
    api.controllers.clear()
    world = World(stable=STABLE, canary=CANARY, percent=0)
    kserve.arrange(world, kserve.snapshot(), kserve.read()[1])
    document = last(api)
    document["status"] |= {
        "observedGeneration": document["metadata"]["generation"],
        "modelStatus": {
            "transitionStatus": "BlockedByFailedLoad",
            "lastFailureInfo": {"message": "SHA256SUMS does not match"},
        },
    }
    readiness = kserve.readiness(world)
    assert (readiness.hopeless, readiness.reason) == (True, "SHA256SUMS does not match")


def test_who_does_not_lead_needs_no_prometheus(api, kserve, tmp_path, monkeypatch):
    """An abort is asked for from anywhere; only who leads looks at traffic."""
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig(tmp_path))
    for name in ("MARQUEE_PROMETHEUS", "MARQUEE_RECORDS"):
        monkeypatch.delenv(name, raising=False)
    kserve.write(a_state(), kserve.read()[1])
    assert "abort is asked for" in marquee("rollout", "abort", "posters", "--reason", "complaints")
    request = kserve.request()
    assert (request.what, request.reason) == ("abort", "complaints")
    assert "led by process" in marquee("rollout", "status", "posters")
    bundle = tiny_bundle(tmp_path / "bundle").folder
    said = marquee("rollout", "start", bundle, "--name", "posters", code=2)
    assert "MARQUEE_PROMETHEUS" in said
