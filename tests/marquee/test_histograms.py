"""Histograms are compared as their values would be."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from marquee import histograms

BINS = 50


def binned(values):
    return np.bincount(histograms.bins_of(values, BINS), minlength=BINS)


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    return random.beta(2, 5, 400), random.beta(3, 4, 300)


def test_values_outside_are_in_the_end_bins():
    assert histograms.bins_of(np.array([-1.0, 0.0, 0.999, 1.0, 7.0]), 10).tolist() == [
        0,
        0,
        9,
        9,
        9,
    ]


def test_distances_are_those_of_the_values_but_for_the_bins(samples):
    first, second = samples
    counts = binned(first), binned(second)
    assert histograms.wasserstein(*counts) == pytest.approx(
        wasserstein_distance(first, second), abs=1 / BINS
    )
    assert histograms.kolmogorov(*counts) <= ks_2samp(first, second).statistic + 1e-9
    assert histograms.mean(counts[0]) == pytest.approx(first.mean(), abs=0.5 / BINS)
    assert histograms.deviation(counts[0]) == pytest.approx(first.std(), abs=0.5 / BINS)


def test_leading_axes_are_compared_one_by_one(samples):
    first, second = (binned(values) for values in samples)
    several = histograms.wasserstein(np.stack([first, second]), np.stack([first, first]))
    assert several[0] == 0
    assert several[1] == pytest.approx(histograms.wasserstein(second, first))


def test_an_empty_histogram_has_no_mean():
    assert np.isnan(histograms.mean(np.zeros(4, dtype=int)))


def test_coarser_bins_hold_the_same(samples):
    counts = binned(samples[0])
    assert histograms.coarsen(counts, 10).sum() == counts.sum()
    assert histograms.coarsen(counts, 10)[0] == counts[:5].sum()


def test_what_is_drawn_again_has_as_many_values(samples):
    counts = binned(samples[0])
    again = histograms.resample(counts, 20, np.random.default_rng(1))
    assert again.shape == (20, BINS)
    assert set(again.sum(axis=-1)) == {counts.sum()}
