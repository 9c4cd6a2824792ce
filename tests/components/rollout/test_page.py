"""The page of a rollout, at any moment of it."""

import pytest

from components.rollout.page import rollout_page
from components.rollout.policy import Policy
from components.rollout.state import Model, Phase, State

CHECK = {
    "name": "errors",
    "outcome": "failed",
    "measured": "20.0% of 100, stable 0.0% of 900",
    "bound": "at most 1.0%",
    "blame": (),
    "remedy": "read the canary's log",
}
FAILED = {"outcome": "failed", "checks": [CHECK]}


def begun():
    state = State(
        rollout="r",
        phase=Phase.VALIDATE,
        stable=Model(version="a" * 64, uri="/a"),
        canary=Model(version="b" * 64, uri="/b"),
        policy=Policy(),
        started=100.0,
        since=100.0,
        looked=100.0,
    )
    return state.note(100.0, "begins")


def at_five():
    return begun().move(Phase.DARK, 101.0, "sound").move(Phase.STEP, 102.0, "no material", step=0)


def back(reason):
    return at_five().move(Phase.ROLL_BACK, 800.0, reason, reason=reason, verdict=FAILED)


PAGES = {
    "begun": (begun(), ["bbbbbbbbbbbb: validate.", "The canary&#39;s share"]),
    "step": (at_five(), ["bbbbbbbbbbbb gets 5 % of the traffic.", "no material", "seconds"]),
    "back": (back("it fails"), ["5 %: failed after 0:11:40", "read the canary", "minutes"]),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_tells_where_it_stands(name):
    state, texts = PAGES[name]
    page = rollout_page(state)
    for text in texts:
        assert text in page
    assert "nan" not in page
