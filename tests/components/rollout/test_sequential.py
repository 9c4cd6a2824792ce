"""Bets may be looked at at any time: they rarely win against what is true."""

import numpy as np
import pytest

from components.rollout.sequential import Bets

ALPHA = 0.01


def first_alarm(random, rate, chance, trials):
    """Look after every trial; give when the e-value reaches 1 / ALPHA, or None."""
    bets = Bets()
    for trial in range(trials):
        bets = bets.see(int(random.random() < rate), 1, chance)
        if bets.value >= 1 / ALPHA:
            return trial + 1
    return None


@pytest.mark.parametrize("rate", [0.05, 0.02])
def test_a_true_hypothesis_is_seldom_rejected_however_often_one_looks(rate):
    random = np.random.default_rng(1)
    alarms = [first_alarm(random, rate, 0.05, 500) for _ in range(300)]
    assert sum(alarm is not None for alarm in alarms) <= 8  # 3 expected at most


def test_a_false_one_is_rejected_soon():
    random = np.random.default_rng(2)
    alarms = [first_alarm(random, 0.2, 0.02, 500) for _ in range(50)]
    assert all(alarm is not None for alarm in alarms)
    assert np.median(alarms) < 40


def test_what_goes_wrong_after_hours_is_found_as_well():
    random = np.random.default_rng(3)
    bets = Bets()
    for _ in range(2_000):
        bets = bets.see(int(random.binomial(10, 0.01)), 10, 0.02)
    assert bets.value < 1 / ALPHA
    looks = 0
    while bets.value < 1 / ALPHA and looks < 100:
        bets = bets.see(int(random.binomial(10, 0.3)), 10, 0.02)
        looks += 1
    assert looks <= 10


def test_an_e_value_begins_with_one():
    assert Bets().value == pytest.approx(1.0)


def test_what_was_written_down_is_read_as_it_was():
    bets = Bets().see(3, 5, 0.3)
    assert Bets(bets.looks, bets.logs) == bets


@pytest.mark.parametrize(("trials", "chance"), [(0, 0.5), (5, 0.0), (5, 1.0)])
def test_where_nothing_can_be_learnt_nothing_is_bet(trials, chance):
    assert Bets().see(0, trials, chance) == Bets()


def test_a_sure_thing_does_not_overflow():
    assert 1e300 < Bets().see(10**6, 10**6, 0.01).value < np.inf
