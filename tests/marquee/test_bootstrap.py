"""Bootstrap intervals, held against metrics computed on posters that were really drawn again."""

import numpy as np
import pytest

from marquee import bootstrap
from marquee.bootstrap import Ranking, _Prepared, intervals, resamples
from marquee.metrics import macro_map, score

GENRES = ("Comedy", "Horror", "Western")


def made_up(posters, seed=0, decimals=1):
    """Labels, probabilities with many ties, and choices."""
    random = np.random.default_rng(seed)
    labels = (random.random((posters, 3)) < (0.5, 0.3, 0.1)).astype(np.int8)
    scores = np.clip(random.random((posters, 3)) * 0.7 + labels * 0.3, 0, 1).round(decimals)
    return labels, scores, (scores >= 0.6).astype(np.int8)


@pytest.mark.parametrize("posters", [3, 40, 400])
def test_a_resample_scores_like_the_posters_it_stands_for(posters):
    labels, scores, chosen = made_up(posters)
    weights = next(resamples(np.arange(posters), seed=1))[:20]
    figures = _Prepared(labels, scores, chosen, GENRES).figures(weights)
    for n, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(posters), counts)
        expected = score(labels[drawn], scores[drawn], chosen[drawn], GENRES)
        for name in set(expected) - {"ece"}:
            assert figures[name][n] == pytest.approx(expected[name], abs=1e-5), name


def test_a_ranking_scores_the_posters_that_were_left_out_too():
    labels, scores, _ = made_up(60)
    drawn = next(resamples(np.arange(60), count=15))
    for weights in (drawn, drawn == 0):
        found = Ranking(labels, scores).macro_map(weights.astype(np.float32))
        for value, counts in zip(found, weights.astype(int), strict=True):
            rows = np.repeat(np.arange(60), counts)
            assert value == pytest.approx(macro_map(labels[rows], scores[rows]), abs=1e-5)


def test_every_metric_of_score_but_the_calibration_error_has_an_interval():
    labels, scores, chosen = made_up(60)
    found = intervals(labels, scores, chosen, GENRES, np.arange(60))
    values = score(labels, scores, chosen, GENRES)
    assert set(found) == set(values) - {"ece"}
    for name, (low, high) in found.items():
        assert 0 <= low <= values[name] <= high <= 1, name


def test_an_interval_is_as_wide_as_theory_says():
    labels = np.array([[1, 0], [0, 1]] * 200)
    scores = np.tile([0.8, 0.3], (400, 1))
    low, high = intervals(labels, scores, scores > 0.5, ("a", "b"), np.arange(400))["top1"]
    half = 1.96 * np.sqrt(0.5 * 0.5 / 400)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.008)


def test_posters_of_one_film_are_drawn_together():
    films = np.array([0, 1, 0, 2, 2])
    weights = next(resamples(films))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (weights[:, 0] != weights[:, 1]).any()


def test_two_posters_a_film_say_no_more_than_one():
    labels, scores, chosen = made_up(200)
    once = intervals(labels, scores, chosen, GENRES, np.arange(200))["top1"]
    twice = [np.repeat(values, 2, axis=0) for values in (labels, scores, chosen)]
    together = intervals(*twice, GENRES, np.repeat(np.arange(200), 2))["top1"]
    apart = intervals(*twice, GENRES, np.arange(400))["top1"]
    assert np.ptp(together) == pytest.approx(np.ptp(once), rel=0.15)
    assert np.ptp(apart) < 0.85 * np.ptp(once)


def test_the_same_posters_give_the_same_intervals(monkeypatch):
    labels, scores, chosen = made_up(50)
    first = intervals(labels, scores, chosen, GENRES, np.arange(50))
    assert intervals(labels, scores, chosen, GENRES, np.arange(50)) == first
    # However many resamples are held at a time.
    monkeypatch.setattr(bootstrap, "_CELLS", 1700)
    again = intervals(labels, scores, chosen, GENRES, np.arange(50))
    for name, ends in first.items():
        assert again[name] == pytest.approx(ends, abs=1e-6)


def test_a_genre_of_one_poster_has_an_interval_all_the_same():
    labels, scores, chosen = made_up(30)
    labels[:, 2] = 0
    labels[0, 2] = 1
    found = intervals(labels, scores, chosen, GENRES, np.arange(30))
    assert np.isfinite(found["ap/Western"]).all()
    assert np.isfinite(found["macro_map"]).all()
    labels[0, 2] = 0
    assert "ap/Western" not in intervals(labels, scores, chosen, GENRES, np.arange(30))


@pytest.mark.filterwarnings("error")
def test_resamples_without_any_genre_do_not_count():
    labels = np.zeros((10, 3), dtype=np.int8)
    labels[0, 0] = 1
    scores = np.tile(np.linspace(0.9, 0.1, 10)[:, None], 3)
    found = intervals(labels, scores, scores > 0.5, GENRES, np.arange(10))
    # Wherever the one poster is drawn, it comes first.
    assert found["macro_map"] == found["ap/Comedy"] == (1, 1)
    assert found["top1"][0] == 0
