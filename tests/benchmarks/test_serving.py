"""What is asked of our server beside others: each claim can fail."""

import dataclasses

import pytest

from benchmarks.serving import Comparison, Turn, claims

OURS, PEER, TORCH = "**marquee**", "a peer", "kserve.Model + torch"
GOOD = Turn(rate=100.0, p50_ms=10.0, p99_ms=14.0, cpu_seconds=0.02, memory_mb=110.0)


def compared(ours=GOOD, explain_ms=20.0):
    turns = {
        OURS: [ours],
        PEER: [dataclasses.replace(GOOD, memory_mb=100.0)],
        TORCH: [dataclasses.replace(GOOD, rate=20.0, memory_mb=90.0)],
    }
    explain = dataclasses.replace(GOOD, p50_ms=explain_ms)
    return Comparison(alone=turns, crowd=turns, loop=[0.016], explain=[explain])


def failing(found, architecture="custom_cnn", as_shipped=True):
    return [claim.what for claim in claims(found, architecture, as_shipped) if not claim.holds]


def test_what_is_good_enough_holds():
    assert failing(compared()) == []
    tie = dataclasses.replace(GOOD, rate=98.0, p50_ms=10.2)
    assert failing(compared(tie)) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"rate": 96.0}, "posters/s / best peer's (a tie counts)"),
        ({"p50_ms": 10.5}, "p50 / best peer's (a tie counts)"),
        ({"memory_mb": 121.0}, "memory / lightest peer's"),
        ({"p99_ms": 15.1}, "p99 at one client, ms"),
        ({"cpu_seconds": 0.022}, "own loop's share of the server's CPU"),
    ],
)
def test_each_claim_can_fail(changes, what):
    assert failing(compared(dataclasses.replace(GOOD, **changes))) == [what]


def test_ratios_are_those_of_turns_of_the_same_round():
    """In a round in which the machine is slow, all are: that is nobody's fault."""
    slow = dataclasses.replace(GOOD, rate=50.0, p50_ms=20.0, cpu_seconds=0.04)
    turns = {OURS: [GOOD, slow, slow], PEER: [GOOD, GOOD, slow]}
    found = Comparison(alone=turns, crowd=turns, loop=[0.016, 0.032, 0.032], explain=[slow])
    assert found.beside_peers("rate")[OURS] == 1.0
    assert found.beside_peers("p50_ms")[OURS] == 1.0
    assert found.loop_share[OURS] == pytest.approx(0.8)


def test_explaining_may_take_three_times_as_long():
    assert failing(compared(explain_ms=31.0)) == ["explaining / predicting"]


def test_four_times_torch_is_asked_of_what_is_shipped():
    slow = compared(dataclasses.replace(GOOD, rate=79.0))
    assert "posters/s / torch's" in failing(slow)
    assert "posters/s / torch's" not in failing(slow, as_shipped=False)


def test_vgg16_may_be_slower_and_has_to_have_less_beside_its_loop():
    slower = compared(dataclasses.replace(GOOD, p99_ms=99.0))
    assert failing(slower, "vgg16") == ["own loop's share of the server's CPU"]
