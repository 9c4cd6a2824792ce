"""Calibration and thresholds: what they recover, and what few posters do to them."""

import numpy as np
import pytest

from components.train.thresholds import calibrate, choose_thresholds


def _sample(count, slope, shift, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 1)).astype(np.float32)
    truth = random.random((count, 1)) < 1 / (1 + np.exp(-(slope * logits + shift)))
    return logits, truth.astype(np.float32)


def _f1(labels, chosen):
    return 2 * (labels * chosen).sum() / (labels.sum() + chosen.sum())


def test_calibration_recovers_how_probabilities_were_bent():
    logits, labels = _sample(10_000, slope=2.0, shift=-1.0)
    calibration = calibrate(logits, labels)
    assert calibration.scale[0] == pytest.approx(2.0, abs=0.1)
    assert calibration.shift[0] == pytest.approx(-1.0, abs=0.1)
    probabilities = calibration.probabilities(logits)[:, 0]
    sure = probabilities > 0.8
    assert labels[sure, 0].mean() == pytest.approx(probabilities[sure].mean(), abs=0.02)


def test_a_calibrated_genre_is_as_frequent_as_its_probabilities_say():
    genres = [_sample(2_000, slope, shift, seed) for seed, (slope, shift) in
              enumerate([(0.5, -2.0), (1.0, 0.0), (2.0, -3.0)])]  # fmt: skip
    logits, labels = (np.hstack(columns) for columns in zip(*genres, strict=True))
    probabilities = calibrate(logits, labels).probabilities(logits)
    assert probabilities.mean(axis=0) == pytest.approx(labels.mean(axis=0), abs=2e-3)


@pytest.mark.parametrize(("count", "low", "high"), [(60, 0.6, 1.6), (5_000, 2.7, 3.3)])
def test_a_scale_leans_on_the_other_genres_until_it_has_posters_of_its_own(count, low, high):
    common = [_sample(count, 1.0, 0.0, seed) for seed in range(1, 12)]
    logits, labels = _sample(count, 3.0, -3.0)
    columns = [(logits, labels), *common]
    together = calibrate(*(np.hstack(part) for part in zip(*columns, strict=True)))
    assert low < together.scale[0] < high
    assert abs(calibrate(logits, labels).scale[0] - 3.0) < 1.5


@pytest.mark.parametrize("labels", [np.zeros((50, 1)), np.ones((50, 1)), np.eye(50)[:, :1]])
def test_a_genre_without_evidence_keeps_the_sigmoid(labels):
    calibration = calibrate(np.random.default_rng(0).normal(size=(50, 1)), labels)
    assert (calibration.scale, calibration.shift) == ((1.0,), (0.0,))


def test_a_genre_whose_logits_mislead_keeps_the_sigmoid():
    logits, labels = _sample(500, slope=-3.0, shift=0.0)
    assert calibrate(logits, labels).scale == (1.0,)


def test_genres_that_keep_the_sigmoid_leave_the_others_alone():
    logits, labels = _sample(500, slope=2.0, shift=-1.0)
    alone = calibrate(logits, labels)
    beside = calibrate(np.hstack([logits, logits]), np.hstack([labels, np.zeros_like(labels)]))
    assert beside.scale == pytest.approx((alone.scale[0], 1.0))
    assert beside.shift == pytest.approx((alone.shift[0], 0.0))


def test_logits_that_separate_a_genre_completely_calibrate_to_finite_numbers():
    logits = np.linspace(-50, 50, 200)[:, None]
    calibration = calibrate(logits, (logits > 0).astype(np.float32))
    assert np.isfinite([calibration.scale, calibration.shift]).all()
    assert ((calibration.probabilities(logits) > 0.5) == (logits > 0)).all()


def test_a_threshold_separates_what_is_separable():
    labels = np.repeat([[0.0], [1.0]], 200, axis=0)
    probabilities = np.where(labels > 0, 0.42, 0.18)
    (threshold,) = choose_thresholds(probabilities, labels)
    assert 0.18 < threshold <= 0.42


@pytest.mark.parametrize(("slope", "shift"), [(2.0, 0.0), (1.0, -2.0), (1.5, -4.0)])
def test_a_threshold_serves_f1_on_posters_it_has_not_seen(slope, shift):
    logits, labels = _sample(1_000, slope, shift)
    calibration = calibrate(logits, labels)
    (threshold,) = choose_thresholds(calibration.probabilities(logits), labels)
    unseen, truth = _sample(50_000, slope, shift, seed=1)
    probabilities = calibration.probabilities(unseen)
    best = max(_f1(truth, probabilities >= t) for t in np.arange(0.01, 0.99, 0.01))
    assert _f1(truth, probabilities >= threshold) > best - 0.01


def test_few_positives_draw_a_threshold_to_what_the_probabilities_promise():
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.0, 0.3, size=(1000, 2))
    probabilities[:3, 1] = 0.93
    labels = np.zeros((1000, 2), dtype=np.float32)
    labels[:3, 1] = 1
    never, rare = choose_thresholds(probabilities, labels)
    assert abs(rare - never) < 0.05


def test_a_genre_that_never_occurs_gets_half_the_f1_that_its_probabilities_promise():
    labels = np.zeros((100, 1), dtype=np.float32)
    probabilities = np.repeat([[0.8], [0.0]], 50, axis=0)
    # 50 posters chosen, 40 of them right, 40 there: F1 = 2 * 40 / (50 + 40).
    assert choose_thresholds(probabilities, labels) == (pytest.approx(40 / 90, abs=1e-4),)
