"""The rollout's state machine: one look after another, each of which may be its last.

What is served follows from the state alone (`State.world`). Every look first writes who leads, then
arranges what the state asks for, then looks at what came of it and writes the next state. So
whoever finds the state after a kill goes on from it, and arranges once more what may be half done.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from components.rollout.backends import Backend, Request
from components.rollout.judge import Evidence, judge
from components.rollout.policy import Doubt, Policy
from components.rollout.replay import Pair, Poster, is_lost, judge_replay, replay
from components.rollout.state import Model, Owner, Phase, State, World
from marquee.errors import InfrastructureError, MarqueeError, Stopped, UsageError, explain
from marquee.processes import is_running
from marquee.registry import ModelRegistry, Stage
from marquee.storage import Conflict
from marquee.verdict import Outcome, Verdict

_LEASE_SECONDS = 120.0
"""How long a rollout waits for its leader before another may lead it; three looks at least."""
_LEASE_POLL_SECONDS = 2.0
_WATCHED = (Phase.VALIDATE, Phase.DARK, Phase.STEP)
_TELL_SECONDS = 60.0
_FAULT_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next look after the first, second, ... fault in a row."""
_BLIND_SECONDS, _GIVE_UP_SECONDS = 600.0, 3600.0
"""How long every look may fail before a canary that nobody can watch is rolled back, and before its
leader gives up: something is wrong that only people can mend."""
_END_PATIENCE = 3.0
"""How many times `ready_seconds` the end of a rollout may take before that is a fault."""
_MOST_RETURNS = 2
"""How often a canary that fails once it is alone is compared with the stable model again."""
_REPLAY_SECONDS, _REPLAY_GLANCE = 900.0, 16
"""The longest replay, and after how many posters it is asked whether to go on."""

logger = logging.getLogger(__name__)


