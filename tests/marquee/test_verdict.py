import json

import pytest

from marquee.errors import DataError, DataGateFailed, Inconclusive, QualityGateFailed
from marquee.report import Lines, plot, render_verdict
from marquee.verdict import Check, Outcome, Verdict


def verdict(*outcomes, gate="quality"):
    checks = tuple(
        Check(
            name=f"check {n}",
            outcome=outcome,
            measured="1",
            bound="2",
            blame=("p1",),
            remedy="mend",
        )
        for n, outcome in enumerate(outcomes)
    )
    return Verdict(gate=gate, subject="a bundle", checks=checks)


P, F, U = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("outcomes", "whole"), [((P, P), P), ((P, U), U), ((U, F), F), ((), P)], ids=str
)
def test_the_worst_check_decides(outcomes, whole):
    assert verdict(*outcomes).outcome is whole


@pytest.mark.parametrize(
    ("given", "error", "code"),
    [
        (verdict(F, gate="data"), DataGateFailed, 3),
        (verdict(F), QualityGateFailed, 4),
        (verdict(F, gate="drift"), QualityGateFailed, 4),
        (verdict(U), Inconclusive, 8),
    ],
)
def test_a_verdict_becomes_its_exit_code(given, error, code):
    with pytest.raises(error, match="check 0: 1") as caught:
        given.raise_unless_passed()
    assert caught.value.exit_code == code


def test_people_and_machines_get_the_same_words():
    given = verdict(P, F)
    document = json.loads(given.to_json())
    assert document["sentence"] == given.sentence()
    assert "check 1" in render_verdict(given)
    assert Verdict.from_json(given.to_json(), "here") == given


def test_a_newer_verdict_is_refused():
    with pytest.raises(DataError, match="schema_version 2"):
        Verdict.from_json(verdict(P).to_json().replace('version": 1', 'version": 2'), "here")


def test_charts_have_round_ticks_that_hold_the_values():
    chart = Lines(
        title="t", x_label="epoch", y_label="y", x=(1, 2, 3), series={"a": (0.21, 0.4, 0.38)}
    )
    drawn = plot(chart)
    assert [label for _, label in drawn["x_ticks"]] == ["1", "2", "3"]
    assert drawn["y_ticks"][0][1] == "0.2"
    assert all(14 <= y <= 190 for _, y in drawn["lines"]["a"])
