import json

import pytest

from marquee.errors import DataError, DataGateFailed, Inconclusive, QualityGateFailed
from marquee.report import Lines, plot, render_verdict
from marquee.verdict import Check, Outcome, Severity, Verdict


def check(outcome, severity=Severity.CRITICAL, name="check", **changes):
    values = {"measured": "1", "bound": "2", "blame": ("p1",), "remedy": f"mend the {name}"}
    return Check(name=name, outcome=outcome, severity=severity, **values | changes)


def verdict(*outcomes, gate="quality"):
    checks = tuple(check(outcome, name=f"check {n}") for n, outcome in enumerate(outcomes))
    return Verdict(gate=gate, subject="a bundle", checks=checks)


P, F, U = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE
CRITICAL, WARNING, INFO = Severity


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


@pytest.mark.parametrize("outcome", [F, U], ids=str)
@pytest.mark.parametrize("severity", [WARNING, INFO], ids=str)
def test_only_a_critical_check_shuts_the_gate(severity, outcome):
    given = Verdict(gate="data", subject="x", checks=(check(outcome, severity),))
    assert given.outcome is P
    given.raise_unless_passed()


@pytest.mark.parametrize(
    ("checks", "sentence"),
    [
        ([check(P), check(P, WARNING)], "The data gate passed: all 2 checks hold."),
        ([check(P), check(F, WARNING, "blur")], "The data gate passed with 1 warning: blur."),
        (
            [check(F, WARNING, "blur"), check(F, WARNING, "bias"), check(F, INFO, "mode")],
            "The data gate passed with 2 warnings: blur; bias, and 1 note: mode.",
        ),
        (
            [check(F, name="ids"), check(F, WARNING, "blur")],
            "The data gate failed: ids: 1 (asked: 2; see p1). 1 warning: blur.",
        ),
        (
            [check(F, name="ids", blame=("a", "b", "c", "d"), blamed=1200)],
            "The data gate failed: ids: 1 (asked: 2; see a, b, c and 1,197 more).",
        ),
        ([check(U, name="ids", blame=())], "The data gate is inconclusive: ids: 1 (asked: 2)."),
    ],
    ids=["all hold", "warning", "warnings and note", "critical", "rows", "inconclusive"],
)
def test_the_sentence_names_what_does_not_hold(checks, sentence):
    assert Verdict(gate="data", subject="x", checks=tuple(checks)).sentence() == sentence


def test_the_error_says_what_to_do_about_critical_checks_only():
    checks = (check(F, name="ids"), check(F, WARNING, "blur"), check(P, name="rows"))
    with pytest.raises(DataGateFailed) as caught:
        Verdict(gate="data", subject="x", checks=checks).raise_unless_passed()
    assert caught.value.remedy == "mend the ids"


def test_people_and_machines_get_the_same_words():
    checks = (check(P, INFO), check(F, name="rows"), check(F, WARNING, "blur", blamed=7))
    given = Verdict(gate="data", subject="catalog 1", checks=checks)
    document = json.loads(given.to_json())
    assert document["sentence"] == given.sentence()
    assert [entry["severity"] for entry in document["checks"]] == ["info", "critical", "warning"]
    assert Verdict.from_json(given.to_json(), "here") == given
    page = render_verdict(given)
    for words in (given.sentence(), "mend the rows", "mend the blur", "p1 and 6 more"):
        assert words in page


VERSION_1 = """{
  "gate": "data",
  "subject": "catalog 5d1e",
  "checks": [
    {
      "name": "years are release years",
      "outcome": "failed",
      "measured": "2 of 40 break it",
      "bound": "at least 1,874 at most 2100",
      "blame": ["p0", "p1"],
      "remedy": "mend or remove these posters at their source and ingest again"
    }
  ],
  "created_at": "2026-11-20T10:00:00+00:00",
  "schema_version": 1,
  "outcome": "failed",
  "sentence": "The data gate failed."
}"""
"""What Marquee wrote before checks had severities."""


def test_a_verdict_of_version_1_is_read_as_critical():
    old = Verdict.from_json(VERSION_1, "here")
    assert (old.outcome, old.checks[0].severity) == (F, CRITICAL)
    assert old.checks[0].blame_text(1) == "p0 and 1 more"
    assert Verdict.from_json(old.to_json(), "here") == old


def test_a_newer_verdict_is_refused():
    newer = verdict(P).to_json().replace('version": 2', 'version": 3')
    with pytest.raises(DataError, match="schema_version 3"):
        Verdict.from_json(newer, "here")


def test_charts_have_round_ticks_that_hold_the_values():
    chart = Lines(
        title="t", x_label="epoch", y_label="y", x=(1, 2, 3), series={"a": (0.21, 0.4, 0.38)}
    )
    drawn = plot(chart)
    assert [label for _, label in drawn["x_ticks"]] == ["1", "2", "3"]
    assert drawn["y_ticks"][0][1] == "0.2"
    assert all(14 <= y <= 190 for _, y in drawn["lines"]["a"])
