"""The state machine: it always ends promoted or rolled back, whatever dies, fails or is asked."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from benchmarks.simulated_rollout import Defect, Recording, SimulatedBackend, golden
from components.rollout import controller as rollout_controller
from components.rollout.backends import Readiness, Request
from components.rollout.controller import Controller
from components.rollout.policy import Policy
from components.rollout.state import Model, Phase
from marquee.errors import DataError, InfrastructureError, Stopped, UsageError
from marquee.registry import Stage
from marquee.storage import Conflict
from marquee.verdict import Check, Outcome, Verdict

GENRES = ("Comedy", "Drama", "Horror", "Western")
CANARY = Model(version="c" * 64, uri="/canary")
POLICY = Policy(step_seconds=60, interval_seconds=15, max_step_minutes=20, max_hours=4)


def recording(seed=0):
    numbers = np.random.default_rng(seed)
    labels = [frozenset(numbers.choice(GENRES, 1)) for _ in range(200)]
    said = [
        {
            genre: float(np.clip(0.7 * (genre in own) + numbers.uniform(0, 0.3), 0, 1))
            for genre in GENRES
        }
        for own in labels
    ]
    return Recording(
        stretches=[numbers.lognormal(3, 0.3, 100) for _ in range(20)],
        probabilities=said,
        thresholds=dict.fromkeys(GENRES, 0.4),
        labels=labels,
        corrupt=CANARY,
    )


RECORDING = recording()


def always_drama(said):
    return dict.fromkeys(said, 0.02) | {"Drama": 0.97}


def shuffled(said):
    names = sorted(said)
    return dict(zip(names, [said[name] for name in names[1:] + names[:1]], strict=True))


def verdict(holds=True):
    outcome = Outcome.PASSED if holds else Outcome.FAILED
    return Verdict(
        gate="canary",
        subject="v",
        checks=(Check(name="sums", outcome=outcome, measured="x", bound="y"),),
    )


def controller(backend, posters=True, sound=True):
    return Controller(
        backend,
        validate=lambda _: verdict(sound),
        material=lambda _: golden(RECORDING) if posters else [],
        clock=lambda: backend.now,
        timer=lambda: backend.now,
        sleep=lambda seconds: SimulatedBackend.wait(backend, seconds),
    )


def backend(defect=None, seed=0):
    return SimulatedBackend(RECORDING, defect or Defect(), rate=10.0, seed=seed)


def led(place, policy=POLICY, **how):
    leader = controller(place, **how)
    leader.start(CANARY, policy)
    return leader.run()


def steps(state):
    return [event.percent for event in state.timeline if event.phase == Phase.STEP]


def test_a_good_canary_is_promoted_step_by_step():
    place = backend()
    state = led(place)
    assert state.phase is Phase.PROMOTED
    assert place.world.stable == CANARY and place.world.canary is None
    assert steps(state) == [5, 25, 50, 100]


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (Defect(errors=0.2), "errors"),
        (Defect(slower=3.0), "latency p50"),
        (Defect(say=always_drama), "labels|agreement"),
        (Defect(say=shuffled), "labels|agreement"),
    ],
)
def test_a_bad_canary_is_found_in_the_dark_launch(defect, reason):
    place = backend(defect)
    before = place.world
    state = led(place)
    assert (state.phase, state.at_fault) == (Phase.ROLLED_BACK, True)
    assert place.world == before
    assert place.exposed == 0
    assert steps(state) == []
    assert any(word in state.reason for word in reason.split("|")), state.reason


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        (Defect(errors=0.2), "errors"),
        (Defect(slower=3.0), "latency p50"),
        (Defect(say=always_drama), "probabilities"),
    ],
)
def test_without_material_it_is_found_at_the_first_step(defect, reason):
    place = backend(defect)
    before = place.world
    state = led(place, posters=False)
    assert state.phase is Phase.ROLLED_BACK
    assert place.world == before
    assert set(steps(state)) == {5}
    assert reason in state.reason
    assert any("no replay material" in event.what for event in state.timeline)


def test_an_unsound_bundle_is_never_deployed():
    place = backend()
    arranged = []
    place.arrange = lambda world, original, token: arranged.append(world)
    state = led(place, sound=False)
    assert state.phase is Phase.ROLLED_BACK
    assert all(world.canary is None for world in arranged)


def test_a_canary_that_crashes_is_rolled_back():
    place = backend()
    place.readiness = lambda world: Readiness(
        ready=world.canary is None, reason="exit code 1", hopeless=True
    )
    state = led(place)
    assert state.phase is Phase.ROLLED_BACK
    assert "did not get ready: exit code 1" in state.reason


def test_a_canary_that_never_gets_ready_is_rolled_back():
    place = backend()
    place.readiness = lambda world: Readiness(ready=world.canary is None, reason="it is starting")
    state = led(place)
    assert state.phase is Phase.ROLLED_BACK
    assert place.now >= POLICY.ready_seconds


def test_without_traffic_it_waits_and_is_rolled_back_at_last():
    place = SimulatedBackend(RECORDING, Defect(), rate=0.0, seed=0)
    state = led(place)
    assert state.phase is Phase.ROLLED_BACK
    assert "undecided after 4 hours" in state.reason


def test_doubt_may_roll_back():
    place = SimulatedBackend(RECORDING, Defect(), rate=0.0, seed=0)
    state = led(place, dataclasses.replace(POLICY, doubt="rollback"))
    assert state.phase is Phase.ROLLED_BACK
    assert not state.at_fault
    assert place.now < 3600


def post(place, what):
    place.post(Request(id=str(place.now) + what, what=what, who="tester"))


def test_doubt_may_ask_and_a_person_may_let_it_pass():
    place = SimulatedBackend(RECORDING, Defect(), rate=0.0, seed=0)
    leader = controller(place)
    leader.start(CANARY, dataclasses.replace(POLICY, doubt="ask"))
    while not (state := leader.look()).asked:
        place.wait(15)
    assert state.percent == 5 and "asks whether to go on" in state.paused
    place.wait(600)
    assert leader.look().percent == 5
    post(place, "resume")
    leader.look()
    assert leader.look().percent == 25


def test_pause_holds_resume_goes_on_abort_rolls_back():
    place = backend()
    before = place.world
    leader = controller(place)
    leader.start(CANARY, POLICY)
    while leader.look().phase is not Phase.STEP:
        place.wait(1)
    post(place, "pause")
    for _ in range(40):
        place.wait(15)
        state = leader.look()
    assert (state.percent, "pause asked for by tester" in state.paused) == (5, True)
    post(place, "resume")
    place.wait(15)
    leader.look()
    place.wait(15)
    assert leader.look().percent == 25
    post(place, "abort")
    state = leader.run()
    assert (state.phase, state.at_fault) == (Phase.ROLLED_BACK, False)
    assert place.world == before


def test_a_paused_canary_that_goes_bad_is_rolled_back():
    place = backend()
    leader = controller(place)
    leader.start(CANARY, POLICY)
    while leader.look().phase is not Phase.STEP:
        place.wait(1)
    post(place, "pause")
    leader.look()
    place.defect = Defect(errors=0.5)
    assert leader.run().phase is Phase.ROLLED_BACK


def test_two_never_lead_at_once():
    place = backend()
    first, second = controller(place), controller(place)
    first.start(CANARY, POLICY)
    first.look()
    elsewhere(place)
    with pytest.raises(UsageError, match="leads this rollout"):
        second.start(CANARY, POLICY)
    place.wait(1_000)  # the other one is gone: it has not renewed what it holds
    second.start(CANARY, POLICY)
    with pytest.raises(Stopped, match="another process"):
        first.look()
    assert second.run().phase is Phase.PROMOTED


def test_another_canary_has_to_wait():
    place = backend()
    controller(place).start(CANARY, POLICY)
    other = Model(version="d" * 64, uri="/other")
    with pytest.raises(UsageError, match="is under way"):
        controller(place).start(other, POLICY)


def test_what_is_served_is_not_rolled_out():
    with pytest.raises(UsageError, match="is what is served"):
        controller(backend()).start(Model(version="5" * 64, uri="/stable"), POLICY)


def test_what_was_asked_of_an_earlier_rollout_is_not_asked_of_the_next():
    place = backend()
    post(place, "abort")
    assert led(place).phase is Phase.PROMOTED


def test_a_run_that_asks_again_gets_what_it_got():
    place = backend(Defect(errors=0.5))
    leader = controller(place)
    leader.start(CANARY, POLICY, run="gs://runs/1")
    ended = leader.run()
    again = controller(place).start(CANARY, POLICY, run="gs://runs/1")
    assert again == ended or again.to_json() == ended.to_json()
    assert controller(place).start(CANARY, POLICY, run="gs://runs/2").phase is Phase.VALIDATE


def elsewhere(place):
    """Have another machine lead."""
    state, token = place.read()
    owner = dataclasses.replace(state.owner, host="another", token="theirs")
    place.write(dataclasses.replace(state, owner=owner), token)


def test_the_retry_of_a_step_waits_for_the_pod_that_died():
    place = backend()
    controller(place).start(CANARY, POLICY, run="gs://runs/1")
    elsewhere(place)
    retry = controller(place)
    retry.start(CANARY, POLICY, run="gs://runs/1")
    assert place.now >= 120
    assert retry.run().phase is Phase.PROMOTED


def test_a_container_that_starts_anew_is_not_its_predecessor():
    """It has the same name and the same process number."""
    place = backend()
    controller(place).start(CANARY, POLICY)
    again = controller(place)
    again.start(CANARY, POLICY)
    assert again.run().phase is Phase.PROMOTED


def test_the_lease_outlasts_long_intervals():
    place = backend()
    policy = dataclasses.replace(POLICY, interval_seconds=600)
    controller(place).start(CANARY, policy)
    assert place.read()[0].owner.until - place.now >= 1_800


def test_a_replay_renews_the_lease():
    place = backend(Defect(slower=100.0))
    place.recording = dataclasses.replace(RECORDING, stretches=[np.full(9, 500.0)])
    leader = controller(place)
    leader.start(CANARY, dataclasses.replace(POLICY, latency_ratio=100))
    until = []
    write = place.write
    place.write = lambda state, token: until.append(state.owner.until) or write(state, token)
    while leader.look().phase in (Phase.VALIDATE, Phase.DARK):
        pass
    assert len(until) > 10
    assert max(np.diff(until)) < 120


def test_in_doubt_the_dark_launch_asks_if_it_is_to_and_else_lets_traffic_tell():
    def unsure(said):
        return {
            genre: value if genre != "Drama" else min(1.0, value + 0.42)
            for genre, value in said.items()
        }

    policy = dataclasses.replace(POLICY, brier_loss=0.045, agreement=0.0, probability_shift=1.0)
    for doubt, phase in (("wait", Phase.STEP), ("ask", Phase.DARK), ("rollback", Phase.ROLL_BACK)):
        place = backend(Defect(say=unsure))
        leader = controller(place)
        leader.start(CANARY, dataclasses.replace(policy, doubt=doubt))
        leader.look()
        state = leader.look()
        said = state.timeline[-1].what
        assert state.phase is phase, said
        if doubt == "ask":
            post(place, "resume")
            leader.look()
            assert leader.look().phase is Phase.STEP


def test_replayed_posters_that_cannot_be_had_end_it():
    place = backend()

    def nothing(_):
        raise DataError("no catalog at gs://gone")

    leader = Controller(
        place, validate=lambda _: verdict(), material=nothing, clock=lambda: place.now
    )
    leader.start(CANARY, POLICY)
    state = leader.run()
    assert state.phase is Phase.ROLLED_BACK
    assert "no catalog at gs://gone" in state.reason
    assert not state.at_fault


def test_a_canary_that_nobody_can_watch_is_rolled_back():
    place = backend()
    before = place.world

    def damaged(since, until):
        raise ValueError("not a Parquet file")

    place.sighting = damaged
    state = led(place)
    assert state.phase is Phase.ROLLED_BACK
    assert "nobody could watch it for 10 minutes: ValueError: not a Parquet file" in state.reason
    assert (place.world, state.at_fault) == (before, False)
    assert place.now < 1_200


def test_what_only_people_can_mend_ends_the_leader_at_last():
    place = backend()
    leader = controller(place)
    leader.start(CANARY, POLICY)

    def gone():
        raise UsageError("there is no InferenceService posters")

    place.read = gone
    with pytest.raises(UsageError, match="no InferenceService posters"):
        leader.run()
    assert 3_600 <= place.now < 4_000


def test_a_canary_that_stops_running_is_rolled_back_at_once():
    place = backend()
    leader = controller(place)
    leader.start(CANARY, POLICY)
    while leader.look().phase is not Phase.STEP:
        place.wait(1)
    place.readiness = lambda world: Readiness(
        ready=world.canary is None, reason="out of memory", hopeless=world.canary is not None
    )
    assert "does not run any more: out of memory" in leader.run().reason


class Failing(SimulatedBackend):
    """Fails on every tenth request while the canary is alone, for some seconds."""

    seconds, began = float("inf"), 0.0

    def sighting(self, since, until):
        alone = self.world.percent == 100
        self.began = self.began or (since if alone else 0.0)
        bad = alone and until - self.began < self.seconds
        self.defect = Defect(errors=0.1 if bad else 0.0)
        return super().sighting(since, until)


def test_trouble_that_a_lone_canary_meets_is_looked_at_with_both_models():
    place = Failing(RECORDING, Defect(), rate=10.0, seed=0)
    place.seconds = 200.0
    state = led(place)
    assert state.phase is Phase.PROMOTED
    assert state.returns == 1
    assert any("is compared once more" in event.what for event in state.timeline)


def test_a_canary_that_fails_whenever_it_is_alone_is_rolled_back_but_not_quarantined():
    state = led(Failing(RECORDING, Defect(), rate=10.0, seed=0))
    assert (state.phase, state.returns, state.at_fault) == (Phase.ROLLED_BACK, 2, False)
    assert "errors" in state.reason


def test_a_model_that_hangs_is_not_replayed_to_for_hours():
    place = backend(Defect(errors=1.0))
    state = led(place)
    assert state.phase is Phase.ROLLED_BACK
    assert "replay: errors: 32 of 32" in state.reason


def test_a_stable_model_that_cannot_be_asked_is_said_to_be():
    place = backend()

    def silent(canary):
        def ask(poster):
            raise UsageError("it wants a token")

        return ask

    place.ask = silent
    leader = controller(place)
    leader.start(CANARY, dataclasses.replace(POLICY, doubt="ask"))
    leader.look()
    state = leader.look()
    assert state.asked and "none: it wants a token" in state.paused


def test_an_abort_need_not_wait_for_the_replay():
    place = backend()
    leader = controller(place)
    leader.start(CANARY, POLICY)
    leader.look()
    asked = []
    ask = place.ask

    def told(canary):
        inner = ask(canary)

        def count(poster):
            asked.append(poster)
            if len(asked) == 10:
                post(place, "abort")
            return inner(poster)

        return count

    place.ask = told
    assert leader.run().phase is Phase.ROLLED_BACK
    assert len(asked) <= 32


class Registry:
    """Knows one version."""

    def __init__(self, stage=Stage.CANDIDATE):
        self.entry, self.moves = SimpleNamespace(version=CANARY.version, stage=stage), []

    def get(self, version):
        return self.entry

    def move(self, version, stage, reason, verdict):
        self.moves.append((stage, reason, verdict))


def kept(place, registry, sound=None):
    leader = Controller(
        place,
        validate=lambda _: sound or verdict(),
        material=lambda _: [],
        registry=registry,
        report="gs://run/rollout.json",
        clock=lambda: place.now,
    )
    leader.start(CANARY, POLICY)
    return leader.run()


def test_the_registry_learns_who_is_champion_and_on_which_verdict():
    registry = Registry()
    kept(backend(), registry)
    ((stage, reason, report),) = registry.moves
    assert (stage, report) == (Stage.CHAMPION, "gs://run/rollout.json")
    assert "The canary gate passed" in reason


def test_a_canary_at_fault_is_quarantined_and_not_rolled_out_again():
    registry = Registry()
    kept(backend(Defect(errors=0.5)), registry)
    ((stage, reason, _),) = registry.moves
    assert stage is Stage.QUARANTINED and "errors" in reason
    with pytest.raises(UsageError, match="was quarantined"):
        kept(backend(), Registry(Stage.QUARANTINED))


def test_a_signature_that_is_not_trusted_here_quarantines_nothing():
    check = Check(name="signature", outcome=Outcome.FAILED, measured="x", bound="y")
    registry = Registry()
    unsigned = Verdict(gate="canary", subject="v", checks=(check,))
    assert kept(backend(), registry, unsigned).phase is Phase.ROLLED_BACK
    assert registry.moves == []


class Killed(BaseException):
    """The controller is gone, at once."""


class Fragile(SimulatedBackend):
    """Dies, fails or conflicts at some of its calls, before or after doing what it is told."""

    def _fault(self, call, *arguments):
        kind = self.plan.pop(0) if self.plan else ""
        if kind == "killed before":
            raise Killed
        if kind == "failed":
            raise InfrastructureError("the API server is away")
        if kind == "conflict":
            raise Conflict("another writer was faster")
        if kind == "refused":
            raise UsageError("this account may not update it")
        result = getattr(super(), call)(*arguments)
        if kind == "killed after":
            raise Killed
        if kind == "failed after":
            raise InfrastructureError("the answer was lost")
        return result

    def read(self):
        return self._fault("read")

    def request(self):
        return self._fault("request")

    def write(self, state, token):
        return self._fault("write", state, token)

    def arrange(self, world, original, token):
        if token != self.saved:
            raise Conflict("another process leads")
        return self._fault("arrange", world, original, token)

    def readiness(self, world):
        return self._fault("readiness", world)

    def sighting(self, since, until):
        return self._fault("sighting", since, until)

    def wait(self, seconds):
        return self._fault("wait", seconds)


FAULTS = ("failed", "failed after", "conflict", "refused")
KINDS = ("", "", "", "killed before", "killed after", *FAULTS)
VERDICTS = st.sampled_from([None, None, *Outcome])


class Rollouts(RuleBasedStateMachine):
    """Anything may happen to a rollout; whatever the judge says, it ends one way or the other."""

    @initialize(
        seed=st.integers(0, 5),
        bad=st.booleans(),
        last=st.lists(st.sampled_from(FAULTS), max_size=12),
    )
    def begin(self, seed, bad, last):
        defect = Defect(errors=0.3) if bad else Defect()
        self.place = Fragile(RECORDING, defect, rate=20.0, seed=seed)
        self.place.plan, self.last, self.said = [], last, None
        self.before = self.place.world
        self.judge, rollout_controller.judge = rollout_controller.judge, self.give_verdict
        self.leader = controller(self.place, posters=False)
        self.leader.start(CANARY, POLICY)
        self.bad, self.lied = bad, False

    def give_verdict(self, evidence, policy, subject):
        """Say what the machine wants said, or the truth."""
        if self.said is None:
            return self.judge(evidence, policy, subject)
        self.lied = True
        check = Check(name="errors", outcome=self.said, measured="drawn", bound="none")
        return Verdict(gate="canary", subject=subject, checks=(check,))

    def state(self):
        return SimulatedBackend.read(self.place)[0]

    @rule(
        plan=st.lists(st.sampled_from(KINDS), max_size=6),
        seconds=st.sampled_from([1, 15, 200]),
        said=VERDICTS,
    )
    def look(self, plan, seconds, said):
        if self.state().phase.ended:
            return
        self.place.plan, self.said = list(plan), said
        self.place.now += seconds
        try:
            self.leader.look()
        except (InfrastructureError, UsageError):
            pass
        except Killed:
            self.another_leads()
        finally:
            self.place.plan, self.said = [], None

    def another_leads(self):
        self.place.plan = []
        self.place.now += 1_000
        self.leader = controller(self.place, posters=False)
        if not self.state().phase.ended:
            self.leader.start(CANARY, POLICY)

    @rule(what=st.sampled_from(["pause", "resume", "abort"]), number=st.integers(0, 10**6))
    def ask(self, what, number):
        self.place.post(Request(id=str(number), what=what, who="tester"))

    @invariant()
    def one_stable_model(self):
        if not hasattr(self, "place"):
            return
        world, state = self.place.world, self.state()
        assert world.stable in (self.before.stable, CANARY)
        if state.phase is Phase.PROMOTED:
            assert (world.stable, world.canary) == (CANARY, None)
        if state.phase is Phase.ROLLED_BACK:
            assert world == self.before

    def teardown(self):
        if not hasattr(self, "place"):
            return
        try:
            self.end()
        finally:
            rollout_controller.judge = self.judge

    def end(self):
        post(self.place, "resume")
        if not self.state().phase.ended:
            self.another_leads()
            self.place.plan = list(self.last)
            self.leader.run()
        state = self.state()
        assert state.phase.ended
        if self.bad and not self.lied:
            assert state.phase is Phase.ROLLED_BACK
        self.one_stable_model()


Rollouts.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRollouts = Rollouts.TestCase
