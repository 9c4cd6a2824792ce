"""Rollouts on this machine, under live traffic: real servers, real splitter, real state machine."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundles import always_first, changed, tiny_bundle
from helpers import require_tool
from users import POSTERS, Users

from components.rollout.backends.local import LocalBackend
from components.rollout.controller import Controller
from components.rollout.policy import Policy
from components.rollout.state import Model, Phase
from components.rollout.validate import validate
from marquee.bundle import MODEL_FILE
from marquee.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAULTY = (sys.executable, str(Path(__file__).parents[1] / "support/faulty_server.py"))
QUICK = Policy(
    steps=[5, 25, 50, 100],
    step_seconds=4,
    interval_seconds=1,
    min_samples=30,
    max_step_minutes=3,
    max_hours=0.2,
    ready_seconds=60,
    replay_passes=2,
)


def model_of(bundle):
    return Model(version=bundle.version, uri=str(bundle.folder))


@pytest.fixture
def stable(tmp_path):
    return tiny_bundle(tmp_path / "stable")


SPLITTERS = ("--haproxy", "--no-haproxy")


@pytest.fixture(params=SPLITTERS)
def place(request, tmp_path, stable):
    if request.param == "--haproxy":
        require_tool("haproxy")
    backend = LocalBackend(tmp_path / "deployment", program=FAULTY, splitter=[request.param])
    assert led(backend, stable).phase is Phase.PROMOTED
    yield backend
    backend.stop()


def controller(backend):
    return Controller(backend, validate=validate, material=lambda _: [])


def led(backend, bundle):
    """Roll a bundle out; give how it ended."""
    leader = controller(backend)
    leader.start(model_of(bundle), QUICK)
    return leader.run()


def test_a_good_bundle_reaches_all_traffic_without_a_failed_request(place, stable, tmp_path):
    good = changed(stable, tmp_path / "good", run="a later one")
    with Users(place.url) as users:
        leader = controller(place)
        leader.start(model_of(good), QUICK)
        state = leader.run()
        time.sleep(1)
    assert state.phase is Phase.PROMOTED, state.reason
    assert users.statuses().keys() == {200}
    assert users.versions().keys() == {stable.version, good.version}
    assert place.stable() == model_of(good)
    assert users.seen[-1][2] == good.version


def shuffled(bundle, folder):
    genres = bundle.info.genres
    return changed(bundle, folder, genres=(*genres[1:], genres[0]))


BAD = {
    "20% errors": (changed, {"FAULT_ERRORS": "0.2"}, "errors"),
    "3x latency": (changed, {"FAULT_SLOWER": "3"}, "latency p50"),
    "always Drama": (always_first, {}, "probabilities"),
    "shuffled labels": (shuffled, {}, "probabilities"),
}


# Both splitters count alike (test_splitter.py): one bad bundle on our own is enough.
@pytest.mark.parametrize(
    ("place", "name"),
    [*(("--haproxy", name) for name in BAD), ("--no-haproxy", "20% errors")],
    indirect=["place"],
)
def test_a_bad_bundle_is_rolled_back_and_nobody_notices(name, place, stable, tmp_path, monkeypatch):
    make, environment, reason = BAD[name]
    bad = make(stable, tmp_path / "bad", **({"run": "bad"} if make is changed else {}))
    monkeypatch.setenv("FAULT_VERSION", bad.version)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with Users(place.url) as users:
        leader = controller(place)
        leader.start(model_of(bad), QUICK)
        state = leader.run()
        back = time.time()
        time.sleep(2)
    assert (state.phase, state.at_fault) == (Phase.ROLLED_BACK, True)
    assert reason in state.reason
    assert {e.percent for e in state.timeline if e.phase == Phase.STEP} == {5}
    assert place.stable() == model_of(stable)
    # The canary's own errors reach some users; the roll back adds none.
    assert users.statuses(back).keys() == {200}
    if name != "20% errors":
        assert users.statuses().keys() == {200}
    assert users.versions()[bad.version] < 0.1 * len(users.seen)


def test_a_corrupt_bundle_is_never_started(place, stable, tmp_path):
    bad = changed(stable, tmp_path / "bad", run="bad")
    (bad.folder / MODEL_FILE).write_bytes(b"corrupt")
    leader = controller(place)
    leader.start(Model(version=bad.version, uri=str(bad.folder)), QUICK)
    state = leader.run()
    assert state.phase is Phase.ROLLED_BACK
    assert "was changed after the bundle was sealed" in state.reason
    assert not any(bad.version in mark for mark, _ in place._running())


LEAD = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_rollout import *
from components.rollout.backends.local import LocalBackend
place = LocalBackend(Path({folder!r}), program=FAULTY, splitter=["--no-haproxy"])
leader = controller(place)
leader.start(Model(version={version!r}, uri={uri!r}), QUICK)
leader.run()
"""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bad", [False, True])
def test_killed_at_random_points_it_still_ends(stable, tmp_path, monkeypatch, bad):
    """Ten kills a case, each of a leader that was at work: twenty in all."""
    canary = changed(stable, tmp_path / "canary", run="next")
    monkeypatch.setenv("FAULT_VERSION", canary.version)
    monkeypatch.setenv("FAULT_ERRORS", "0.3" if bad else "0")
    draw, kills, rounds = random.Random(7 + bad), 0, 0
    while kills < 10:
        rounds += 1
        folder = tmp_path / f"deployment{rounds}"
        kills += rolled_out_under_fire(folder, stable, canary, bad, draw, 10 - kills)


def rolled_out_under_fire(folder, stable, canary, bad, draw, most):
    """Roll a canary out in a new place, killing who leads it again and again; give how often."""
    place = LocalBackend(folder, program=FAULTY, splitter=["--no-haproxy"])
    assert led(place, stable).phase is Phase.PROMOTED
    code = LEAD.format(
        paths=[str(Path(__file__).parent), *sys.path],
        folder=str(folder),
        version=canary.version,
        uri=str(canary.folder),
    )
    kills = 0
    try:
        with Users(place.url) as users:
            while not is_ended(place, canary) and kills < most:
                kills += led_until_killed(place, code, draw.uniform(0.0, 4.0), canary)
            if not is_ended(place, canary):
                subprocess.run([sys.executable, "-c", code], timeout=300, check=True)
        state = place.read()[0]
        assert state.phase is (Phase.ROLLED_BACK if bad else Phase.PROMOTED), state.reason
        wanted = model_of(stable if bad else canary)
        assert place.stable() == wanted
        served = {mark.partition(":")[0] for mark, _ in place._running()} - {"splitter"}
        assert served == {wanted.version}
        if not bad:
            assert users.statuses().keys() == {200}
    finally:
        place.stop()
    return kills


def is_ended(place, canary):
    state = place.read()[0]
    return state.canary == model_of(canary) and state.phase.ended


def led_until_killed(place, code, seconds, canary):
    """Start a leader and kill it so long after it began to lead; tell whether it still worked."""
    before = place.read()[0]
    leader = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while leader.poll() is None and place.read()[0].owner.token == before.owner.token:
        time.sleep(0.02)
    try:
        leader.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(leader.pid, signal.SIGKILL)
        leader.wait()
        return True
    return False


def test_the_client_library_sees_one_endpoint(place):
    (answer,) = Client(place.url).ask([POSTERS[0]])
    assert answer["genres"]
