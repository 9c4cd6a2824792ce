"""Drift leads to training only with reason, once, and not too often."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from marquee.errors import InfrastructureError, UsageError
from marquee.settings import DriftSettings, RetrainSettings
from monitoring import retrain
from monitoring.causes import Cause
from monitoring.collect import Counted, Window
from monitoring.findings import Finding, Kind, State
from monitoring.report import DriftReport
from monitoring.retrain import (
    Status,
    _update,
    approve,
    conclude,
    consider,
    follow,
    read_requests,
    reject,
)

NOW = datetime(2026, 11, 10, tzinfo=UTC)
FREE = RetrainSettings(approval=False, cooldown_days=7, budget=2)


def cause(kind, what="average precision", genre="Horror", effect=-0.1):
    finding = Finding(
        kind=kind,
        what=what,
        genre=genre,
        threshold=0.05,
        effect=effect,
        low=effect - 0.05,
        high=effect + 0.05,
        before=0.5,
        after=0.5 + effect,
        p=1e-6,
        p_adjusted=1e-5,
        state=State.DRIFT,
    )
    return Cause(kind=kind, what=what, slices=(genre,) if genre else (), findings=(finding,))


def report(*causes, version="a" * 64):
    return DriftReport(
        window=Window(since=NOW - timedelta(days=1), until=NOW),
        version=version,
        genres=("Horror",),
        counted=Counted(
            records=1000,
            duplicates=0,
            failed=0,
            roles=(),
            labelled=1000,
            replayed=0,
            jumped=0,
            files=1,
        ),
        findings=tuple(finding for item in causes for finding in item.findings),
        causes=causes,
        examples=(),
        performance=(),
        past=(),
        truth="",
        settings=DriftSettings(),
    )


WORSE = report(cause(Kind.CONCEPT))
OTHER = report(cause(Kind.CONCEPT, "calibration", ""))


WAR = report(cause(Kind.CONCEPT, genre="War"))


class Launcher:
    """Starts nothing, and says what it is told to."""

    def __init__(self, fault=None):
        self.launched, self.fault = [], fault
        self.said = (Status.RUNNING, "")

    def start(self, request):
        if self.fault:
            raise self.fault
        self.launched.append(request)
        return f"run {len(self.launched)}"

    def state(self, request):
        return self.said


@pytest.fixture
def ask(tmp_path):
    launcher = Launcher()

    def ask(found=WORSE, settings=FREE, now=NOW, window=None):
        document = json.loads(found.to_json())
        document["until"] = window or str(now)
        return consider(document, str(tmp_path), settings, launcher, {"films": "20"}, now)

    ask.launcher, ask.out = launcher, str(tmp_path)
    return ask


@pytest.mark.parametrize(
    "found",
    [
        report(),
        report(cause(Kind.INPUT, "brightness", "")),
        report(cause(Kind.PRIOR, "frequency"), cause(Kind.PREDICTION, "probability")),
        report(cause(Kind.CONCEPT, effect=0.1)),
    ],
    ids=["no drift", "looks alone", "mix and predictions", "a model that does better"],
)
def test_without_reason_nothing_is_asked(ask, found):
    assert ask(found) is None
    assert ask.launcher.launched == []
    assert read_requests(ask.out) == []


def test_a_model_that_is_less_often_right_is_trained_again(ask):
    found = ask()
    assert (found.status, found.run) == (Status.RUNNING, "run 1")
    assert found.causes == ("average precision: Horror",)
    assert "recognised less well" in found.why
    assert read_requests(ask.out) == [found]


def test_with_approval_a_person_says_when(ask):
    settings = dataclasses.replace(FREE, approval=True)
    waiting = ask(settings=settings)
    assert (waiting.status, ask.launcher.launched) == (Status.WAITING, [])
    found = approve(ask.out, waiting.id, ask.launcher)
    assert (found.status, found.run) == (Status.RUNNING, "run 1")
    with pytest.raises(UsageError, match="is running"):
        approve(ask.out, waiting.id, ask.launcher)


def done(ask, request):
    conclude(ask.out, request.id, Status.DONE, "trained")


REFUSALS = {
    "one at a time": (OTHER, FREE, NOW + timedelta(hours=1), False, "one at a time"),
    "another genre of the same": (WAR, FREE, NOW + timedelta(days=9), True, "had the same"),
    "the same causes": (WORSE, FREE, NOW + timedelta(days=9), True, "had the same causes"),
    "cooldown": (OTHER, FREE, NOW + timedelta(days=3), True, "cooldown"),
    "budget": (
        OTHER,
        RetrainSettings(approval=False, cooldown_days=0, budget=1),
        NOW + timedelta(days=9),
        True,
        "the budget is 1",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_speaks_against_it_is_kept(ask, name):
    found, settings, now, ended, reason = REFUSALS[name]
    first = ask()
    if ended:
        done(ask, first)
    refused = ask(found, settings, now)
    assert refused.status is Status.REFUSED
    assert reason in refused.reason
    assert len(ask.launcher.launched) == 1
    assert [item.status for item in read_requests(ask.out)][1] is Status.REFUSED


def test_after_the_cooldown_there_may_be_another_one(ask):
    done(ask, ask())
    assert ask(OTHER, now=NOW + timedelta(days=8)).run == "run 2"


def test_another_month_has_another_budget(ask):
    settings = RetrainSettings(approval=False, cooldown_days=0, budget=1)
    done(ask, ask(settings=settings))
    assert ask(OTHER, settings, NOW + timedelta(days=25)).run == "run 2"


def test_the_next_model_may_have_the_same_causes(ask):
    done(ask, ask())
    new = report(cause(Kind.CONCEPT), version="b" * 64)
    assert ask(new, now=NOW + timedelta(days=8)).run == "run 2"


def test_a_training_that_cannot_be_started_is_noted_and_may_be_asked_for_again(ask):
    ask.launcher.fault = UsageError("there is no such pipeline")
    with pytest.raises(UsageError, match="no such pipeline"):
        ask()
    (kept,) = read_requests(ask.out)
    assert kept.status is Status.FAILED
    assert "could not be started: there is no such pipeline" in kept.reason
    ask.launcher.fault = None
    assert ask(now=NOW + timedelta(days=1)).status is Status.RUNNING


def test_if_nobody_is_there_to_start_it_the_next_call_does(ask):
    ask.launcher.fault = InfrastructureError("KFP is away")
    with pytest.raises(InfrastructureError, match="KFP is away"):
        ask()
    (kept,) = read_requests(ask.out)
    assert (kept.status, kept.run) == (Status.RUNNING, "")
    ask.launcher.fault = None
    follow(ask.out, ask.launcher)
    (kept,) = read_requests(ask.out)
    assert kept.run == "run 1"


def test_while_nobody_can_tell_how_a_run_goes_it_is_followed(ask, monkeypatch):
    def away(request):
        raise UsageError("the token has expired")

    ask()
    with monkeypatch.context() as patch:
        patch.setattr(ask.launcher, "state", away)
        with pytest.raises(UsageError, match="expired"):
            follow(ask.out, ask.launcher)
    (kept,) = read_requests(ask.out)
    assert kept.status is Status.RUNNING


def test_what_was_refused_is_asked_for_once_nothing_speaks_against_it(ask):
    done(ask, ask())
    early = ask(OTHER, now=NOW + timedelta(days=1), window="a day")
    assert early.status is Status.REFUSED
    late = ask(OTHER, now=NOW + timedelta(days=8), window="a day")
    assert late.status is Status.RUNNING
    assert [item.status for item in read_requests(ask.out)] == [Status.DONE, Status.RUNNING]


def test_refusals_push_no_request_out(ask, monkeypatch):
    monkeypatch.setattr(retrain, "_KEPT", 2)
    first = ask()
    for day in range(1, 5):
        ask(OTHER, now=NOW + timedelta(days=day))
    kept = read_requests(ask.out)
    assert kept[0] == first
    assert [item.status for item in kept[1:]] == [Status.REFUSED] * 2


def test_a_report_is_considered_once(ask):
    first = ask()
    again = ask()
    assert (again, len(read_requests(ask.out))) == (first, 1)


def test_what_a_run_has_come_to_is_noted(ask):
    ask()
    assert follow(ask.out, ask.launcher)[0].status is Status.RUNNING
    ask.launcher.said = (Status.DONE, "the challenger was promoted")
    follow(ask.out, ask.launcher)
    (kept,) = read_requests(ask.out)
    assert (kept.status, kept.reason) == (Status.DONE, "the challenger was promoted")
    assert follow(ask.out, ask.launcher) == []


def test_a_training_that_was_to_be_started_is_started(ask):
    first = ask()
    _update(ask.out, lambda known: [dataclasses.replace(known[0], run="")])  # killed before
    (found,) = follow(ask.out, ask.launcher)
    assert (found.id, found.run) == (first.id, "run 2")


def test_a_person_may_say_no(ask):
    waiting = ask(settings=dataclasses.replace(FREE, approval=True))
    found = reject(ask.out, waiting.id, "the labels were wrong")
    assert found.status is Status.REJECTED
    assert found.reason.startswith("the labels were wrong (")
    assert ask.launcher.launched == []


def test_a_request_that_nobody_made_is_named(ask):
    with pytest.raises(UsageError, match="there is no request nope"):
        conclude(ask.out, "nope", Status.DONE, "why")
