"""The tests behind drift find what is there, and as rarely as they should what is not."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from marquee.histograms import bins_of
from monitoring import statistics

BINS = 100
RUNS = 200


def binned(values):
    return np.bincount(bins_of(values, BINS), minlength=BINS)


def random(seed=0):
    return np.random.default_rng(seed)


def test_a_move_is_measured_with_its_interval():
    draw = random()
    found = statistics.moved(
        binned(draw.beta(2, 5, 3000)), binned(draw.beta(2, 5, 3000) + 0.1), draw
    )
    assert found.effect == pytest.approx(0.1, abs=0.01)
    assert found.low < 0.1 < found.high
    assert found.p < 1e-6


def test_what_chance_adds_to_a_distance_is_taken_off():
    draw = random(1)
    pairs = [(binned(draw.beta(2, 5, 60)), binned(draw.beta(2, 5, 60))) for _ in range(RUNS)]
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    found = statistics.moved(first, second, draw)
    assert found.effect.mean() < 0.7 * statistics.wasserstein(first, second).mean()
    # A test at 5 % is wrong in 5 % at most.
    assert (found.p < 0.05).mean() <= 0.06


def test_hues_are_compared_around_the_circle():
    draw = random(2)
    reds = draw.normal(0.0, 0.02, 2000) % 1.0, draw.normal(0.03, 0.02, 2000) % 1.0
    found = statistics.turned(*(binned(side) for side in reds), draw)
    assert found.effect == pytest.approx(0.03, abs=0.005)


def test_shares_are_compared():
    found = statistics.shares([100, 100], [1000, 1000], [100, 150], [1000, 1000])
    assert found.effect.tolist() == pytest.approx([0.0, 0.05])
    assert found.p[0] == pytest.approx(1.0)
    assert found.p[1] < 0.01
    assert found.low[1] > 0


def test_shares_of_which_nothing_is_known_differ_by_nothing_known():
    assert statistics.shares(0, 100, 0, 100).p == 1.0


def test_a_mix_that_lost_a_kind_has_moved_by_its_share():
    counts = np.array([200, 300, 500])
    found = statistics.mix(counts, np.array([0, 300, 500]), random())
    assert found.effect == pytest.approx(0.2, abs=0.02)
    assert found.p < 1e-6
    assert statistics.mix(counts, counts, random()).p > 0.9


def scores(draw, count=4000, prior=0.2, step=1.5):
    labels = draw.random(count) < prior
    logits = draw.normal(size=count) * 1.2 + step * labels - 2
    return labels, 1 / (1 + np.exp(-logits))


def sides(labels, values):
    return binned(values[~labels]), binned(values[labels])


def test_average_precision_is_that_of_the_values():
    labels, values = scores(random(3))
    found = statistics.average_precision(*sides(labels, values), labels.mean())
    assert found == pytest.approx(average_precision_score(labels, values), abs=0.01)


def test_average_precision_does_not_follow_the_prior():
    some = [sides(*scores(random(4), 40_000, prior)) for prior in (0.1, 0.4)]
    values = [float(statistics.average_precision(*side, 0.2)) for side in some]
    assert values[0] == pytest.approx(values[1], abs=0.02)
    natural = [
        float(statistics.average_precision(*s, p)) for s, p in zip(some, (0.1, 0.4), strict=True)
    ]
    assert natural[1] > natural[0] + 0.2


def test_without_posters_of_a_genre_there_is_no_precision():
    assert np.isnan(statistics.average_precision(np.ones(BINS), np.zeros(BINS), 0.5))


def test_a_model_that_ranks_worse_is_found():
    def figure(negative, positive):
        return statistics.average_precision(negative, positive, np.array(0.2))

    good, bad, same = (
        sides(*scores(random(seed), step=step)) for seed, step in ((5, 2), (6, 1), (7, 2))
    )
    found = statistics.changed(figure, good, bad, random())
    assert found.high < 0
    assert found.p < 1e-6
    assert statistics.changed(figure, good, same, random()).p > 0.01


@pytest.mark.parametrize("temperature", [0.67, 1.0, 1.5])
def test_a_slope_is_that_of_a_logistic_regression(temperature):
    draw = random(8)
    logits = draw.normal(size=20_000) * 1.5 - 1
    labels = draw.random(20_000) < 1 / (1 + np.exp(-logits))
    values = 1 / (1 + np.exp(-logits / temperature))
    slope, error = statistics.slopes(*(side[np.newaxis] for side in sides(labels, values)))
    x = np.log(values / (1 - values)).reshape(-1, 1)
    wanted = LogisticRegression(C=1e6).fit(x, labels).coef_[0, 0]
    assert np.exp(slope[0]) == pytest.approx(wanted, rel=0.03)
    assert np.exp(slope[0]) == pytest.approx(temperature, rel=4 * error[0])


def test_one_that_differs_does_not_move_what_most_agree_on():
    gains = np.array([0.0, 0.01, -0.01, 0.02, 3.0, np.nan])
    found = statistics.agreed(gains, np.full(6, 0.05))
    assert abs(found.effect) < 0.05
    assert found.p > 0.5
    assert np.isnan(statistics.agreed(np.array([np.nan]), np.array([1.0])).effect)


def test_embeddings_are_told_apart_only_if_they_differ():
    draw = random(9)
    same, other = draw.normal(size=(2, 400, 64))
    assert statistics.told_apart(same, other, 0).p > 0.01
    moved = statistics.told_apart(same, other + 0.2, 0)
    assert moved.effect > 0.1
    assert moved.p < 1e-4


def test_the_area_is_that_of_the_values():
    draw = random(10)
    labels, values = scores(draw, 500)
    found = statistics._area(values[~labels], values[labels])
    assert found == pytest.approx(roc_auc_score(labels, values))
