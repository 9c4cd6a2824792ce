"""Each check of the judge holds for a canary that is as good, and fails for its defect."""

import numpy as np
import pytest

from components.rollout.evidence import Answers, Latencies, Side, Sighting, Traffic
from components.rollout.judge import Evidence, judge
from components.rollout.policy import Policy
from marquee.verdict import Outcome

GENRES = ("Comedy", "Drama", "Horror")
POLICY = Policy(min_samples=200)


def side(random, requests, *, errors=0.0, slower=1.0, say=None, unsure=0.2):
    failed = int(random.binomial(requests, errors))
    times = random.lognormal(3, 0.4, requests - failed) * slower
    values = random.beta(2, 4, (requests - failed, len(GENRES)))
    said = [dict(zip(GENRES, row, strict=True)) for row in values]
    if say:
        said = [say(answer) for answer in said]
    return Side(
        traffic=Traffic(requests=requests, errors=failed, latencies=Latencies.of(times)),
        answers=Answers.of(said, int(random.binomial(len(said), unsure))),
    )


def watched(looks=20, stable=None, seed=0, share=0.25, policy=POLICY, **defect):
    random = np.random.default_rng(seed)
    evidence = Evidence()
    for _ in range(looks):
        sighting = Sighting(
            stable=side(random, round(160 * (1 - share)), **(stable or {"errors": 0.002})),
            canary=side(random, round(160 * share), **({"errors": 0.002} | defect)),
        )
        evidence = evidence.see(sighting, policy)
    return evidence


def outcomes(verdict):
    return {check.name: check.outcome for check in verdict.checks}


@pytest.mark.parametrize("seed", range(5))
def test_a_canary_as_good_passes(seed):
    verdict = judge(watched(seed=seed), POLICY, "v")
    assert verdict.outcome is Outcome.PASSED, verdict.sentence()


@pytest.mark.parametrize(
    ("defect", "blamed"),
    [
        ({"errors": 0.2}, "errors"),
        ({"slower": 3.0}, "latency p50"),
        ({"say": lambda answer: answer | {"Drama": 0.95}}, "probabilities"),
        ({"unsure": 0.6}, "unsure answers"),
    ],
)
def test_each_defect_fails_the_check_that_is_for_it(defect, blamed):
    verdict = judge(watched(**defect), POLICY, "v")
    assert outcomes(verdict)[blamed] is Outcome.FAILED
    assert verdict.outcome is Outcome.FAILED


def test_a_long_tail_fails_the_p99_alone():
    random = np.random.default_rng(0)
    evidence = Evidence()
    for _ in range(40):
        usual, late = random.lognormal(3, 0.2, 40), random.lognormal(3, 0.2, 40)
        late[:6] *= 10
        sides = [
            Side(traffic=Traffic(requests=40, latencies=Latencies.of(times)))
            for times in (usual, late)
        ]
        evidence = evidence.see(Sighting(stable=sides[0], canary=sides[1]), POLICY)
    verdict = outcomes(judge(evidence, POLICY, "v"))
    assert verdict["latency p99"] is Outcome.FAILED
    assert verdict["latency p50"] is Outcome.PASSED


def test_errors_that_both_have_are_not_the_canarys():
    evidence = watched(stable={"errors": 0.1}, errors=0.1)
    assert outcomes(judge(evidence, POLICY, "v"))["errors"] is Outcome.PASSED


def test_errors_below_what_is_tolerated_are_forgiven():
    evidence = watched(stable={"errors": 0.0}, errors=0.006)
    assert outcomes(judge(evidence, POLICY, "v"))["errors"] is Outcome.PASSED


def test_too_few_answers_are_inconclusive():
    verdict = judge(watched(looks=1), POLICY, "v")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert outcomes(verdict)["answers of the canary"] is Outcome.INCONCLUSIVE


def test_without_records_nobody_can_tell():
    random = np.random.default_rng(0)
    silent = Side(
        traffic=Traffic(requests=300, latencies=Latencies.of(random.lognormal(3, 1, 300)))
    )
    evidence = Evidence().see(Sighting(stable=silent, canary=silent), POLICY)
    assert outcomes(judge(evidence, POLICY, "v"))["probabilities"] is Outcome.INCONCLUSIVE


def test_a_shift_that_chance_may_explain_is_inconclusive():
    """Ten times the records settle it."""
    policy = Policy(probability_shift=0.05)

    def say(answer):
        return answer | {"Drama": min(1.0, answer["Drama"] + 0.07)}

    few = judge(watched(looks=2, say=say, policy=policy), policy, "v")
    many = judge(watched(looks=60, say=say, policy=policy), policy, "v")
    assert outcomes(few)["probabilities"] is Outcome.INCONCLUSIVE
    assert outcomes(many)["probabilities"] is Outcome.FAILED
    assert next(c for c in many.checks if c.name == "probabilities").blame == ("Drama",)