class Controller:
    """Leads one rollout.

    Args:
        backend: Where it takes place.
        validate: Checks the canary's bundle before anything is deployed.
        material: Gives the posters to replay to both models; none if there are none.
        registry: Where the canary's stage is kept; nowhere without it.
        report: Where the report will be, for the registry's history.
        clock: Gives Unix time.
        timer: Gives seconds, finely.
        sleep: Waits for seconds, where the backend cannot.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        validate: Callable[[World], Verdict],
        material: Callable[[World], Sequence[Poster]],
        registry: ModelRegistry | None = None,
        report: str = "",
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backend = backend
        self._validate = validate
        self._material = material
        self._registry = registry
        self._report = report
        self._clock = clock
        self._timer = timer
        self._sleep = sleep
        self._token = ""
        self._me = Owner.me(0.0)
        self._told = 0.0
        self._faults: list[str] = []
        self._faulty_since = 0.0

    def start(self, canary: Model, policy: Policy, run: str = "") -> State:
        """Begin a rollout, or go on with the one that its leader left.

        Args:
            canary: What is rolled out.
            policy: How; a rollout that goes on keeps its own.
            run: The run of the training pipeline that asks for it. What it asked for and what has
                ended is not begun again, and a leader that died elsewhere is waited for.

        Returns:
            The state, led by this process unless it has ended.

        Raises:
            UsageError: Another process leads a rollout, or another canary's has not ended.
        """
        state, self._token = self._backend.read()
        if state and state.phase.ended and run and (state.run, state.canary) == (run, canary):
            return state
        if state is None or state.phase.ended:
            return self._begin(self._new(canary, policy, run))
        if state.canary.version != canary.version:
            raise UsageError(
                f"a rollout of {state.canary.version[:12]} is under way ({state.phase})",
                remedy="abort it, or start that bundle again to go on with it",
            )
        if run and state.run == run:
            state = self._wait_for_lease(state)
        self._refuse_second(state)
        return self._begin(state.note(self._clock(), "goes on"))

    def _begin(self, state: State) -> State:
        """Lead a rollout from now on."""
        try:
            return self._save(state)
        except Conflict:
            raise UsageError(
                "another process has just begun to lead this rollout", remedy="see its status"
            ) from None

    def _new(self, canary: Model, policy: Policy, run: str) -> State:
        self._refuse_quarantined(canary)
        now, stable, left = self._clock(), self._backend.stable(), self._backend.request()
        if stable and stable.version == canary.version:
            raise UsageError(
                f"{canary.version[:12]} is what is served", remedy="roll out another bundle"
            )
        state = State(
            rollout=uuid.uuid4().hex[:12],
            phase=Phase.VALIDATE,
            stable=stable,
            canary=canary,
            policy=policy,
            run=run,
            started=now,
            since=now,
            looked=now,
            # What was asked of an earlier rollout is not asked of this one.
            obeyed=left.id if left else "",
            original=self._backend.snapshot(),
        )
        for percent in (0, *policy.steps) if stable else ():
            self._backend.rehearse(replace(state.both, percent=percent), state.original)
        self._backend.rehearse(World(stable=canary), state.original)
        return state.note(now, "begins")

    def _refuse_quarantined(self, canary: Model) -> None:
        if self._registry and self._registry.get(canary.version).stage is Stage.QUARANTINED:
            raise UsageError(
                f"{canary.version[:12]} was quarantined when it was rolled out earlier",
                remedy="see `marquee registry show`; `readmit` it there if that was a mistake",
            )

    def _wait_for_lease(self, state: State) -> State:
        """Wait until the leader renews its lease or lets it run out."""
        owner = state.owner
        while self._is_led(state) and state.owner.until == owner.until:
            self._pause(_LEASE_POLL_SECONDS)
            found, self._token = self._backend.read()
            state = found or state
        return state

    def _is_led(self, state: State) -> bool:
        owner = state.owner
        if owner.until <= self._clock():
            return False
        if owner.host != self._me.host:
            return True
        # A container that starts anew has its predecessor's name, and often its process number.
        return owner.process != self._me.process and is_running(owner.process)

    def _refuse_second(self, state: State) -> None:
        if self._is_led(state):
            owner, left = state.owner, state.owner.until - self._clock()
            raise UsageError(
                f"process {owner.process} on {owner.host} leads this rollout",
                remedy=f"watch it with status; if it is gone, wait for {left:.0f} s",
            )

    def run(self) -> State:
        """Lead the rollout to its end, however often something fails on the way.

        Returns:
            Its last state: promoted or rolled back.

        Raises:
            Stopped: Another process leads it now, or this one is to stop.
            Exception: Every look has failed for an hour: the last one's fault.
        """
        while True:
            try:
                state = self.look()
            except Exception as fault:
                self._note_fault(fault)
                continue
            self._faults.clear()
            if state.phase.ended:
                return state
            if state.phase is not Phase.VALIDATE:
                self._pause(_seconds_to_next(state))

    def _note_fault(self, fault: Exception) -> None:
        """Wait before the next look, unless there is to be none."""
        error = explain(fault)
        if isinstance(error, Stopped):
            raise fault
        now = self._clock()
        if not self._faults:
            self._faulty_since = now
        if now - self._faulty_since > _GIVE_UP_SECONDS:
            raise fault
        pause = _FAULT_PAUSES[min(len(self._faults), len(_FAULT_PAUSES) - 1)]
        # A fault of ours is to be mended, so its traceback is wanted.
        logger.warning(
            "rollout: %s; looks again in %g s", error or fault, pause, exc_info=error is None
        )
        self._faults.append(str(error or f"{type(fault).__name__}: {fault}"))
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Wait; no longer than until there is a new request, as far as anybody can tell."""
        try:
            self._backend.wait(seconds)
        except Exception as fault:
            if isinstance(fault, Stopped):
                raise
            self._sleep(seconds)

    def look(self) -> State:
        """Look once, and do what follows.

        Returns:
            The state afterwards.

        Raises:
            Stopped: Another process leads the rollout now.
        """
        state, self._token = self._backend.read()
        if state is None or state.owner.token != self._me.token:
            raise Stopped("another process leads this rollout", remedy="see its status")
        request = self._backend.request()
        if request and request.id != state.obeyed:
            state = self._obey(replace(state, obeyed=request.id), request)
        state = self._save(self._leave_if_blind(state))
        self._backend.arrange(state.world, state.original, self._token)
        after = self._follow(state)
        if after is not state:
            self._save(after)
            self._tell(state, after)
        return after

    def _leave_if_blind(self, state: State) -> State:
        """Roll a canary back that nobody could watch for too long."""
        blind = self._clock() - self._faulty_since if self._faults else 0.0
        if state.phase not in _WATCHED or blind <= _BLIND_SECONDS:
            return state
        return self._roll_back(
            state, f"nobody could watch it for {blind / 60:.0f} minutes: {self._faults[-1]}"
        )

    def _follow(self, state: State) -> State:
        """Give the next state; what nobody can mend by waiting ends a rollout that is watched."""
        try:
            return self._next(state)
        except (InfrastructureError, Stopped):
            raise
        except MarqueeError as error:
            if state.phase not in _WATCHED:
                raise
            return self._roll_back(state, str(error))

    def _tell(self, before: State, after: State) -> None:
        """Log what happened, and once a minute how a step goes."""
        news = after.timeline[len(before.timeline) :]
        for event in news:
            logger.info("rollout: %s (%d %%): %s", event.phase, event.percent, event.what)
        now = self._clock()
        if news or now - self._told >= _TELL_SECONDS:
            self._told = now
            if after.phase is Phase.STEP:
                answers = after.evidence.seen.canary.traffic.requests
                logger.info("rollout: %d %%: %d answers of the canary", after.percent, answers)

    def _save(self, state: State) -> State:
        """Write a state, led by this process for a while longer."""
        lease = max(_LEASE_SECONDS, 3 * state.policy.interval_seconds)
        self._me = replace(self._me, until=self._clock() + lease)
        state = replace(state, owner=self._me)
        self._token = self._backend.write(state, self._token)
        return state

    def _obey(self, state: State, request: Request) -> State:
        now, why = self._clock(), f" ({request.reason})" if request.reason else ""
        said = f"{request.what} asked for by {request.who}{why}"
        logger.info("rollout: %s", said)
        if state.phase in (Phase.PROMOTE, Phase.ROLL_BACK) or state.phase.ended:
            return state.note(now, f"{said}: too late")
        if request.what == "abort":
            return state.move(Phase.ROLL_BACK, now, said, reason=said)
        if request.what == "pause":
            return replace(state, paused=said).note(now, said)
        return replace(state, paused="", approved=state.asked, asked=False).note(now, said)

    def _next(self, state: State) -> State:
        now = self._clock()
        hours = state.policy.max_hours
        if state.phase in _WATCHED and now - state.started > hours * 3600:
            return self._roll_back(state, f"undecided after {hours:g} hours")
        return {
            Phase.VALIDATE: self._after_validation,
            Phase.DARK: self._after_dark_launch,
            Phase.STEP: self._after_step,
            Phase.PROMOTE: self._after_promotion,
            Phase.ROLL_BACK: self._after_roll_back,
        }[state.phase](state, now)

    def _after_validation(self, state: State, now: float) -> State:
        verdict = self._validate(state.both)
        if verdict.outcome is not Outcome.PASSED:
            return self._roll_back(state, verdict.sentence(), verdict)
        # The first model of a place has nothing to be compared with.
        phase = Phase.DARK if state.stable else Phase.PROMOTE
        return state.move(phase, now, "the bundle is sound", verdict=_numbers(verdict))

    def _after_dark_launch(self, state: State, now: float) -> State:
        waiting = self._not_ready(state, now)
        if waiting is not None:
            return waiting
        if state.paused:
            return state
        if state.approved:
            return self._first_step(state, "a person let it go on", None)
        posters = self._material(state.both)
        if not posters:
            return self._first_step(state, "no replay material", None)
        verdict = self._replayed(state, posters)
        if verdict is None:
            return state
        if verdict.outcome is Outcome.FAILED:
            return self._roll_back(state, verdict.sentence(), verdict)
        # The same posters once more would tell no more: users' traffic has to.
        if verdict.outcome is Outcome.INCONCLUSIVE and state.policy.doubt != Doubt.WAIT:
            return self._doubt(state, verdict)
        return self._first_step(state, verdict.sentence(), verdict)

    def _replayed(self, state: State, posters: Sequence[Poster]) -> Verdict | None:
        """Judge a replay; none if a person has asked for something meanwhile."""
        asks = (self._backend.ask(canary=False), self._backend.ask(canary=True))
        pairs: list[Pair] = []
        begun = self._clock()
        for pair in replay(posters, *asks, state.policy.replay_passes, self._timer):
            pairs.append(pair)
            if self._me.until - self._clock() < _LEASE_SECONDS / 2:
                self._save(state)
            if len(pairs) % _REPLAY_GLANCE:
                continue
            request = self._backend.request()
            if request and request.id != state.obeyed:
                return None
            # Of a model that hangs, a few answers tell enough.
            if self._clock() - begun > _REPLAY_SECONDS or is_lost(pairs, state.policy):
                break
        return judge_replay(pairs, state.policy, state.subject)

    def _first_step(self, state: State, what: str, verdict: Verdict | None) -> State:
        return state.move(
            Phase.STEP,
            self._clock(),
            what,
            step=0,
            evidence=Evidence(),
            approved=False,
            verdict=_numbers(verdict) if verdict else None,
        )

    def _not_ready(self, state: State, now: float) -> State | None:
        """Give the state that follows from a canary that is not ready; None if it is."""
        readiness = self._backend.readiness(state.world)
        if readiness.ready:
            return None
        if readiness.hopeless or now - state.since > state.policy.ready_seconds:
            return self._roll_back(state, f"the canary did not get ready: {readiness.reason}")
        return state

    def _after_step(self, state: State, now: float) -> State:
        readiness = self._backend.readiness(state.world)
        if readiness.hopeless:
            return self._roll_back(state, f"the canary does not run any more: {readiness.reason}")
        sighting = self._backend.sighting(state.looked, now)
        evidence = state.evidence.see(sighting, state.policy, alone=state.percent == 100)
        verdict = judge(evidence, state.policy, state.subject)
        state = replace(state, evidence=evidence, looked=now)
        lasted = now - state.since
        if verdict.outcome is Outcome.FAILED:
            if evidence.alone and state.returns < _MOST_RETURNS:
                return self._step_back(state, now, verdict)
            return self._roll_back(state, verdict.sentence(), verdict)
        if state.paused:
            return state
        good = verdict.outcome is Outcome.PASSED or state.approved
        if good and lasted >= state.policy.step_seconds:
            return self._next_step(state, now, verdict)
        if not good and lasted > state.policy.max_step_minutes * 60:
            return self._doubt(state, verdict)
        return state

    def _step_back(self, state: State, now: float, verdict: Verdict) -> State:
        """Compare the two once more: alone, a canary also meets what is nobody's fault."""
        return state.move(
            Phase.STEP,
            now,
            f"is compared once more: {verdict.sentence()}",
            step=state.step - 1,
            returns=state.returns + 1,
            evidence=state.evidence.step_back(),
            approved=False,
            verdict=_numbers(verdict),
        )

    def _next_step(self, state: State, now: float, verdict: Verdict) -> State:
        numbers = _numbers(verdict)
        if state.step + 1 == len(state.policy.steps):
            return state.move(Phase.PROMOTE, now, verdict.sentence(), verdict=numbers)
        return state.move(
            Phase.STEP,
            now,
            verdict.sentence(),
            step=state.step + 1,
            evidence=state.evidence.next_step(),
            approved=False,
            verdict=numbers,
        )

    def _doubt(self, state: State, verdict: Verdict) -> State:
        match state.policy.doubt:
            case Doubt.ROLL_BACK:
                return self._roll_back(state, verdict.sentence(), verdict)
            case Doubt.ASK if not state.asked:
                said = f"asks whether to go on: {verdict.sentence()}"
                asking = replace(state, paused=said, asked=True)
                return asking.note(self._clock(), said, _numbers(verdict))
        return state

    def _roll_back(self, state: State, reason: str, verdict: Verdict | None = None) -> State:
        return state.move(
            Phase.ROLL_BACK,
            self._clock(),
            reason,
            reason=reason,
            # Alone, it may have met what would have hit the stable model as well.
            at_fault=verdict is not None and state.percent < 100 and is_at_fault(verdict),
            verdict=_numbers(verdict) if verdict else None,
        )

    def _after_promotion(self, state: State, now: float) -> State:
        if state.stable is None:
            waiting = self._not_ready(state, now)
            if waiting is not None:
                return waiting
        elif not self._is_back(state, now):
            return state
        why = state.judged.what if state.judged else "rolled out"
        self._keep_stage(state, Stage.CHAMPION, why)
        return state.move(Phase.PROMOTED, now, "promoted")

    def _after_roll_back(self, state: State, now: float) -> State:
        if not self._is_back(state, now):
            return state
        if state.at_fault:
            self._keep_stage(state, Stage.QUARANTINED, state.reason)
        return state.move(Phase.ROLLED_BACK, now, "rolled back")

    def _is_back(self, state: State, now: float) -> bool:
        """Tell whether what a rollout ends with is served; it served before, so it will again.

        Raises:
            InfrastructureError: It takes so long that something must be wrong.
        """
        readiness = self._backend.readiness(state.world)
        lasted = (now - state.since) / state.policy.ready_seconds
        if not readiness.ready and lasted > _END_PATIENCE:
            raise InfrastructureError(
                f"it still waits to {state.phase}: {readiness.reason}",
                remedy="mend that; start it again if it has given up",
            )
        return readiness.ready

    def _keep_stage(self, state: State, stage: Stage, reason: str) -> None:
        if self._registry is None:
            return
        entry = self._registry.get(state.canary.version)
        if entry.stage is not stage:
            said = f"rollout {state.rollout}: {reason}"
            self._registry.move(entry.version, stage, said, self._report)


def _seconds_to_next(state: State) -> float:
    """Give the seconds until the next look: few while something is being arranged."""
    interval = state.policy.interval_seconds
    return interval if state.phase is Phase.STEP or state.paused else min(1.0, interval)


def is_at_fault(verdict: Verdict) -> bool:
    """Tell whether a canary itself is to blame for what failed, not who rolls it out, or where."""
    failed = {check.name for check in verdict.checks if check.outcome is Outcome.FAILED}
    return bool(failed - {"signature", "genres"})


def _numbers(verdict: Verdict) -> dict[str, Any]:
    """Keep of a verdict what the report shows."""
    kept = ("name", "measured", "bound", "blame", "remedy")
    return {
        "outcome": verdict.outcome.value,
        "checks": [
            {"outcome": check.outcome.value, **{name: getattr(check, name) for name in kept}}
            for check in verdict.checks
        ],
    }
