import numpy as np
import pytest

from components.train.thresholds import calibrate, choose_thresholds


def _sample(count, slope, shift, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 1)).astype(np.float32)
    truth = random.random((count, 1)) < 1 / (1 + np.exp(-(slope * logits + shift)))
    return logits, truth.astype(np.float32)


def test_calibration_recovers_how_probabilities_were_bent():
    logits, labels = _sample(20_000, slope=2.0, shift=-1.0)
    calibration = calibrate(logits, labels)
    assert calibration.scale[0] == pytest.approx(2.0, abs=0.1)
    assert calibration.shift[0] == pytest.approx(-1.0, abs=0.1)
    probabilities = calibration.probabilities(logits)[:, 0]
    sure = probabilities > 0.8
    assert labels[sure, 0].mean() == pytest.approx(probabilities[sure].mean(), abs=0.02)


@pytest.mark.parametrize("labels", [np.zeros((50, 1)), np.ones((50, 1)), np.eye(50)[:, :1]])
def test_a_genre_without_evidence_keeps_the_sigmoid(labels):
    calibration = calibrate(np.random.default_rng(0).normal(size=(50, 1)), labels)
    assert (calibration.scale, calibration.shift) == ((1.0,), (0.0,))


def test_a_genre_whose_logits_mislead_keeps_the_sigmoid():
    logits, labels = _sample(500, slope=-3.0, shift=0.0)
    assert calibrate(logits, labels).scale == (1.0,)


def test_a_threshold_separates_what_is_separable():
    labels = np.repeat([[0.0], [1.0]], 200, axis=0)
    probabilities = np.where(labels > 0, 0.42, 0.18)
    (threshold,) = choose_thresholds(probabilities, labels)
    assert 0.18 < threshold <= 0.42


def test_few_positives_draw_a_threshold_to_the_common_one():
    random = np.random.default_rng(0)
    labels = np.zeros((1000, 2), dtype=np.float32)
    labels[:500, 0] = 1
    labels[:3, 1] = 1
    probabilities = random.uniform(0.0, 0.3, size=(1000, 2))
    probabilities[:500, 0] = random.uniform(0.3, 0.6, size=500)
    probabilities[:3, 1] = 0.93
    common, rare = choose_thresholds(probabilities, labels)
    assert rare < 0.5
    assert abs(rare - common) < 0.3


def test_a_genre_that_never_occurs_gets_the_common_threshold():
    labels = np.zeros((100, 2), dtype=np.float32)
    labels[:50, 0] = 1
    probabilities = np.tile(np.linspace(1, 0, 100)[:, None], 2)
    first, second = choose_thresholds(probabilities, labels)
    assert second == pytest.approx(first, abs=0.01)