def test_alone_the_canary_is_compared_with_what_was_before():
    random = np.random.default_rng(3)
    for defect, outcome in (({}, Outcome.PASSED), ({"errors": 0.1}, Outcome.FAILED)):
        evidence = watched().next_step()
        for _ in range(15):
            canary = side(random, 100, **({"errors": 0.002} | defect))
            evidence = evidence.see(Sighting(canary=canary), POLICY, alone=True)
        assert judge(evidence, POLICY, "v").outcome is outcome


def looks_alone(evidence, looks, errors, requests=150, seed=7):
    """How many looks at a canary that is alone it takes to fail; all of them if it does not."""
    random = np.random.default_rng(seed)
    for number in range(looks):
        canary = side(random, requests, errors=errors)
        evidence = evidence.see(Sighting(canary=canary), POLICY, alone=True)
        if judge(evidence, POLICY, "v").outcome is Outcome.FAILED:
            return number + 1
    return looks


@pytest.mark.parametrize("usual", [0.0, 0.01, 0.015])
def test_alone_it_is_found_whatever_the_stable_model_fails(usual):
    evidence = watched(looks=60, share=0.5, stable={"errors": usual}, errors=usual).next_step()
    assert looks_alone(evidence, 40, errors=0.2) <= 12
    assert looks_alone(evidence, 40, errors=usual) == 40


def test_alone_with_little_traffic_it_is_found_too():
    evidence = watched(looks=60, share=0.5).next_step()
    assert looks_alone(evidence, 400, errors=0.2, requests=3) <= 120


def test_alone_answers_are_not_compared_with_what_other_users_sent_earlier():
    evidence = watched(looks=30).next_step()
    random = np.random.default_rng(8)
    night = side(random, 300, say=lambda answer: answer | {"Horror": 0.9})
    evidence = evidence.see(Sighting(canary=night), POLICY, alone=True)
    assert "probabilities" not in outcomes(judge(evidence, POLICY, "v"))


def test_a_few_requests_that_hang_are_no_good_p99():
    random = np.random.default_rng(9)
    evidence = Evidence()
    for _ in range(60):
        usual, hanging = random.lognormal(3, 0.2, (2, 100))
        hanging[random.random(100) < 0.04] = 10_000
        stable, canary = (
            Side(traffic=Traffic(requests=100, latencies=Latencies.of(times)))
            for times in (usual, hanging)
        )
        evidence = evidence.see(Sighting(stable=stable, canary=canary), POLICY)
    found = outcomes(judge(evidence, POLICY, "v"))
    assert found["latency p50"] is Outcome.PASSED
    assert found["latency p99"] is Outcome.FAILED


def test_a_measured_p99_that_is_too_long_does_not_pass():
    random = np.random.default_rng(10)
    times = random.lognormal(3, 0.1, 600)
    late = times.copy()
    late[:10] = 5_000
    stable, canary = (
        Side(traffic=Traffic(requests=600, latencies=Latencies.of(some))) for some in (times, late)
    )
    evidence = Evidence().see(Sighting(stable=stable, canary=canary), POLICY)
    assert outcomes(judge(evidence, POLICY, "v"))["latency p99"] is Outcome.INCONCLUSIVE


def test_latency_that_goes_bad_at_the_last_step_is_found():
    """Hours of good answers before must not pay for it."""
    evidence = watched(looks=60).next_step()
    random = np.random.default_rng(4)
    for _ in range(40):
        slow = side(random, 100, slower=2.0)
        evidence = evidence.see(Sighting(canary=slow), POLICY, alone=True)
    assert outcomes(judge(evidence, POLICY, "v"))["latency p50"] is Outcome.FAILED


def test_a_canary_that_is_slow_does_not_pass_before_it_fails():
    evidence = watched(looks=5, slower=2.0)
    check = outcomes(judge(evidence, POLICY, "v"))["latency p50"]
    assert check is Outcome.INCONCLUSIVE


def test_what_the_stable_model_still_answers_is_no_comparison():
    evidence = watched().next_step()
    random = np.random.default_rng(5)
    last = Side(traffic=Traffic(requests=3), answers=Answers())
    sighting = Sighting(stable=last, canary=side(random, 300))
    for _ in range(3):
        evidence = evidence.see(sighting, POLICY, alone=True)
    assert evidence.compared.stable.traffic.requests > 1_000
    assert judge(evidence, POLICY, "v").outcome is Outcome.PASSED


def test_without_latencies_nobody_can_tell():
    random = np.random.default_rng(6)
    answered = side(random, 300)
    blind = Side(traffic=Traffic(requests=300), answers=answered.answers)
    evidence = Evidence().see(Sighting(stable=answered, canary=blind), POLICY)
    assert outcomes(judge(evidence, POLICY, "v"))["latency p50"] is Outcome.INCONCLUSIVE


def test_bets_outlive_a_step():
    suspicious = watched(looks=3, errors=0.05)
    assert suspicious.next_step().e_value("error rate") == suspicious.e_value("error rate")
    assert suspicious.next_step().seen.canary.traffic.requests == 0
